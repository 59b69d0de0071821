"""What keeps jobs from being submitted is said before: programs, partitions, folders."""

import os
import signal
import stat
from pathlib import Path

import pytest

from wsss.artifacts import write_json
from wsss.launch import NAME, Task, TaskSettings, run_tasks
from wsss.launch import slurm as engine
from wsss.launch.command import Command, _below, _catches
from wsss.launch.task import JOBS
from wsss.launch.tasks import stop_jobs


def program(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IEXEC)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs in place of Slurm's: two partitions on nodes n1 and n2."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scontrol", "srun"):
        program(folder, name, "exit 0")
    program(folder, "sinfo", 'case "$*" in *%R*) echo gpu; echo cpu;; *) echo n1; echo n2;; esac')
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(engine, "_filesystem", lambda folder: "nfs4")
    return folder


def shared(tmp_path: Path) -> Path:
    """A project's root that could be on all nodes."""
    del tmp_path
    return Path("/home/someone/project")


def check(root: Path, **values: object) -> None:
    engine.check_slurm(TaskSettings.model_validate({"engine": "slurm", **values}), root)


def test_all_is_well(tmp_path: Path, programs: Path) -> None:
    check(shared(tmp_path))
    check(shared(tmp_path), partition="gpu,cpu")


def test_without_submitit_the_command_is_named(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install"):
        check(shared(tmp_path))


@pytest.mark.parametrize("name", ["sbatch", "squeue", "scontrol"])
def test_without_a_program_the_way_out_is_named(tmp_path: Path, programs: Path, name: str) -> None:
    (programs / name).unlink()
    with pytest.raises(ValueError, match=f"no {name} on the path of .*engine: local in {NAME}"):
        check(shared(tmp_path))


def test_a_slurm_that_does_not_answer(tmp_path: Path, programs: Path) -> None:
    program(programs, "sinfo", "exit 1")
    with pytest.raises(ValueError, match="Slurm does not answer"):
        check(shared(tmp_path))


def test_an_unknown_partition(tmp_path: Path, programs: Path) -> None:
    with pytest.raises(ValueError, match=r"partition 'gup' is none of this cluster; did you mean"):
        check(shared(tmp_path), partition="gup")


@pytest.mark.parametrize("kind", ["tmpfs", "overlay"])
def test_a_project_that_other_nodes_do_not_see(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(engine, "_filesystem", lambda folder: kind)
    with pytest.raises(ValueError, match="which the nodes of the cluster do not see; move"):
        check(shared(tmp_path))
    monkeypatch.setattr(engine, "_filesystem", lambda folder: "nfs4")
    with pytest.raises(ValueError, match="/tmp/project lies on a disk of"):
        check(Path("/tmp/project"))


def test_a_cluster_of_this_machine_alone_sees_all(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_filesystem", lambda folder: "tmpfs")
    monkeypatch.setattr("socket.gethostname", lambda: "n1")
    program(programs, "sinfo", 'case "$*" in *%R*) echo gpu;; *) echo n1;; esac')
    check(Path("/tmp/project"))


def test_the_kind_of_a_file_system_is_that_of_the_innermost_mount() -> None:
    assert engine._filesystem(Path("/proc/self")) == "proc"


def test_the_queue_is_read_job_by_job(tmp_path: Path, programs: Path) -> None:
    program(
        programs, "squeue", "printf '7_0|RUNNING|None\\n7_1|PENDING|Priority\\n9|PENDING|None\\n'"
    )
    assert engine.queue() == {"7_0": "running", "7_1": "waiting (Priority)", "9": "waiting"}
    program(programs, "squeue", "exit 1")
    assert engine.queue() is None


def test_a_training_is_started_by_torchrun_on_one_node_and_on_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    command = Command(["python", "-m", "x"], tmp_path / "done", {}, ranks=4)
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    assert command._started_by_torchrun() == [
        "python", "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=4",
        "--max-restarts=3", "--standalone", "-m", "x",
    ]  # fmt: skip
    for name, value in {
        "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "40123", "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_JOB_NODELIST": "gpu[07-08]",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert command._started_by_torchrun()[3:-2] == [
        "--nnodes=2", "--nproc-per-node=4", "--max-restarts=3", "--rdzv-id=40123",
        "--rdzv-backend=c10d", "--rdzv-endpoint=gpu07:20123",
    ]  # fmt: skip


def test_who_listens_is_told_before_all_are_stopped(tmp_path: Path) -> None:
    """A process deep below that writes something at USR1 gets it, and the job is queued again."""
    pytest.importorskip("submitit")
    import threading
    import time

    text = (
        "import os, signal, sys, time\n"
        "def stop(*_):\n"
        "    open('stopped', 'w').close(); sys.exit(0)\n"
        "signal.signal(signal.SIGUSR1, stop); open('ready', 'w').close(); time.sleep(60)\n"
    )
    (tmp_path / "listens.py").write_text(text)
    script = f"cd {tmp_path}; python3 listens.py; sleep 60"
    command = Command(["sh", "-c", script], tmp_path / "done", {"PATH": os.environ["PATH"]})
    failed: list[str] = []

    def work() -> None:
        try:
            command()
        except RuntimeError as error:
            failed.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert command._process is not None
    below = _below(command._process.pid)
    assert len(below) == 2 and [_catches(pid, signal.SIGUSR1) for pid in below] == [False, True]
    again = command.checkpoint()
    thread.join(30)
    assert (tmp_path / "stopped").exists() and not (tmp_path / "done").exists()
    assert failed == ["the command ended with SIGTERM"]
    assert again.function is command


def test_jobs_that_nobody_can_stop_keep_their_folder(tmp_path: Path, programs: Path) -> None:
    """They would write what was wanted before into what is wanted now, and nobody would know."""
    stop_jobs(tmp_path)
    write_json(tmp_path / JOBS, {"part 1 of 2": "7_0", "part 2 of 2": "7_1"})
    with pytest.raises(ValueError, match=r"7_0 7_1.* may still write into .*login node"):
        stop_jobs(tmp_path)
    program(programs, "scancel", f'echo "$@" > {tmp_path}/told')
    stop_jobs(tmp_path)
    assert (tmp_path / "told").read_text() == "7_0 7_1\n"


@pytest.mark.parametrize("engine", ["inline", "local"])
def test_tasks_that_run_here_do_not_run_beside_jobs_that_are_left(
    tmp_path: Path, programs: Path, engine: str
) -> None:
    """Both would write the same files."""
    file = tmp_path / "task.done"
    task = Task("task", ("/bin/sh", "-c", f": > {file}"), file)
    write_json(tmp_path / JOBS, {"task": "7_0"})
    settings = TaskSettings.model_validate({"engine": engine})
    with pytest.raises(ValueError, match=r"7_0.* may still write into .*login node"):
        run_tasks([task], settings, tmp_path, "title", folder=tmp_path)
    assert not file.exists()
    program(programs, "scancel", f'echo "$@" > {tmp_path}/told')
    assert not run_tasks([task], settings, tmp_path, "title", folder=tmp_path)
    assert file.exists() and (tmp_path / "told").read_text() == "7_0\n"
