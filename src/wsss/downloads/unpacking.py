"""Archives unpacked so that nothing but files and folders appears, and none outside of a folder."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from wsss.artifacts import is_of_the_system

__all__ = ["unpack"]

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
)


_BLOCK = 2**20  # bytes that are read at once


@dataclass(frozen=True)
class _Member:
    """What an archive has, by its header: a path, bytes, and whether it is a file or a folder."""

    name: str
    size: int
    is_plain: bool
    handle: Any


def unpack(archive: Path, folder: Path, most: int) -> None:
    """Unpack a tar, compressed or not, or a ZIP archive.

    Args:
        archive: the file.
        folder: where to; what was unpacked before an error stays, so let it be one to throw away.
        most: bytes, above which it is not unpacked: more than it may hold.

    Raises:
        ValueError: it is broken, cut off, larger than it should be, or has a member that would
            lie outside of the folder, or is a link or a device.
        OSError: the disk is full, or cannot be written.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ValueError("this Python unpacks no archives safely; install 3.11.4 or a later one")
    done = 0
    try:
        if _is_zip(archive):
            with zipfile.ZipFile(archive) as packed:
                for member in _zip_members(packed):
                    done = _checked(archive, member, done, most)
                    packed.extract(member.handle, folder)
        else:
            with tarfile.open(archive) as tar:
                for member in _tar_members(tar):
                    done = _checked(archive, member, done, most)
                    tar.extract(member.handle, folder, filter="data")
                while tar.fileobj is not None and tar.fileobj.read(_BLOCK):
                    pass  # up to the checksum that gzip and xz have at their end
    except tarfile.FilterError as error:
        raise ValueError(f"{archive} is not unpacked: {error}") from None
    except _BROKEN as error:
        if is_of_the_system(error):
            raise
        raise ValueError(f"{archive} is broken or cut off ({error})") from None


def _is_zip(archive: Path) -> bool:
    """By its first bytes: a tar may end as a ZIP archive does, with one in it."""
    with archive.open("rb") as file:
        return file.read(4) in (b"PK\3\4", b"PK\5\6")


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for item in tar:
        yield _Member(item.name, item.size, item.isreg() or item.isdir(), item)


def _zip_members(packed: zipfile.ZipFile) -> Iterator[_Member]:
    for item in packed.infolist():
        kind = stat.S_IFMT(item.external_attr >> 16)  # 0 where it was not packed on Unix
        plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
        yield _Member(item.orig_filename, item.file_size, plain, item)


def _checked(archive: Path, member: _Member, done: int, most: int) -> int:
    """The bytes that are unpacked with a member. Raises ValueError for one that must not be."""
    windows, posix = PureWindowsPath(member.name), PurePosixPath(member.name)
    wrong = ""
    if windows.drive or windows.root or posix.is_absolute():
        wrong = "is an absolute path"
    elif ".." in windows.parts or "\0" in member.name:
        wrong = "leads out of the folder"
    elif not member.is_plain:
        wrong = "is a link or a device, and no file"
    elif done + member.size > most:
        wrong = f"makes more than {most} bytes of it, which is more than it may hold"
    if wrong:
        raise ValueError(f"{archive} is not unpacked: its member {member.name[:200]!r} {wrong}")
    return done + member.size
