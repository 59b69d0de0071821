"""Hashes of settings and of what files and folders hold."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from wsss.artifacts.files import settled
from wsss.artifacts.shards import has_file, read_bytes, recorded_hashes
from wsss.settings import Settings
from wsss.sources import held

__all__ = ["contents", "fingerprint"]


def fingerprint(*values: Any, files: Iterable[Path] = ()) -> str:
    """A hash of plain values (anything JSON can hold) and of the contents of files or folders.

    Among the values may be settings; the files that these name count with their contents, and not
    with the place where a machine has them.

    Example:
        >>> fingerprint({"a": 1}) == fingerprint({"a": 1}), fingerprint(1) == fingerprint(2)
        (True, False)
    """
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=_plain).encode())
    for path in files:
        digest.update(contents(path).encode())
    return digest.hexdigest()


def contents(path: Path) -> str:
    """A hash of what a file or a folder holds: names below the folder, and bytes.

    It is the same wherever the folder lies. A path that is not there has a hash of its own.
    Hidden files count, but for those of work that is not finished (".*.tmp"). Of shards whose
    hashes are recorded, it is these that count, so that files of many images are not read.
    """
    if not path.exists():
        return _of_member(path) if has_file(path) else "missing"
    members, recorded = list(_members(path)), recorded_hashes(path)

    def hashed_as(member: Path) -> str:
        return recorded.get(member) or _digest(member)

    if len(members) < 64:
        digests = [hashed_as(member) for member in members]
    else:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            digests = list(pool.map(hashed_as, members))
    digest = hashlib.sha256()
    is_folder = path.is_dir()
    for member, hashed in zip(members, digests, strict=True):
        name = member.relative_to(path).as_posix() if is_folder else ""
        digest.update(f"{name}\0{hashed}\n".encode())
    return digest.hexdigest()


def _of_member(path: Path) -> str:
    """The same hash of a file in a shard as of one that lies by itself."""
    hashed = hashlib.sha256(read_bytes(path)).hexdigest()
    return hashlib.sha256(f"\0{hashed}\n".encode()).hexdigest()


def _plain(value: Any) -> Any:
    """What JSON can hold of a value."""
    if not isinstance(value, Settings):
        return str(value)
    return value.model_dump(mode="json"), [held(path).contents for path in value.files()]


def _members(path: Path) -> Iterator[Path]:
    """All files of a folder, or the file itself."""
    if not path.is_dir():
        yield path
        return
    for member in sorted(path.rglob("*")):
        if member.is_file() and not member.name.endswith(".tmp"):
            yield member


def _digest(file: Path) -> str:
    state = settled(file)
    return _read_digest(file) if state is None else _digest_as_of(file.resolve(), state)


@cache
def _digest_as_of(file: Path, state: tuple[int, ...]) -> str:
    """The hash of a file, read once as long as nothing replaces it."""
    del state
    return _read_digest(file)


def _read_digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
