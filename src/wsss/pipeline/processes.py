"""Several processes that run one stage: started, watched, and numbered.

Each process has a rank, from 0, in the environment variables that torchrun sets, too. Rank 0 alone
writes, records and reports; what the others have to do is in `wsss.pipeline.staging`.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

from wsss.cores import world_size

__all__ = ["LEFT_ALONE", "LostProcessError", "end_with_parent", "lost_another", "run_together"]

_PARENT = "WSSS_PARENT"
_GRACE = 10.0  # seconds from SIGTERM to SIGKILL
_OWN_WORDS = 3.0  # seconds in which the others may end, too, once one has
LEFT_ALONE = 75
"""The exit code of a process that could not go on because another one is gone."""


class LostProcessError(OSError):
    """A process of several ended before the others; the text says which, and what to do."""


def run_together(command: Sequence[str], count: int) -> int:
    """Run a command in `count` processes with ranks, and wait for all of them.

    When one ends with an error, or is killed, the others are stopped: they would wait for it.

    Args:
        command: the program and its arguments.
        count: how many processes.

    Returns:
        The exit code: 0, or that of the first process that failed and said why.

    Raises:
        LostProcessError: a process was killed.
    """
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "NODE_RANK": "0",
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # it warns where a method uses all parameters after all
        _PARENT: str(os.getpid()),
    }
    processes: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        notes: list[IO[bytes] | None] = [None]  # rank 0 speaks for all; of others errors alone
        notes += [stack.enter_context(tempfile.TemporaryFile()) for _ in range(1, count)]
        stack.callback(_stop, processes)
        for at, note in enumerate(notes):
            ranks = {"RANK": str(at), "LOCAL_RANK": str(at)}
            environment = os.environ | shared | ranks
            processes.append(subprocess.Popen(command, env=environment, stderr=note))
        failed = _first_failure(processes)
        if failed is None:
            return 0
        _stop(processes)
        code = processes[failed].returncode
        note = notes[failed]
        first = processes[0].returncode
        if code > 0 and note is not None and (first <= 0 or first == LEFT_ALONE):
            note.seek(0)
            os.write(2, note.read())
    if code > 0:
        return code
    name = signal.Signals(-code).name
    raise LostProcessError(
        f"process {failed + 1} of {count} was killed ({name}), and the others were stopped; run "
        "the same command again: it goes on with what is done"
    )


def end_with_parent() -> None:
    """Let this process end when the one that started it with `run_together` is gone."""
    parent = os.environ.get(_PARENT)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _first_failure(processes: Sequence["subprocess.Popen[Any]"]) -> int | None:
    """Wait until one has failed, and give its number; None when all have ended well.

    One that was killed comes before one that failed, and both before those that were left alone;
    where all fail alike, the first one tells.
    """
    seen = None
    while True:
        codes = [process.poll() for process in processes]
        failed = [at for at, code in enumerate(codes) if code]
        if failed and seen is None:
            seen = time.monotonic()
        if failed and (None not in codes or time.monotonic() - (seen or 0) > _OWN_WORDS):
            return min(failed, key=lambda at: (codes[at] == LEFT_ALONE, (codes[at] or 0) > 0, at))
        if all(code == 0 for code in codes):
            return None
        time.sleep(0.05)


def lost_another(error: BaseException) -> bool:
    """Whether an error only says that another process of the stage is gone."""
    signs = ("gloo", "nccl", "connection closed by peer", "connection reset")
    text = f"{type(error).__name__} {error}".lower()
    return world_size() > 1 and isinstance(error, RuntimeError) and any(s in text for s in signs)


def _stop(processes: Sequence["subprocess.Popen[Any]"]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _GRACE
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
