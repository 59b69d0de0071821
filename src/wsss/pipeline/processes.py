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

__all__ = ["LostProcessError", "end_with_parent", "is_first", "rank", "run_together", "world_size"]

_PARENT = "WSSS_PARENT"
_GRACE = 10.0  # seconds from SIGTERM to SIGKILL


class LostProcessError(OSError):
    """A process of several ended before the others; the text says which, and what to do."""


def rank() -> int:
    """This process's number among those that run the stage, from 0."""
    node, local = int(os.environ.get("NODE_RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    return node * int(os.environ.get("LOCAL_WORLD_SIZE", "1")) + local


def world_size() -> int:
    """How many processes run the stage."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes, records and reports: rank 0."""
    return rank() == 0


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
        if code > 0 and note is not None and processes[0].returncode <= 0:
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
    """Wait until one has failed, and give its number; None when all have ended well."""
    while True:
        codes = [process.poll() for process in processes]
        killed = [at for at, code in enumerate(codes) if code is not None and code < 0]
        failed = killed or [at for at, code in enumerate(codes) if code]
        if failed:
            return failed[0]
        if all(code == 0 for code in codes):
            return None
        time.sleep(0.05)


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
