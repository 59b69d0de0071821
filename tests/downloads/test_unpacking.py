"""Archives that climb out, are cut, or hold what is no file."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from wsss.downloads.unpacking import unpack

MOST = 10_000


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_unpacked(mode, pack, tmp_path):
    folder = special("set/images", tarfile.DIRTYPE)
    (tmp_path / "a").write_bytes(
        pack((folder, b""), ("set/images/ä 1.jpg", b"1"), ("./set/list.txt", b"2"), mode=mode)
    )
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "a", tmp_path / "out", MOST)
    assert (tmp_path / "out/set/images/ä 1.jpg").read_bytes() == b"1"
    assert (tmp_path / "out/set/list.txt").read_bytes() == b"2"


BAD_NAMES = {
    "../evil": "leads out of the folder",
    "a/../../evil": "leads out of the folder",
    "/evil": "absolute path",
    "..\\evil": "leads out of the folder",
    "C:\\evil": "absolute path",
    "\\\\server\\share\\evil": "absolute path",
}


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_member_outside_of_the_folder_is_refused(name, kind, pack, tmp_path):
    path, inside = tmp_path / "a", tmp_path / "deep/er/out"
    inside.mkdir(parents=True)
    if kind == "tar":
        path.write_bytes(pack(("fine.txt", b"1"), (name, b"evil")))
    else:
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("fine.txt", b"1")
            packed.writestr(name, b"evil")
    with pytest.raises(ValueError, match=BAD_NAMES[name]):
        unpack(path, inside, MOST)
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/evil").exists()


SPECIAL = {
    "a symbolic link": special("link", tarfile.SYMTYPE, "/etc"),
    "a link within": special("link", tarfile.SYMTYPE, "fine.txt"),
    "a hard link": special("link", tarfile.LNKTYPE, "fine.txt"),
    "a character device": special("null", tarfile.CHRTYPE),
    "a block device": special("disk", tarfile.BLKTYPE),
    "a pipe": special("pipe", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_links_and_devices_are_refused(kind, pack, tmp_path):
    (tmp_path / "a").write_bytes(pack(("fine.txt", b"1"), (SPECIAL[kind], b"")))
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="is a link or a device"):
        unpack(tmp_path / "a", tmp_path / "out", MOST)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fine.txt"]


def test_a_link_in_a_zip_is_refused_and_the_rest_unpacked(tmp_path):
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("set/a.txt", b"1")
    (tmp_path / "out").mkdir()
    unpack(path, tmp_path / "out", MOST)
    assert (tmp_path / "out/set/a.txt").read_bytes() == b"1"
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(link, "/etc")
    with pytest.raises(ValueError, match="'link' is a link"):
        unpack(path, tmp_path / "out", MOST)
    assert not (tmp_path / "out/link").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("left", [0.3, 0.5])
def test_a_tar_that_is_cut_off_is_told(mode, left, pack, tmp_path):
    whole = pack(("a.txt", bytes(range(256)) * 20), ("b.txt", bytes(range(256)) * 19), mode=mode)
    (tmp_path / "a").write_bytes(whole[: int(left * len(whole))])
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="is broken or cut off"):
        unpack(tmp_path / "a", tmp_path / "out", MOST)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_tar_without_its_last_bytes_is_told(mode, pack, tmp_path):
    """All files are there, but not the checksum at the end."""
    (tmp_path / "a").write_bytes(pack(("a.txt", b"1"), mode=mode)[:-3])
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="is broken or cut off"):
        unpack(tmp_path / "a", tmp_path / "out", MOST)


def test_a_tar_with_a_zip_in_it_is_a_tar(pack, tmp_path):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        packed.writestr("inner.txt", b"1")
    (tmp_path / "a").write_bytes(pack(("outer.zip", held.getvalue()), mode="w"))
    unpack(tmp_path / "a", tmp_path, MOST)
    assert (tmp_path / "outer.zip").is_file() and not (tmp_path / "inner.txt").exists()


def test_a_zip_with_a_flipped_bit_is_told(tmp_path):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        packed.writestr("a.txt", b"A" * 500)
    spoilt = held.getvalue().replace(b"AAAA", b"ABAA", 1)
    (tmp_path / "a").write_bytes(spoilt)
    with pytest.raises(ValueError, match="is broken or cut off"):
        unpack(tmp_path / "a", tmp_path, MOST)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_what_is_no_archive_is_told(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="is broken or cut off"):
        unpack(tmp_path / "a", tmp_path, MOST)


def test_an_archive_that_grows_without_end_is_stopped(pack, tmp_path):
    (tmp_path / "a").write_bytes(pack(("a.txt", bytes(9_000)), ("b.txt", bytes(9_000))))
    with pytest.raises(ValueError, match=r"'b\.txt' makes more than 10000 bytes"):
        unpack(tmp_path / "a", tmp_path, MOST)
    assert not (tmp_path / "b.txt").exists()
