"""Folders that one process works on: another one is told which, and what to do.

The kernel lets a lock go when its process ends, however that ends: none is left over.
"""

import errno
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["BusyError", "hold"]

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds in which a process may end whose parent is gone, before another one is refused."""

_POLL = 0.1  # seconds
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_held: dict[Path, int] = {}  # how often this process holds each lock


class BusyError(OSError):
    """Another process works on the same; the text says which, and what to do."""


@contextmanager
def hold(out: Path, what: str = "", *, wait: bool = False) -> Iterator[None]:
    """Work on a folder alone, for as long as the block lasts.

    A process that holds a folder already may hold it again. The lock is a file beside the folder,
    `.<name>.lock`, which says who holds it.

    Args:
        out: what is being made, such as data/cams; it need not be there.
        what: it is called in messages; its path otherwise.
        wait: wait for another process until it is done, and say so.

    Raises:
        BusyError: another process holds it, and `wait` is False.
        FileNotFoundError: a folder above it is a link that leads nowhere.
    """
    file = out.absolute().with_name(f".{out.name}.lock")
    if file in _held:
        _held[file] += 1
        try:
            yield
        finally:
            _held[file] -= 1
        return
    for folder in file.parents:
        if folder.is_symlink() and not folder.exists():
            raise FileNotFoundError(
                f"{folder} is a link to {folder.readlink()}, which is not there; mount that disk, "
                "make that folder, or remove the link"
            )
    file.parent.mkdir(parents=True, exist_ok=True)
    opened = _take(file, what or str(out), wait)
    _held[file] = 1
    try:
        yield
    finally:
        del _held[file]
        # first the name, then the lock: whoever opened the file meanwhile sees that it is gone
        file.unlink(missing_ok=True)
        os.close(opened)


def _take(file: Path, what: str, wait: bool) -> int:
    """Open and lock the file, and write into it who has it."""
    deadline, told = time.monotonic() + PATIENCE, False
    while True:
        opened, own = _open(file)
        try:
            # a record lock: processes that load images are forked, and do not inherit it
            fcntl.lockf(opened, (fcntl.LOCK_EX if own else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                log.warning("%s is not locked: its disk has no locks (%s)", what, error.strerror)
                return opened
            holder = os.pread(opened, 4096, 0)
            os.close(opened)
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            if wait and not told:
                log.info("%s", _busy(what, holder))
                told = True
            if not wait and time.monotonic() > deadline:
                raise BusyError(_busy(what, holder)) from None
            time.sleep(_POLL)
            continue
        if not own:  # it is left over, as nobody holds it
            file.unlink(missing_ok=True)
        elif _is_there(file, opened):
            os.ftruncate(opened, 0)
            os.pwrite(opened, json.dumps(_own()).encode(), 0)
            return opened
        os.close(opened)  # whoever had it has removed it since


def _open(file: Path) -> tuple[int, bool]:
    """Open the file, and say whether it can be written: that of another user can but be read."""
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o666), True
    except PermissionError:
        if not os.access(file, os.R_OK):  # the folder is closed, or the file
            raise
        return os.open(file, os.O_RDONLY), False


def _is_there(file: Path, opened: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(opened))
    except OSError:
        return False


def _own() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join(sys.orig_argv),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }


def _busy(what: str, holder: bytes) -> str:
    """Say who works on something, and how to get it."""
    try:
        known = json.loads(holder)
        pid, host = int(known["pid"]), str(known["host"])
        command, since = str(known["command"]), str(known["since"])
    except (ValueError, KeyError, TypeError):  # it is about to write that down
        return f"{what}: another process is at work on it; wait until that ends"
    kill = f"kill {pid}" if host == socket.gethostname() else f"ssh {host} kill {pid}"
    if len(command) > 200:
        command = f"{command[:200]}..."
    return (
        f"{what}: process {pid} on {host} is at work on it since {since} ({command}).\n"
        f"Wait until it ends, or stop it (`{kill}`) and start again: what it has done is kept."
    )
