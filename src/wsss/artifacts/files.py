"""Single files that appear whole or not at all."""

import errno
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "atomic_path",
    "files_below",
    "is_of_the_system",
    "read_json",
    "read_json_lines",
    "settled",
    "write_json",
    "write_json_lines",
]

Parsed = TypeVar("Parsed")

_RECENT = 2_000_000_000  # nanoseconds

_OF_THE_SYSTEM = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ENODEV),
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.ENOTCONN, errno.ETIMEDOUT),
}


def is_of_the_system(error: BaseException) -> bool:
    """Whether an error is of memory, a disk or a right, and tells nothing of what a file holds.

    Whoever takes an error for a damaged file asks this first: a good one would be left out, or
    deleted on advice.

    Example:
        >>> is_of_the_system(OSError(errno.EMFILE, "Too many open files"))
        True
        >>> is_of_the_system(OSError("image file is truncated"))
        False
    """
    if isinstance(error, OSError):
        return error.errno in _OF_THE_SYSTEM
    text = str(error).lower()  # PyTorch raises RuntimeError
    return isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text


def files_below(folder: Path, *suffixes: str) -> list[Path]:
    """The files below a folder that have one of some suffixes, in any case; no hidden ones.

    A folder may be called as a file is, since images may: what lies in it is named after them.

    Args:
        folder: where to search; one that is not there has none.
        suffixes: in lower case, such as ".png".

    Returns:
        Sorted.
    """
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    ]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; move it there if the block succeeds.

    The folder is made. On an exception the temporary file is removed and `path` is as it was; an
    OSError that names no file, as on a full disk, names `path`. The temporary name is short,
    however long that of `path` is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def settled(file: Path) -> tuple[int, ...] | None:
    """What tells a file from one that replaces it; None where it was written a moment ago.

    The clock of files is too coarse to tell such a one from what may be written next.
    """
    known = file.stat()
    if time.time_ns() - known.st_mtime_ns < _RECENT:
        return None
    return known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, two spaces and a final newline, atomically."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        # half a surrogate pair, of a file name that is not UTF-8, becomes its escape in JSON
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read_json(path: Path) -> Any:
    """Read JSON. Raises ValueError that names the file when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write JSON, a line per row, atomically."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_json_lines(path: Path, parse: Callable[[Any], Parsed], what: str) -> Iterator[Parsed]:
    """Read what `write_json_lines` wrote, a line at a time.

    Args:
        path: the file; its last line may lack its end.
        parse: makes something of a row.
        what: it is, such as "a sample".

    Raises:
        ValueError: a line is not JSON, or `parse` raises KeyError, TypeError or ValueError; the
            text names the file and the line.
    """
    # names may hold other line separators, such as U+2028 or "\r"
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                parsed = parse(json.loads(line.removesuffix("\n")))
            except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: not {what} ({error!r})") from None
            yield parsed
