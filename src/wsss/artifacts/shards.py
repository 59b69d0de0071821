"""Files of many images, packed: a folder of some zip files (shards) and an index of them.

A path of a file stays what it is: where data/cams is packed, data/cams/a.npz is read from the shard
that has it. All that reads a file of an image opens it with `open_file`, asks for it with
`has_file` and lists a folder with `file_names`, and so knows nothing of shards.

A shard is a zip file without compression, its members sorted and of one date, so that the same
files give the same bytes. Which shard a file belongs to follows from the name of its image alone,
so no list of names has to be read, and another image changes one shard. The index,
shards.json, has the number of shards and, once all are there, the size and SHA-256 of each.

A file that lies in the folder by itself goes before one of the same name in a shard: it is newer.
"""

import hashlib
import os
import shlex
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wsss.artifacts.files import atomic_path, is_of_the_system, read_json
from wsss.commands import has_dvc

__all__ = [
    "INDEX",
    "PER_SHARD",
    "ShardError",
    "check_shards",
    "file_names",
    "has_file",
    "members",
    "open_file",
    "read_bytes",
    "recorded_hashes",
    "shard_count",
    "shard_file",
    "shard_of",
    "write_shard",
]

INDEX = "shards.json"
"""The index of a packed folder."""

PER_SHARD = 1000
"""Files that a shard has at least, on average; it has less than twice as many."""

_OF_IMAGES = (".jpg", ".npz", ".png")  # what files of images are called
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can have
_HEADER = 30  # bytes before the name of a member; its lengths are at 26 and 28


class ShardError(ValueError):
    """A shard is damaged or missing; the text names it and what to run."""


def shard_count(files: int) -> int:
    """How many shards so many files have: a power of two, so that few images more change nothing.

    Example:
        >>> [shard_count(files) for files in (0, 1999, 2000, 200_000)]
        [1, 1, 2, 128]
    """
    return 1 << max(0, (files // PER_SHARD).bit_length() - 1)


def shard_of(name: str, count: int) -> int:
    """The number of the shard, of so many, that the files of an image belong to.

    Args:
        name: of the image.
        count: of shards.
    """
    return _hash(name) % count


def shard_file(number: int) -> str:
    """The name of a shard's file.

    Example:
        >>> shard_file(7)
        '00007.zip'
    """
    return f"{number:05}.zip"


def open_file(path: Path) -> BinaryIO:
    """Open a file of an image to read it, whether it lies by itself or in a shard.

    Raises:
        FileNotFoundError: there is neither.
        ShardError: the shard is damaged.
    """
    try:
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        shard, name = _place(path)
        data = None if shard is None else shard.read(name)
        if data is None:
            raise
        return BytesIO(data)


def read_bytes(path: Path) -> bytes:
    """What `open_file` opens, whole."""
    with open_file(path) as file:
        return file.read()


def has_file(path: Path) -> bool:
    """Whether there is a file of an image, by itself or in a shard."""
    if path.is_file():
        return True
    shard, name = _place(path)
    return shard is not None and shard.find(name) is not None


def file_names(folder: Path) -> list[str]:
    """The files of images in a folder, sorted, in shards or not, each below the folder.

    What a stage keeps beside them, such as .json, is left out.
    """
    names = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if _is_of_image(path)
    }
    index = _index(folder)
    if index is not None:
        for number in range(index.count):
            names.update(members(folder / shard_file(number)))
    return sorted(names)


def members(shard: Path) -> list[str]:
    """The files in a shard, sorted; none where it is not there.

    Raises:
        ShardError: it is damaged.
    """
    if not shard.exists():
        return []
    try:
        with zipfile.ZipFile(shard) as packed:
            return sorted(packed.namelist())
    except Exception as error:  # damage inside an archive surfaces as almost any type
        raise _damaged(shard, error) from None


def write_shard(shard: Path, names: Collection[str]) -> tuple[int, str]:
    """Write a shard of files in its folder, each by itself or in the shard as it was.

    Args:
        shard: the file, which is replaced at once.
        names: of the files below its folder.

    Returns:
        Its size in bytes and its SHA-256.
    """
    folder = shard.parent
    with atomic_path(shard) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as packed:
            for name in sorted(names):
                member = zipfile.ZipInfo(name, _DATE)
                member.create_system = 3  # Unix, on whichever system this is
                packed.writestr(member, read_bytes(folder / name))
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = temporary.stat().st_size
    return size, digest


def recorded_hashes(folder: Path) -> dict[Path, str]:
    """SHA-256 by shard, of a folder and all below it, of shards with the size that is recorded.

    Such a shard need not be read to know what it holds.
    """
    found = {}
    for path in folder.rglob(INDEX) if folder.is_dir() else ():
        index = _index(path.parent)
        for name, recorded in (index.shards if index else {}).items():
            shard = path.parent / name
            if shard.exists() and shard.stat().st_size == recorded["bytes"]:
                found[shard] = recorded["sha256"]
    return found


def check_shards(folder: Path) -> None:
    """Raise ShardError unless all shards of a folder have the sizes that are recorded."""
    index = _index(folder)
    for name, recorded in (index.shards if index else {}).items():
        _known(folder / name, recorded)


@dataclass(frozen=True)
class _Index:
    """What an index says: how many shards there are and, of those that are finished, each."""

    count: int
    shards: Mapping[str, Mapping[str, Any]]


def _index(folder: Path) -> _Index | None:
    """The index of a packed folder; None of any other."""
    path = folder / INDEX
    try:
        known = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _read_index(path, known.st_size, known.st_mtime_ns, known.st_ino)


@lru_cache(maxsize=64)
def _read_index(path: Path, size: int, modified: int, inode: int) -> _Index:
    del size, modified, inode  # a file that replaced it has others
    values = read_json(path)
    try:
        return _Index(int(values["count"]), values.get("shards", {}))
    except (KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"{path} is no index of shards: {error!r}; {_way_out(path)}") from None


def _place(path: Path) -> "tuple[_Shard | None, str]":
    """The shard that a file belongs to, and its name in it; no shard in a folder without any."""
    for folder in path.parents:
        index = _index(folder)
        if index is None:
            continue
        name = path.relative_to(folder).as_posix()
        shard = folder / shard_file(shard_of(name.rpartition(".")[0], index.count))
        known = _known(shard, index.shards.get(shard.name))
        if known is None:  # it is not packed yet
            return None, name
        return _read_shard(shard, known.st_size, known.st_mtime_ns, known.st_ino), name
    return None, ""


def _known(shard: Path, recorded: Mapping[str, Any] | None) -> os.stat_result | None:
    """What the system knows of a shard; None of one that is neither recorded nor there.

    Raises:
        ShardError: it is not as it is recorded.
    """
    try:
        known = shard.stat()
    except FileNotFoundError:
        if recorded is None:
            return None
        raise ShardError(f"{shard} is missing; {_way_out(shard)}") from None
    if recorded is not None and known.st_size != recorded["bytes"]:
        raise ShardError(
            f"{shard} is cut short, or was changed: it has {known.st_size} bytes, and had "
            f"{recorded['bytes']} when it was made; {_way_out(shard)}"
        )
    return known


@lru_cache(maxsize=4096)
def _read_shard(path: Path, size: int, modified: int, inode: int) -> "_Shard":
    del size, modified, inode
    return _Shard(path)


class _Shard:
    """Where the members of a shard lie in it: 24 bytes for each, however long their names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as packed:
                rows = [
                    (_hash(item.filename), item.header_offset, item.file_size, item.CRC)
                    for item in packed.infolist()
                ]
            kinds = [("key", "u8"), ("at", "u8"), ("size", "u4"), ("crc", "u4")]
            self._rows = np.array(rows, kinds)
        except Exception as error:  # damage inside an archive surfaces as almost any type
            raise _damaged(path, error) from None
        self._rows.sort(order="key")

    def find(self, name: str) -> int | None:
        """The row of a member."""
        key = np.uint64(_hash(name))
        row = int(np.searchsorted(self._rows["key"], key))
        return row if row < len(self._rows) and self._rows["key"][row] == key else None

    def read(self, name: str) -> bytes | None:
        """What a member holds; None where there is none of that name."""
        row = self.find(name)
        if row is None:
            return None
        _, at, size, crc = self._rows[row].item()
        length = len(name.encode("utf-8")) + size
        # opened for each read: so it may be read by threads and by processes that were forked
        with self.path.open("rb") as file:
            file.seek(at)
            header = file.read(_HEADER)
            extra = int.from_bytes(header[28:30], "little")
            held = file.read(length + extra)
        data = held[len(held) - size :] if size else b""
        if len(header) + len(held) < _HEADER + length + extra or zlib.crc32(data) != crc:
            raise _damaged(self.path, f"'{name}' in it is damaged")
        return data


def _hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _is_of_image(path: Path) -> bool:
    return path.suffix in _OF_IMAGES and path.is_file()


def _damaged(shard: Path, reason: object) -> BaseException:
    """The error of a shard that cannot be read."""
    if isinstance(reason, BaseException) and is_of_the_system(reason):
        return reason
    return ShardError(f"{shard} is no whole shard: {reason}; {_way_out(shard)}")


def _way_out(path: Path) -> str:
    folder = path.parent
    made = next(
        (part for part in (folder, *folder.parents) if part.name.endswith(".partial")), None
    )
    if made is not None:
        return f"remove {path}, and run the stage that makes it again"
    anew = f"remove {folder} and run the stage that makes it"
    if not has_dvc(Path()):
        return anew
    checkout = f"dvc checkout --force {shlex.quote(str(folder))}"
    return f"run `{checkout}`, or, where DVC has no copy of it, {anew}"
