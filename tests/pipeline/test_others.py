"""Processes that a launcher per node has started: none waits for one that is gone."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wsss.pipeline.others import LEFT_ALONE, LostProcessError, join_others, run_token

MEMBER = """
import os, signal, sys, time
from wsss.cores import rank
from wsss.pipeline import others
others._OWN_END = 0.5
what = sys.argv[1]
with others.join_others():
    print(others.run_token(), flush=True)
    if what == str(rank()):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "error" and rank() == 1:
        sys.exit(3)
    if what != "well":
        time.sleep(60)
    time.sleep(0.5 * rank())
if what == "well" and not rank():
    time.sleep(1)
"""


def run(what: str, count: int = 3) -> tuple[list[int], list[str], str, float]:
    """Exit codes, tokens, what was said, and the seconds until the last one ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    members = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, what],
            env=os.environ | where | {"RANK": str(rank), "LOCAL_RANK": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    tokens = [member.stdout.readline() for member in members if member.stdout]
    started = time.monotonic()
    said = [member.communicate(timeout=120)[1] for member in members]
    return (
        [member.returncode for member in members],
        tokens,
        "".join(said),
        (time.monotonic() - started),
    )


def test_all_have_one_token_and_may_end_at_different_times() -> None:
    codes, tokens, said, _ = run("well")
    assert codes == [0, 0, 0], said
    assert len(set(tokens)) == 1 and len(tokens[0]) > 20
    assert "is gone" not in said


@pytest.mark.parametrize(
    ("what", "codes"),
    [
        ("0", [-signal.SIGKILL, LEFT_ALONE, LEFT_ALONE]),
        ("1", [LEFT_ALONE, -signal.SIGKILL, LEFT_ALONE]),
        ("error", [LEFT_ALONE, 3, LEFT_ALONE]),
    ],
)
def test_one_that_is_gone_ends_all_that_wait_for_it_with_a_message(
    what: str, codes: list[int]
) -> None:
    found, _, said, seconds = run(what)
    assert found == codes
    lost = 1 if what == "0" else 2
    assert said.count(f"Process {lost} of 3 is gone, and the others end, too") == 1
    assert seconds < 30


def test_alone_there_is_no_token() -> None:
    assert run_token() == ""


def test_a_first_process_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("connection refused\nat length")

    monkeypatch.setattr("wsss.pipeline.others._lines", refuse)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with (
        pytest.raises(LostProcessError, match=r"process 2 of 2 cannot .*\(connection refused\)"),
        join_others(),
    ):
        pass


def test_a_first_process_does_not_wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node may be lost before all have found one another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": "0"}
    for name, value in where.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("wsss.pipeline.others._TO_COME", 1.0)
    with (
        pytest.raises(LostProcessError, match=r"process 1 of 2 waited 1 s for the others, of"),
        join_others(),
    ):
        pass


AGAIN = """
import os, signal, sys, time
from wsss.config.sections import MachineSettings
from wsss.cores import rank
from wsss.loading.devices import gather, make_fabric
from wsss.pipeline.others import join_others, run_store
first_time = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
late = 3 * (not first_time and rank() == int(sys.argv[1]))
time.sleep(late)
with join_others():
    time.sleep(late)
    make_fabric(MachineSettings(accelerator="cpu", devices=2), "32-true", run_store())
    found = gather(rank())
    if first_time and rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if first_time:
        time.sleep(60)
print("found", found, flush=True)
"""


@pytest.mark.parametrize("late", [0, 1])
def test_processes_that_are_started_again_find_those_that_are_there_now(
    tmp_path: Path, late: int
) -> None:
    """The store has what those before said of themselves, whoever comes first."""
    (tmp_path / "again.py").write_text(AGAIN)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    options = ["--nproc-per-node=2", "--max-restarts=1"]
    ran = subprocess.run(
        [*torchrun, *options, str(tmp_path / "again.py"), str(late)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("found [0, 1]") == 2
