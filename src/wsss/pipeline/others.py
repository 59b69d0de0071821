"""The processes of a run that torchrun started: which run it is, and whether all are still there.

On one machine a launcher ends all when one is lost. Over several nodes the launcher of each knows
of its own alone, and a process that waits for another one would wait without end. So each has a
connection to rank 0, which the system closes when the process at its end is gone, however that
ended, or says nothing more because its node is off.
"""

import contextlib
import logging
import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from wsss.cores import rank, world_size

__all__ = [
    "LEFT_ALONE",
    "LeftAloneError",
    "LostProcessError",
    "join_others",
    "run_store",
    "run_token",
    "tell_lost",
]

log = logging.getLogger(__name__)

LEFT_ALONE = 75
"""The exit code of a process that could not go on because another one is gone."""

_TO_COME = 300.0  # seconds in which all have found one another
_OWN_END = 5.0  # seconds in which a process that was left alone may end by itself
_WELCOME, _BYE = b"+", b"."
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # 25 s without an answer

_token = ""
_store: Any = None
_told = False


class LostProcessError(OSError):
    """A process of several ended before the others; the text says which, and what to do."""


class LeftAloneError(KeyboardInterrupt):
    """This process was interrupted, as another one is gone; its run in MLflow goes on later."""


def run_token() -> str:
    """What the processes of this run have in common, and those of another one have not.

    "" of a process that is alone, or whose launcher says it in other ways.
    """
    return _token


def run_store() -> Any:
    """A store of PyTorch that the processes of this run share, and those of another one do not.

    torchrun keeps its own when it starts all processes again: what those before have said of
    themselves would be taken for what is said now. None of a process that is alone.
    """
    if not _token:
        return None
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]

    return PrefixStore(_token, _store)


def tell_lost(lost: int | None = None, why: str = "") -> None:
    """Say, once, that another process is gone and what to do.

    Args:
        lost: its rank, where that is known.
        why: what says so.
    """
    global _told
    if _told:
        return
    _told = True
    which = "Another process" if lost is None else f"Process {lost + 1} of {world_size()}"
    reason = f" ({first})" if (first := why.partition("\n")[0]) else ""
    text = (
        f"{which} is gone{reason}, and the others end, too; run the same command again on all "
        "nodes: it goes on with what is done.\n"
    )
    with contextlib.suppress(OSError):  # there may be nobody to read it
        os.write(2, text.encode())


@contextmanager
def join_others() -> Iterator[None]:
    """Within the block, end this process when one of the others is gone.

    Raises:
        LostProcessError: one of the others did not come.
    """
    global _token, _store
    began = time.monotonic()
    try:
        _store, _token, lines, listener = _lines()
    except (OSError, RuntimeError) as error:
        why = f"cannot reach the first one ({str(error).partition(chr(10))[0]})"
        if not rank() and time.monotonic() - began >= _TO_COME:
            why = f"waited {_TO_COME:g} s for the others, of which one did not come"
        raise LostProcessError(
            f"process {rank() + 1} of {world_size()} {why}; run the same command again on all nodes"
        ) from None
    ended = threading.Event()
    threading.Thread(target=_watch, args=(lines, ended), name="others", daemon=True).start()
    try:
        yield
    except BaseException:
        ended.set()  # no word to the others, which end, too
        raise
    ended.set()
    for line in lines:
        with contextlib.suppress(OSError):
            line.sendall(_BYE)
    if listener is not None:
        listener.close()


def _lines() -> tuple[Any, str, dict[socket.socket, int], socket.socket | None]:
    """Connect to rank 0, or as rank 0 to all; with the store and the token that rank 0 made up."""
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    found, _, _ = next(iter(rendezvous("env://", timeout=timedelta(seconds=_TO_COME))))
    store = PrefixStore("wsss", found)
    if rank():
        token, line = _first(store)
        return found, token, {_kept_alive(line): 0}, None
    token = secrets.token_hex(16)
    listener = socket.create_server(("", 0), backlog=world_size())
    listener.settimeout(_TO_COME)
    store.set("first", f"{_own_host()} {listener.getsockname()[1]} {token}")
    lines: dict[socket.socket, int] = {}
    while len(lines) < world_size() - 1:
        line, _ = listener.accept()
        line.settimeout(10)
        with contextlib.suppress(OSError):
            word, _, number = _read(line, len(token) + 9).decode(errors="replace").partition(" ")
            if secrets.compare_digest(word, token):
                line.sendall(_WELCOME)
                line.settimeout(None)
                lines[_kept_alive(line)] = int(number)
                continue
        line.close()  # it is none of this run
    return found, token, lines, listener


def _first(store: Any) -> tuple[str, socket.socket]:
    """The token of rank 0 and a connection to it.

    The store may have where it was before all were started again, until it says where it is.
    """
    deadline = time.monotonic() + _TO_COME
    while True:
        host, port, token = store.get("first").decode().split()
        try:
            line = socket.create_connection((host, int(port)), timeout=60)
            try:
                line.sendall(f"{token} {rank():08}".encode())
                if _read(line, 1) != _WELCOME:
                    raise ConnectionError(f"no answer from {host}:{port}")
            except OSError:
                line.close()
                raise
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            line.settimeout(None)
            return token, line


def _read(line: socket.socket, count: int) -> bytes:
    text = b""
    while len(text) < count and (more := line.recv(count - len(text))):
        text += more
    return text


def _own_host() -> str:
    """Where others reach this machine: as it reaches the place where all met."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    with socket.create_connection((host, port), timeout=60) as line:
        own = str(line.getsockname()[0])
    return host if own.startswith("127.") or own == "::1" else own


def _kept_alive(line: socket.socket) -> socket.socket:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return line


def _watch(lines: dict[socket.socket, int], ended: threading.Event) -> None:
    """Wait until all have said that they are done, or end this process with the one that is not."""
    selector: Any = selectors.DefaultSelector()
    for line in lines:
        selector.register(line, selectors.EVENT_READ)
    while selector.get_map():
        for key, _ in selector.select():
            try:
                word = key.fileobj.recv(1)
            except OSError:
                word = b""
            selector.unregister(key.fileobj)
            if word == _BYE:
                continue
            if ended.is_set():
                return
            lost = lines[key.fileobj]
            if rank() == (0 if lost else 1):
                tell_lost(lost)
            time.sleep(_OWN_END)
            if not ended.is_set():
                os._exit(LEFT_ALONE)
            return
