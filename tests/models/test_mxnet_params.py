"""MXNet's parameter files, written here from the description of the format, and broken ones."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss.models.mxnet_params import is_mxnet_params, read_mxnet_params

VERSIONS = [0, 1, 2, 3]
MARKS = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}
KINDS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
ARRAYS = {
    "arg:conv_weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) - 7,
    "arg:half": np.array([1.5, -2], np.float16),
    "aux:größe": np.array([[2**40, -1]], np.int64),
}


def record(array: np.ndarray, version: int) -> bytes:
    shape = "I" if version == 0 else "q"
    out = struct.pack("<I", MARKS[version]) if version else b""
    if version >= 2:
        out += struct.pack("<i", 0)  # dense
    out += struct.pack(f"<I{array.ndim}{shape}", array.ndim, *array.shape)
    out += struct.pack("<ii", 1, 0)  # CPU 0
    out += struct.pack("<i", KINDS[str(array.dtype)])
    return out + array.astype(array.dtype.newbyteorder("<")).tobytes()


def mxnet_file(arrays: dict[str, np.ndarray], version: int) -> bytes:
    out = struct.pack("<QQQ", 0x112, 0, len(arrays))
    out += b"".join(record(array, version) for array in arrays.values())
    out += struct.pack("<Q", len(arrays))
    for name in arrays:
        text = name.encode("utf-8")
        out += struct.pack("<Q", len(text)) + text
    return out


def read(content: bytes, folder: Path) -> dict[str, np.ndarray]:
    path = folder / "weights.params"
    path.write_bytes(content)
    return read_mxnet_params(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_round_trip(version: int, tmp_path: Path) -> None:
    found = read(mxnet_file(ARRAYS, version), tmp_path)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert is_mxnet_params(tmp_path / "weights.params")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_truncation_is_an_error(version: int, tmp_path: Path) -> None:
    content = mxnet_file(ARRAYS, version)
    for length in range(len(content)):
        with pytest.raises(ValueError, match="not a whole MXNet parameter file"):
            read(content[:length], tmp_path)


@given(data=st.data(), version=st.sampled_from(VERSIONS))
def test_changed_bytes_are_read_or_refused(
    data: st.DataObject, version: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(mxnet_file(ARRAYS, version))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(content), tmp_path_factory.mktemp("fuzz"))
    except ValueError:
        return
    assert len(found) == len(ARRAYS)
    assert sum(item.nbytes for item in found.values()) <= len(content)


@given(content=st.binary(max_size=200))
def test_other_files_are_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ValueError, match="not a whole MXNet parameter file"):
        read(struct.pack("<QQ", 0x112, 0) + content + b"x", tmp_path_factory.mktemp("fuzz"))
    with pytest.raises(ValueError, match="not a whole MXNet parameter file"):
        read(content, tmp_path_factory.mktemp("fuzz"))


def one_array(head: bytes) -> bytes:
    return struct.pack("<QQQ", 0x112, 0, 1) + head


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (struct.pack("<QQQ", 0x113, 0, 0), "does not begin with 0x112"),
        (mxnet_file(ARRAYS, 2) + b"\0", "something follows the names"),
        (one_array(struct.pack("<Ii", MARKS[2], 1)), "sparse"),
        (one_array(struct.pack("<I", 0)), "0 dimensions"),
        (one_array(struct.pack("<Ii", MARKS[1], -1)), "-1 dimensions"),
        (one_array(struct.pack("<Iiq", MARKS[1], 1, -4)), r"shape \(-4,\)"),
        (one_array(struct.pack("<IIiii", 1, 2, 1, 0, 99)), "element type is 99"),
        (one_array(record(np.zeros(2, np.float32), 1)) + bytes(8), "1 arrays, but 0"),
        (one_array(struct.pack("<Iiqqiii", MARKS[1], 2, 2**62, 2**62, 1, 0, 0)), "too early"),
    ],
)
def test_what_is_wrong_is_said(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        read(content, tmp_path)


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    content = mxnet_file({"a": np.zeros(1, np.int8), "b": np.zeros(1, np.int8)}, 2)
    assert content.endswith(b"b")
    with pytest.raises(ValueError, match="2 arrays, but 1 different names"):
        read(content[:-1] + b"a", tmp_path)
