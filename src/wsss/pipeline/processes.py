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
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from wsss.artifacts import read_json, write_json
from wsss.cores import is_first, world_size
from wsss.pipeline.others import LEFT_ALONE, LostProcessError
from wsss.stopping import stop_processes

__all__ = [
    "end_with_parent",
    "given_params",
    "is_one_of_several",
    "is_started_by_another",
    "keep_error",
    "lost_another",
    "run_together",
    "tell_done",
]

_PARENT = "WSSS_PARENT"
_DONE = "WSSS_DONE"  # a file, which is there once the first of the processes has done the work
_PARAMS = "WSSS_PARAMS"  # a file with all settings
_GRACE = 10.0  # seconds from SIGTERM to SIGKILL, where one is lost and the others cannot go on
_TO_KEEP = 60.0  # the same where all are asked to stop, and keep what they have done
_OWN_WORDS = 3.0  # seconds in which the others may end, too, once one has
_LATE = 60.0  # seconds in which the others end once rank 0, which has most to do, is done
_LOST = (
    "closed by peer",
    "closed by remote peer",
    "connection reset",
    "connection refused",
    "broken pipe",
    "timed out waiting",
    "caused pair closure",
    "collective operation timeout",
    "remote process exit",
    "communicator was aborted",
)
"""What Gloo and NCCL say of a lost connection, and not of what they are asked for."""
_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh"}


def run_together(
    command: Sequence[str], count: int, params: Mapping[str, Any] | None = None
) -> int:
    """Run a command in `count` processes with ranks, and wait for all of them.

    When one ends with an error, or is killed, the others are stopped: they would wait for it. Once
    the first has told that the work is done (`tell_done`), nothing is lost with any of them.

    Args:
        command: the program and its arguments.
        count: how many processes.
        params: all settings, as plain values, for `given_params`.

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
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        done = folder / shared[_PARENT]
        shared[_DONE] = str(done)
        if params is not None:
            shared[_PARAMS] = str(folder / "params.json")
            write_json(folder / "params.json", params)
        stack.push(lambda kind, *_: stop_processes(processes, _TO_KEEP if kind else _GRACE))
        for at, note in enumerate(notes):
            ranks = {"RANK": str(at), "LOCAL_RANK": str(at)}
            environment = os.environ | shared | ranks
            processes.append(subprocess.Popen(command, env=environment, stderr=note))
        failed = _first_failure(processes)
        if failed is None:
            return 0
        stuck = processes[failed].poll() is None
        stop_processes(processes, _GRACE)
        code = processes[failed].returncode
        if code < 0 and done.exists() and not stuck:
            return 0
        note = notes[failed]
        first = processes[0].returncode
        if code > 0 and note is not None and (first <= 0 or first == LEFT_ALONE):
            note.seek(0)
            os.write(2, note.read())
        if code == LEFT_ALONE and (alone := _of_left_alone(done)).exists():
            os.write(2, alone.read_bytes())  # all were left alone, so none has said why
    if code > 0:
        return code
    if stuck:
        raise LostProcessError(
            f"process {failed + 1} of {count} still waited {_LATE:g} s after the first one was "
            "done, and was stopped; run the same command again: it goes on with what is done"
        )
    name = signal.Signals(-code).name
    memory = " The system kills what needs more memory than there is; `dmesg` tells."
    raise LostProcessError(
        f"process {failed + 1} of {count} was killed ({name}), and the others were stopped; run "
        f"the same command again: it goes on with what is done.{memory * (name == 'SIGKILL')}"
    )


def tell_done() -> None:
    """Tell whoever started this process and others that the work of all is done and recorded.

    A process takes seconds to end, in which it may be killed as at any other time. Where something
    else has started it, such as tasks that `run_together` started in turn, nothing is told.
    """
    if is_first() and (done := _done()):
        done.touch()


def keep_error(error: BaseException) -> None:
    """Keep why this process takes itself for left alone, unless another one was before it.

    `run_together` says it where all end so, and none says what has stopped it.
    """
    if done := _done():
        with contextlib.suppress(OSError), _of_left_alone(done).open("x") as file:
            file.writelines(traceback.format_exception(error))


def _done() -> Path | None:
    """The file of `tell_done`; None where `run_together` has not started this very process."""
    done = os.environ.get(_DONE, "")
    return Path(done) if done and Path(done).name == os.environ.get(_PARENT) else None


def _of_left_alone(done: Path) -> Path:
    return done.with_suffix(".left_alone")


def given_params() -> dict[str, Any] | None:
    """All settings as whoever started this process and others has them; None where nobody has.

    params.yaml may have been edited since then.
    """
    file = os.environ.get(_PARAMS)
    return read_json(Path(file)) if file and is_one_of_several() else None


def is_one_of_several() -> bool:
    """Whether `run_together` has started this process."""
    return _PARENT in os.environ


def is_started_by_another() -> bool:
    """Whether torchrun, or another launcher of several processes, has started this process."""
    return "LOCAL_RANK" in os.environ and not is_one_of_several()


def end_with_parent() -> None:
    """Let this process end when the one that started it is gone: `run_together`, torchrun, or DVC.

    What a stage makes once its DVC is gone nobody takes; the next DVC deletes it and starts the
    stage anew. Where the stage ends, too, the next one goes on with what is done. A stage that was
    started by hand goes on without its shell.
    """
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if not (is_one_of_several() or by_torchrun or "DVC_STAGE" in os.environ):
        return
    line = _above()

    def watch() -> None:
        while _above() == line:
            time.sleep(0.5)
        if by_torchrun:  # a signal that asks to stop ends torchrun itself, and comes here, too
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_TO_KEEP)
        elif not is_one_of_several():
            text = "The process that started this one is gone, so it ends; what is done is kept.\n"
            with contextlib.suppress(OSError):  # there may be nobody to read it
                os.write(2, text.encode())
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _above() -> tuple[int, ...]:
    """The process that started this one, and behind a shell the one that started that."""
    parent = os.getppid()
    try:
        text = Path(f"/proc/{parent}/stat").read_text()
        name = text[text.index("(") + 1 : text.rindex(")")]
        above = int(text[text.rindex(")") + 1 :].split()[1])
    except (OSError, ValueError, IndexError):  # there is no /proc
        return (parent,)
    return (parent, above) if name in _SHELLS else (parent,)


def _first_failure(processes: Sequence["subprocess.Popen[Any]"]) -> int | None:
    """Wait until one has failed, and give its number; None when all have ended well.

    One that was killed comes before one that failed, and both before those that were left alone;
    where all fail alike, the first one tells. One that does not end though rank 0 has is lost, too.
    """
    seen: float | None = None
    done: float | None = None
    while True:
        codes = [process.poll() for process in processes]
        failed = [at for at, code in enumerate(codes) if code]
        if failed and seen is None:
            seen = time.monotonic()
        if codes[0] == 0 and seen is None:
            done = time.monotonic() if done is None else done
            if None in codes and time.monotonic() - done > _LATE:
                return codes.index(None)
        if failed and (None not in codes or time.monotonic() - (seen or 0) > _OWN_WORDS):
            return min(failed, key=lambda at: (codes[at] == LEFT_ALONE, (codes[at] or 0) > 0, at))
        if all(code == 0 for code in codes):
            return None
        time.sleep(0.05)


def lost_another(error: BaseException) -> bool:
    """Whether an error only says that the connection to another process of the stage is lost."""
    if world_size() == 1 or not isinstance(error, RuntimeError):
        return False
    from torch import distributed

    text = str(error).lower()
    return distributed.is_initialized() and any(words in text for words in _LOST)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
