"""Signals end a process at once, or after a block that keeps its work."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsss import stopping
from wsss.stopping import SIGNALS, StoppedError, exit_code, stop_on_signals, stopping_later


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    stop_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 99), (signal.SIGUSR2, 99)]
)
def test_a_signal_is_raised_with_its_name_and_exit_code(number: signal.Signals, code: int) -> None:
    with pytest.raises(StoppedError, match=number.name) as stopped:
        signal.raise_signal(number)
    assert exit_code(stopped.value) == code
    again = stopping.stopped_by(code)
    assert again is not None and exit_code(again) == code
    assert stopping.stopped_by(1) is None


def test_the_same_signal_from_another_sender_is_no_second_one() -> None:
    """Slurm and torchrun both send it, a moment apart, while runs are being closed."""
    with pytest.raises(StoppedError):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)


def test_a_block_notes_the_first_signal_and_raises_it_at_its_end() -> None:
    seen = []
    with pytest.raises(StoppedError, match="SIGUSR1"), stopping_later() as came:
        seen.append(came())
        signal.raise_signal(signal.SIGUSR1)
        seen.append(came())
        signal.raise_signal(signal.SIGTERM)
        seen.append(came())
    assert seen == [0, signal.SIGUSR1, signal.SIGUSR1]
    with stopping_later() as came:
        assert came() == 0, "the next block knows nothing of it"


def test_an_error_of_a_block_comes_before_the_signal() -> None:
    with pytest.raises(ValueError, match="mine"), stopping_later():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("mine")


def test_a_block_within_a_block_leaves_the_signal_to_the_outer_one() -> None:
    with pytest.raises(StoppedError), stopping_later() as outer:
        with stopping_later():
            signal.raise_signal(signal.SIGTERM)
        assert outer() == signal.SIGTERM


LOADS = """
import os, signal, subprocess, sys
from torch.utils.data import DataLoader
from wsss.stopping import leave_signals, stop_on_signals

class Endless:
    def __len__(self): return 10**6
    def __getitem__(self, index): return os.getpid()

stop_on_signals()
loader = DataLoader(Endless(), num_workers=1, persistent_workers=True, worker_init_fn=leave_signals)

def work():
    for step, batch in enumerate(loader):
        if step == 0:  # from another process, as a batch system sends it
            subprocess.run(["kill", "-TERM", str(int(batch[0]))], check=True)
            subprocess.run(["kill", "-USR1", str(int(batch[0]))], check=True)
            print(int(batch[0]), flush=True)
        if step == 200:
            raise ArithmeticError("a fault of the code")
"""
ENDS = {
    "an error that nobody expects": ("work()", 1),
    "an error that is said": (
        "try: work()\nexcept ArithmeticError as error: sys.exit(f'stopped: {error}')",
        1,
    ),
    "a signal": (
        "try: work()\nexcept ArithmeticError: os.kill(os.getpid(), signal.SIGTERM)",
        1,
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_process_that_fails_ends_with_those_that_load_for_it(end: str) -> None:
    """They hear of nobody but it: not of a batch system, which signals all at once."""
    text, code = ENDS[end]
    done = subprocess.run(
        [sys.executable, "-c", LOADS + text],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code and "a fault of the code" in done.stderr
    worker = int(done.stdout)
    assert not Path(f"/proc/{worker}").exists()
