"""Stages as jobs of a real Slurm of one node: killed, queued again, taken up by a later process."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..launch.toy_project import TOY, WHOLE, Start, files, finish, made, site, wait_for
from .slurm_node import SlurmNode

pytestmark = pytest.mark.cluster


@pytest.fixture
def on_slurm(project: Path, slurm: SlurmNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose site is the Slurm of the tests."""
    pytest.importorskip("submitit", reason="needs submitit: pip install '.[slurm]'")
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    site(project, engine="slurm", partition="tests", cpus=1, time="0:10:00", gpus=0, notice=30)
    yield project
    subprocess.run(["scancel", "--user", str(os.getuid())], check=False)
    slurm.wait()


def test_a_job_that_is_killed_is_submitted_again_and_one_that_is_queued_again_goes_on(
    on_slurm: Path, start: Start, slurm: SlurmNode
) -> None:
    process = start(TOY_SLEEP="1.5", TOY_KILLED="image07")
    wait_for(lambda: (on_slurm / "made.txt").exists())
    running = [job for job, state in slurm.jobs().items() if state == "RUNNING"]
    assert {job.rpartition("_")[2] for job in running} <= {"0", "1", "2"}
    queued_again = next(job for job in running if job.endswith("_2"))
    slurm.run("scontrol", "requeue", queued_again)
    said = finish(process)
    assert "3 jobs submitted to Slurm" in said
    assert "part 2 of 3: job" in said and "started again (1 of 2)" in said
    assert files(on_slurm / "data/toy") | files(on_slurm / "reports") == WHOLE
    assert len(made(on_slurm)) == 13
    assert not [line for line in made(on_slurm) if line.endswith("driver")]


def test_jobs_go_on_without_the_process_and_a_later_one_waits_for_them(
    on_slurm: Path, start: Start, slurm: SlurmNode
) -> None:
    process = start(TOY_SLEEP="1.5")
    wait_for(lambda: (on_slurm / "made.txt").exists())
    process.kill()
    process.wait()
    jobs = set(slurm.jobs())
    assert len(jobs) == 3
    said = finish(start())
    assert "3 of its tasks run already" in said and "submitted" not in said
    assert len(made(on_slurm)) == 13


def test_jobs_for_other_settings_are_stopped_before_their_folder_is_deleted(
    on_slurm: Path, start: Start, slurm: SlurmNode
) -> None:
    process = start(TOY_SLEEP="1.5")
    wait_for(lambda: (on_slurm / "made.txt").exists())
    process.send_signal(signal.SIGTERM)
    said = finish(process, 143)
    assert "go on without this process" in said and "scancel" in said
    old = set(slurm.jobs())
    (on_slurm / "params.yaml").write_text("base: {rng_seed: 2}\n")
    finish(start())
    assert not old & set(slurm.jobs())
    texts = {file.read_text().split()[1] for file in (on_slurm / "data/toy").glob("*.txt")}
    assert texts == {"2"}


def test_a_job_that_comes_to_its_end_is_queued_again_and_goes_on(
    on_slurm: Path, start: Start, slurm: SlurmNode
) -> None:
    """As at its time limit, or where another job takes its place."""
    site(on_slurm, tasks=1)
    process = start(TOY_SLEEP="1.5")
    wait_for(lambda: (on_slurm / "made.txt").exists())
    (job,) = slurm.jobs()
    slurm.run("scancel", "--signal=USR2", job)
    wait_for(lambda: len(made(on_slurm)) > 2)
    said = finish(process)
    assert "started again" not in said and said.count("submitted") == 1
    assert len(made(on_slurm)) == 13


def test_what_slurm_refuses_is_said_before_anything_runs(on_slurm: Path, start: Start) -> None:
    site(on_slurm, partition="test")
    assert "partition 'test' is none of this cluster; did you mean 'tests'?" in finish(start(), 1)
    site(on_slurm, partition="tests", gpus=64)
    said = finish(start(), 1)
    assert "Slurm does not take the jobs of toy" in said and "gpus" in said
    site(on_slurm, gpus=0, scratch="/nowhere/at/all")
    assert "scratch is '/nowhere/at/all', which is no folder" in finish(start(), 1)
    assert not (on_slurm / "made.txt").exists()


DVC_YAML = """\
stages:
  toy:
    cmd: {python} {toy}
    deps: [data/splits, params.yaml]
    outs: [data/toy]
    metrics: [{{reports/toy.json: {{cache: false}}}}]
"""


def test_dvc_repro_drives_it_and_goes_on_after_it_was_killed(
    on_slurm: Path, slurm: SlurmNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_SLEEP", "1.5")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    (on_slurm / "dvc.yaml").write_text(DVC_YAML.format(python=sys.executable, toy=TOY))
    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=on_slurm, check=True)
    dvc = subprocess.Popen(["dvc", "repro"], cwd=on_slurm, start_new_session=True)
    wait_for(lambda: (on_slurm / "made.txt").exists())
    dvc.kill()
    dvc.wait()
    assert not (on_slurm / "dvc.lock").exists()
    lock = on_slurm / "data/.toy.lock"
    wait_for(lambda: not lock.exists() or not held(lock))
    assert len(slurm.jobs()) == 3
    done = subprocess.run(
        ["dvc", "repro"], cwd=on_slurm, capture_output=True, text=True, check=True
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert "submitted" not in said  # the jobs run yet, or are done by now
    assert len(made(on_slurm)) == 13
    assert not [line for line in made(on_slurm) if line.endswith("driver")]
    assert len(files(on_slurm / "data/toy")) == 13
    status = subprocess.run(
        ["dvc", "status"], cwd=on_slurm, capture_output=True, text=True, check=True
    )
    assert "up to date" in status.stdout


def held(lock: Path) -> bool:
    """Whether a process holds a lock."""
    with lock.open("r+") as opened:
        try:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def test_one_process_that_goes_on_alone_stops_the_jobs(
    on_slurm: Path, start: Start, slurm: SlurmNode
) -> None:
    process = start(TOY_SLEEP="1.5")
    wait_for(lambda: (on_slurm / "made.txt").exists())
    process.kill()
    process.wait()
    assert len(slurm.jobs()) == 3
    finish(start(WSSS_ENGINE="inline"))
    assert files(on_slurm / "data/toy") | files(on_slurm / "reports") == WHOLE
    assert not slurm.jobs() and not list((on_slurm / "data").glob(".toy.partial"))
