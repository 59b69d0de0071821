import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wsss.artifacts import (
    ScoreMap,
    atomic_path,
    read_json,
    write_json,
    write_label_png,
    write_score_map,
)


def test_file_appears_only_after_the_block(tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "é.bin"
    with atomic_path(out) as temporary:
        temporary.write_bytes(b"whole")
        assert not out.exists()
        assert temporary.parent == out.parent  # a rename within one file system is atomic
    assert out.read_bytes() == b"whole"
    assert list(out.parent.iterdir()) == [out]


def test_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    out = tmp_path / "file"
    out.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"), atomic_path(out) as temporary:
        temporary.write_bytes(b"ha")
        raise OSError("disk full")
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_read_only_link_into_a_cache_is_replaced_not_written_through(tmp_path: Path) -> None:
    cached = tmp_path / "cached"
    cached.write_bytes(b"cache")
    out = tmp_path / "out"
    out.symlink_to(cached)
    with atomic_path(out) as temporary:
        temporary.write_bytes(b"new")
    assert (out.read_bytes(), cached.read_bytes()) == (b"new", b"cache")


def test_json_is_sorted_readable_and_strict(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": ["é"]})
    assert path.read_text(encoding="utf-8") == '{\n  "a": [\n    "é"\n  ],\n  "b": 1\n}\n'
    assert read_json(path) == {"b": 1, "a": ["é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path) == {"b": 1, "a": ["é"]}


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00"])
def test_bad_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json is not valid JSON"):
        read_json(path)


WRITERS: dict[str, Callable[[Path], None]] = {
    ".npz": lambda path: write_score_map(
        path, ScoreMap(np.array([1], np.uint8), np.ones((1, 2, 2), np.float32), (2, 2), np.ones(1))
    ),
    ".png": lambda path: write_label_png(path, np.zeros((2, 2), np.uint8)),
    ".jpg": lambda path: _copied(path),
    ".json": lambda path: write_json(path, {}),
}


def _copied(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"image")


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_longest_name_of_a_file_is_written(suffix: str, tmp_path: Path) -> None:
    """No temporary name is longer than the final one."""
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    path = tmp_path / ("n" * (longest - len(suffix)) + suffix)
    WRITERS[suffix](path)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_temporary_names_are_those_that_are_swept(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a") as first, atomic_path(tmp_path / "b") as other:
        first.touch()
        other.touch()
        assert {first, other} == set(tmp_path.rglob(".*.tmp"))


def test_json_holds_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"k\xe4tzchen \xff")
    write_json(tmp_path / "a.json", {name: [name]})
    assert read_json(tmp_path / "a.json") == {name: [name]}


@pytest.mark.parametrize("name", ["a", "ä" * 120 + ".png", "x" * 255])
def test_no_temporary_name_is_too_long_where_the_final_one_is_not(
    tmp_path: Path, name: str
) -> None:
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("whole")
        assert len(os.fsencode(temporary.name)) < 40
        assert temporary.name.startswith(".") and temporary.name.endswith(".tmp")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_that_are_not_utf8_are_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_error_of_the_disk_names_the_file(tmp_path: Path) -> None:
    said = r"No space left on device: '.*/a\.npz'$"
    with pytest.raises(OSError, match=said), atomic_path(tmp_path / "a.npz"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(ValueError, match="other"), atomic_path(tmp_path / "a.npz"):
        raise ValueError("other")
