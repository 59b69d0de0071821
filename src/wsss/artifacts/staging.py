"""A stage's output folder, filled under another name and moved into place when complete.

DVC deletes an out before its stage runs, so what a killed run has done must live beside
it: `data/cams` is filled as `data/.cams.partial`. A marker holds the fingerprint of
everything the result depends on; the rest of a run is kept only if that still fits.

Of several outs of one stage, each in a folder of its own, only those need to be made anew whose
fingerprint is another one. There it stays in the finished folder.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Container, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wsss.artifacts.files import write_json
from wsss.settings import Settings

__all__ = ["Staging", "drop_others", "fingerprint", "has_key", "source_fingerprint", "write_key"]

_MARKER = ".fingerprint.json"


def fingerprint(*values: Any, files: Iterable[Path] = ()) -> str:
    """A hash of plain values (anything JSON can hold) and of the contents of files or folders.

    Among the values may be settings; the files that these name count with their contents, and not
    with the place where a machine has them.
    """
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=_plain).encode())
    for path in files:
        for member in _members(path):
            digest.update(str(member).encode() + _digest(member))
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """What JSON can hold of a value."""
    if not isinstance(value, Settings):
        return str(value)
    contents = []
    for path in value.files():
        for member in _members(path):
            name, known = member.relative_to(path), member.stat()
            if not any(part.startswith(".") for part in name.parts):  # notes of a download
                once = _digest_once(member, known.st_size, known.st_mtime_ns)
                contents.append((name.as_posix(), once.hex()))
    return value.model_dump(mode="json"), contents


def _members(path: Path) -> Iterator[Path]:
    """All files of a folder, or the file itself."""
    yield from sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


@cache
def _digest_once(file: Path, size: int, modified: int) -> bytes:
    """Of a checkpoint, which takes seconds, and which several outs of a stage may depend on."""
    del size, modified  # a file that is replaced has others
    return _digest(file)


def source_fingerprint() -> str:
    """A hash of this package's own Python code: edited code does not resume old work."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


def drop_others(folder: Path, names: Container[str]) -> None:
    """Make a folder of named outs, and delete what it holds under other names but hidden ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.name not in names and not old.name.startswith("."):
            _remove(old)


def has_key(folder: Path, key: str) -> bool:
    """Whether a folder says that it was made, or is being made, under this fingerprint."""
    try:
        return bool(json.loads((folder / _MARKER).read_text())["key"] == key)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_key(folder: Path, key: str) -> None:
    """Let a folder say under which fingerprint it was made."""
    write_json(folder / _MARKER, {"key": key})


class Staging:
    """Fill a folder under a temporary name; `with` moves it into place at the end.

    Args:
        out: the folder to make, such as data/cams. What is there is replaced at the end.
        key: the fingerprint of all that decides the contents. Work left by a killed run
            with the same key is kept, any other is deleted.
        keep_key: the finished folder says its key, for `has_key`.

    Attributes:
        path: where to write. Files whose names start with ".work." are dropped at the end.
        resumed: whether work of an earlier run was found.
    """

    def __init__(self, out: Path, key: str, *, keep_key: bool = False) -> None:
        self.out, self.keep_key = out, keep_key
        self.path = out.with_name(f".{out.name}.partial")
        self.resumed = has_key(self.path, key)
        if not self.resumed:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
            write_key(self.path, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            return  # what is done stays for the next run
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink()
        for work in self.path.glob(".work.*"):
            _remove(work)
        if not self.keep_key:
            (self.path / _MARKER).unlink()
        self.out.parent.mkdir(parents=True, exist_ok=True)
        old = self.out.with_name(f".{self.out.name}.old")
        _remove(old)
        if self.out.exists() or self.out.is_symlink():
            os.replace(self.out, old)
        os.replace(self.path, self.out)
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
