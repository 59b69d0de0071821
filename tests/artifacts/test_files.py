from pathlib import Path

import pytest

from wsss.artifacts import atomic_path, read_json, write_json


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
