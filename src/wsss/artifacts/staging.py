"""A stage's output folder, filled under another name and moved into place when complete.

DVC deletes an out before its stage runs, so what a killed run has done must live beside
it: `data/cams` is filled as `data/.cams.partial`. A marker holds the fingerprint of
everything the result depends on; the rest of a run is kept only if that still fits.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Container, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wsss.artifacts.files import write_json

__all__ = ["Staging", "drop_others", "fingerprint", "source_fingerprint"]

_MARKER = ".fingerprint.json"


def fingerprint(*values: Any, files: Iterable[Path] = ()) -> str:
    """A hash of plain values (anything JSON can hold) and of the contents of files or folders."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for path in files:
        members = (
            sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        )
        for member in members:
            digest.update(str(member).encode())
            with member.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


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


class Staging:
    """Fill a folder under a temporary name; `with` moves it into place at the end.

    Args:
        out: the folder to make, such as data/cams. What is there is replaced at the end.
        key: the fingerprint of all that decides the contents. Work left by a killed run
            with the same key is kept, any other is deleted.

    Attributes:
        path: where to write. Files whose names start with ".work." are dropped at the end.
        resumed: whether work of an earlier run was found.
    """

    def __init__(self, out: Path, key: str) -> None:
        self.out = out
        self.path = out.with_name(f".{out.name}.partial")
        self.resumed = self._matches(key)
        if not self.resumed:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
            write_json(self.path / _MARKER, {"key": key})

    def _matches(self, key: str) -> bool:
        try:
            return bool(json.loads((self.path / _MARKER).read_text())["key"] == key)
        except (OSError, ValueError, KeyError, TypeError):
            return False

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
