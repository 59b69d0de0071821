"""MXNet's parameter files, read without MXNet."""

import math
import struct
from pathlib import Path

import numpy as np

__all__ = ["is_mxnet_params", "read_mxnet_params"]

_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8", "?")
_MAX_DIMS = 32  # of numpy


def is_mxnet_params(path: Path) -> bool:
    """Whether the file begins as `NDArray.save` begins it."""
    with path.open("rb") as file:
        return file.read(8) == struct.pack("<Q", _MAGIC)


def read_mxnet_params(path: Path) -> dict[str, np.ndarray]:
    """Every array of a file that `mxnet.nd.save` or `mxnet.model.save_checkpoint` wrote.

    The file is little-endian: 0x112 and 0 as uint64, a uint64 count and the arrays, a uint64
    count and the names, each a uint64 length and UTF-8 text. An array is a mark of its version,
    the storage type (from version 2), the shape, the device, the element type, and the elements.
    Ahead of version 1 there is no mark: the first word is the number of dimensions, and these
    are uint32, where later versions have int64.

    Returns:
        By name, such as 'arg:conv1a_weight' or 'aux:bn7_moving_mean'; read-only views of what
        has been read.

    Raises:
        ValueError: it is no such file, it ends too early or goes on, an array is sparse or empty,
            or the arrays have no names.
    """
    file = _File(path)
    if file.number("<Q") != _MAGIC:
        raise file.error("it does not begin with 0x112")
    file.number("<Q")
    arrays = [file.array() for _ in range(file.number("<Q"))]
    names = [file.name() for _ in range(file.number("<Q"))]
    if file.at != len(file.data):
        raise file.error("something follows the names")
    if len(set(names)) != len(arrays) or len(names) != len(arrays):
        raise file.error(f"it has {len(arrays)} arrays, but {len(set(names))} different names")
    return dict(zip(names, arrays, strict=True))


class _File:
    """The bytes of a file, and where reading has come to; nothing is read beyond the end."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def error(self, reason: str) -> ValueError:
        return ValueError(
            f"{self.path} is not a whole MXNet parameter file: {reason} (at byte {self.at})"
        )

    def skip(self, length: int) -> int:
        """Where the next `length` bytes begin."""
        begin = self.at
        if length > len(self.data) - begin:
            raise self.error(f"it ends {length - len(self.data) + begin} bytes too early")
        self.at += length
        return begin

    def number(self, fmt: str) -> int:
        (value,) = struct.unpack_from(fmt, self.data, self.skip(struct.calcsize(fmt)))
        return int(value)

    def name(self) -> str:
        length = self.number("<Q")
        begin = self.skip(length)
        try:
            return self.data[begin : begin + length].decode("utf-8")
        except UnicodeDecodeError:
            raise self.error("a name is not UTF-8 text") from None

    def array(self) -> np.ndarray:
        mark = self.number("<I")
        if mark in (_V2, _V3) and self.number("<i") != 0:
            raise self.error("an array is sparse, which is not supported")
        versioned = mark in (_V1, _V2, _V3)
        dims = self.number("<i") if versioned else mark
        if not 0 <= dims <= _MAX_DIMS or (dims == 0 and mark != _V3):
            raise self.error(f"an array has {dims} dimensions")
        shape = tuple(self.number("<q" if versioned else "<I") for _ in range(dims))
        if min(shape, default=1) < 1:
            raise self.error(f"an array has the shape {shape}")
        self.skip(8)  # the device it was on
        kind = self.number("<i")
        if not 0 <= kind < len(_DTYPES):
            raise self.error(f"an array's element type is {kind}")
        dtype, count = np.dtype(_DTYPES[kind]), math.prod(shape)
        begin = self.skip(count * dtype.itemsize)
        return np.frombuffer(self.data, dtype, count, begin).reshape(shape)
