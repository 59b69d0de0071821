"""Being asked to stop by a signal: at once, or where the work of a block can be kept.

SIGTERM is what Slurm, Docker and `kill` send. SIGUSR1 and SIGUSR2 are what a batch system is told
to send ahead of a time limit (`sbatch --signal=USR1@120`; submitit takes SIGUSR2): the process is
to be started again.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = [
    "RUN_AGAIN",
    "StoppedError",
    "exit_code",
    "leave_signals",
    "stop_on_signals",
    "stop_processes",
    "stopped_by",
    "stopping_later",
]

RUN_AGAIN = 99
"""The exit code after SIGUSR1 and SIGUSR2: the same command goes on. Grid Engine takes it so."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

_SAME = 2.0  # seconds in which a signal that comes again, from another sender, is the same one

_asked: int | None = None  # the signal that a block has yet to see; 0 for none, None outside


class StoppedError(KeyboardInterrupt):
    """The process was asked to end by a signal.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


def exit_code(stop: BaseException) -> int:
    """What a process that was stopped ends with.

    Example:
        >>> exit_code(KeyboardInterrupt()), exit_code(StoppedError(signal.SIGTERM))
        (130, 143)
        >>> exit_code(StoppedError(signal.SIGUSR1))
        99
    """
    if not isinstance(stop, StoppedError):
        return 130
    return 143 if stop.signal == signal.SIGTERM else RUN_AGAIN


def stopped_by(code: int) -> StoppedError | None:
    """What a process was stopped by that ended with a code; None for codes of other ends."""
    numbers = {143: signal.SIGTERM, RUN_AGAIN: signal.SIGUSR1}
    return StoppedError(numbers[code]) if code in numbers else None


def stop_on_signals() -> None:
    """Let the signals end this process as Ctrl-C does: runs are closed, and something is said.

    A second SIGTERM ends it at once, but not where work is being kept.
    """
    first = 0.0

    def stop(number: int, frame: object) -> None:
        nonlocal first
        global _asked
        if _asked is not None:
            _asked = _asked or number
            return
        if not first:
            first = time.monotonic()
            raise StoppedError(number)
        if number == signal.SIGTERM and time.monotonic() - first > _SAME:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)

    if threading.current_thread() is threading.main_thread():  # others may not
        for number in SIGNALS:
            signal.signal(number, stop)


def leave_signals(_: int = 0) -> None:
    """Let this process, which works for another one, go on whatever the signals say.

    A batch system sends them to all processes; the one that this one works for ends it, by SIGTERM:
    of whoever else sends that nothing is heard. An error that ends the parent ends this one so, and
    the parent waits for it.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what is ignored is not waited for
    if hasattr(signal, "sigwaitinfo"):  # elsewhere whoever sends it ends this process
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when that one asks it to."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


@contextmanager
def stopping_later() -> Iterator[Callable[[], int]]:
    """Within the block, a signal is noted, and stops nothing; at its end it is raised.

    Yields:
        What gives the number of the signal that came, 0 for none.

    Raises:
        StoppedError: a signal came, and the block ended well.
    """
    global _asked
    outer, _asked = _asked, _asked or 0
    try:
        yield lambda: _asked or 0
        came = _asked
    finally:
        noted, _asked = _asked, outer
        if outer is not None:
            _asked = outer or noted
    if outer is None and came:
        raise StoppedError(came)


def stop_processes(processes: "Sequence[subprocess.Popen[Any]]", grace: float) -> None:
    """Ask processes to end by SIGTERM, kill those that have not after `grace` seconds, and wait."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + grace
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
