"""Tasks as jobs of Slurm, through submitit; they go on without the process that waits for them."""

import contextlib
import getpass
import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wsss.artifacts import read_json, write_json
from wsss.checks import did_you_mean
from wsss.launch.command import Command
from wsss.launch.site import NAME, TaskSettings, minutes
from wsss.launch.task import Ended, Task, log_folder, task_environment

__all__ = ["SlurmEngine", "cancel", "check_slurm", "partitions", "queue"]

log = logging.getLogger(__name__)

SETTLE = 10.0
"""Seconds in which the done-file of a job that has ended may come to be seen on this machine."""

_OF_ONE_NODE = {"tmpfs", "ramfs", "overlay", "devtmpfs"}


class SlurmEngine:
    """Submits tasks as an array of jobs, and watches the queue.

    Args:
        settings: what Slurm is asked for.
        root: the project.
        title: names the jobs.
        logs: where jobs write, and read what they have to do; all nodes see it.
        file: keeps the ids of jobs, so that a later process waits for them.
    """

    def __init__(
        self, settings: TaskSettings, root: Path, title: str, logs: Path, file: Path
    ) -> None:
        self._settings, self._root, self._title = settings, root, title
        self._logs, self._file = logs, file
        self._jobs: dict[str, str] = {}
        self._tasks: dict[str, Task] = {}
        self._gone: dict[str, float] = {}
        self.poll = settings.poll

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and self._jobs:
            ids = " ".join(sorted({job.partition("_")[0] for job in self._jobs.values()}))
            log.warning(
                "The jobs %s go on without this process, and the same command waits for them; "
                "`scancel %s` stops them.",
                *(ids, ids),
            )

    def adopt(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Those of which an earlier process submitted a job that is in the queue."""
        known = _known(self._file)
        living = queue() if known else {}
        found = [task for task in tasks if living is None or known.get(task.name) in living]
        found = [task for task in found if task.name in known]
        for task in found:
            self._jobs[task.name], self._tasks[task.name] = known[task.name], task
        return found

    def start(self, tasks: Sequence[Task]) -> None:
        """Submit an array of jobs. Raises ValueError where Slurm does not take it."""
        if not tasks:
            return
        for task, job in zip(tasks, self._submitted(tasks), strict=True):
            self._jobs[task.name], self._tasks[task.name] = job, task
        write_json(self._file, self._jobs)
        ids = sorted({self._jobs[task.name].partition("_")[0] for task in tasks})
        log.info("%s: %d jobs submitted to Slurm (%s)", self._title, len(tasks), ", ".join(ids))

    def look(self) -> tuple[Sequence[Ended], Mapping[str, int]]:
        """What has ended since the last look, and how many jobs are in which state."""
        living = queue()
        if living is None:  # Slurm does not answer: it will
            return (), {"unknown, as Slurm does not answer": len(self._jobs)}
        ended = []
        for name, job in list(self._jobs.items()):
            task = self._tasks[name]
            if job in living and not task.done.exists():
                self._gone.pop(name, None)
                continue
            # a file that was made on another node may take a moment to be seen
            since = self._gone.setdefault(name, time.monotonic())
            if not task.done.exists() and time.monotonic() - since < SETTLE:
                continue
            del self._jobs[name], self._gone[name]
            reason = "" if task.done.exists() else _reason(job)
            ended.append(Ended(task, reason, self._logs / f"{job}_0_log.out"))
        states = Counter(living[job] for job in self._jobs.values() if job in living)
        return ended, states

    def _submitted(self, tasks: Sequence[Task]) -> list[str]:
        """The ids of the jobs of tasks, in order."""
        import submitit
        from submitit.core import utils

        settings, nodes = self._settings, max(1, self._settings.nodes)
        commands = [
            Command(
                task.command,
                task.done.absolute(),
                task_environment(task, self._logs),
                prefix=settings.container,
                ranks=task.ranks,
                notice=settings.notice,
            )
            for task in tasks
        ]
        modules = [f"module load {module}" for module in settings.modules]
        wanted: dict[str, Any] = {
            "job_name": f"wsss-{self._title}",
            "partition": settings.partition or None,
            "account": settings.account or None,
            "qos": settings.qos or None,
            "mem": settings.memory or None,
            "gpus_per_node": settings.gpus or None,
            "cpus_per_task": settings.cpus,
            "time": minutes(settings.time),
            "nodes": nodes if any(task.ranks for task in tasks) else 1,
            "ntasks_per_node": 1,
            "signal_delay_s": settings.notice,
            "stderr_to_stdout": True,
            "array_parallelism": settings.at_once or max(len(tasks), 1),
            # srun does not ask for the cores of its job by itself
            "setup": [
                "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK", *modules, *settings.setup
            ],
            "srun_args": list(settings.srun),
            "additional_parameters": {
                "requeue": True,
                "chdir": str(self._root.absolute()),
                **settings.sbatch,
            },
        }  # fmt: skip
        options = {f"slurm_{key}": value for key, value in wanted.items() if value is not None}
        try:
            with _outside_of_jobs():
                executor = submitit.AutoExecutor(
                    self._logs, cluster="slurm", slurm_max_num_timeout=settings.requeues
                )
                executor.update_parameters(**options)
                with executor.batch():
                    jobs = [executor.submit(command) for command in commands]
        except (utils.FailedJobError, utils.FailedSubmissionError) as refused:
            said = " ".join(str(refused).split())
            raise ValueError(
                f"Slurm does not take the jobs of {self._title}: {said}\n"
                f"See what {NAME} says of partition, account, qos, time, gpus, cpus, memory and "
                "sbatch."
            ) from None
        return [job.job_id for job in jobs]


def check_slurm(settings: TaskSettings, root: Path) -> None:
    """Raise ValueError or ImportError where no job can run, with what mends it."""
    if importlib.util.find_spec("submitit") is None:
        raise ImportError(
            "the engine slurm needs submitit, which is not installed: pip install 'submitit>=1.5.3'"
        )
    for program in ("sbatch", "squeue", "scontrol"):
        if shutil.which(program) is None:
            raise ValueError(
                f"the engine is slurm, but there is no {program} on the path of "
                f"{socket.gethostname()}; run this on a login node of the cluster (`module load "
                f"slurm` brings it at some), or set engine: local in {NAME}"
            )
    known = partitions()
    if not known:
        raise ValueError(
            "Slurm does not answer (`sinfo` fails); wait until it does, or set engine: local in "
            f"{NAME}"
        )
    if settings.partition:
        for name in settings.partition.split(","):
            if name not in known:
                raise ValueError(
                    f"{NAME}: partition '{name}' is none of this cluster; "
                    + did_you_mean(name, known)
                )
    for folder in (root.absolute(), log_folder(settings, root, "").absolute()):
        _check_shared(folder, settings.partition)


def partitions() -> list[str]:
    """The names of the cluster's partitions; none where Slurm does not answer."""
    return sorted(set((_output(["sinfo", "--noheader", "--format=%R"]) or "").split()))


def queue() -> dict[str, str] | None:
    """The state of all own jobs that are not done, by id; None where Slurm does not answer."""
    user = getpass.getuser()
    told = _output(["squeue", "--noheader", "--array", f"--user={user}", "--format=%i|%T|%r"])
    if told is None:
        return None
    found = {}
    for line in told.splitlines():
        job, state, reason = line.strip().split("|", 2)
        waits = f"waiting ({reason})" if reason not in ("None", "") else "waiting"
        found[job] = waits if state in ("PENDING", "REQUEUED", "CONFIGURING") else state.lower()
    return found


def cancel(file: Path) -> None:
    """Cancel the jobs that a file names, and wait until they are gone.

    Raises:
        ValueError: there is no Slurm here, which could tell.
        TimeoutError: they do not end.
    """
    ids = sorted(set(_known(file).values()))
    if not ids:
        return
    if shutil.which("scancel") is None:
        # they would go on writing into the folder, whatever it is made for by then
        raise ValueError(
            f"jobs of Slurm ({' '.join(ids)}) may still write into {file.parent}, and "
            f"{socket.gethostname()} cannot ask: run this on a login node of the cluster, or "
            f"delete {file} once they are gone"
        )
    subprocess.run(["scancel", *ids], capture_output=True, check=False)
    deadline = time.monotonic() + 120
    while (living := queue()) is None or living.keys() & set(ids):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the jobs {' '.join(ids)}, which work for other settings or code, do not end; "
                "stop them (`scancel`), and run the same command again"
            )
        time.sleep(0.5)


def _known(file: Path) -> dict[str, str]:
    """By task, the ids of jobs that a file names."""
    try:
        found = read_json(file)
    except (OSError, ValueError):
        return {}
    return {str(name): str(job) for name, job in found.items()} if isinstance(found, dict) else {}


def _check_shared(folder: Path, partition: str) -> None:
    """Raise ValueError for a folder that other nodes cannot see."""
    asked = ["sinfo", "--noheader", "--Node", "--format=%N"]
    if partition:
        asked.append(f"--partition={partition}")
    nodes = set((_output(asked) or "").split())
    if nodes <= {socket.gethostname(), socket.gethostname().partition(".")[0]}:
        return
    own = any(folder.is_relative_to(place) for place in ("/tmp", "/var/tmp", "/dev/shm"))
    if own or _filesystem(folder) in _OF_ONE_NODE:
        raise ValueError(
            f"{folder} lies on a disk of {socket.gethostname()} alone, which the nodes of the "
            "cluster do not see; move the project to a folder that all of them see, such as your "
            f"home, or name one with scratch in {NAME}"
        )


def _filesystem(folder: Path) -> str:
    """The kind of the file system that a folder lies on, such as nfs4; "" where that is unknown."""
    found: tuple[int, str] = (0, "")
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, place, kind, *_ = line.split()
            if folder.is_relative_to(place) and len(place) >= found[0]:
                found = len(place), kind
    return found[1]


def _reason(job: str) -> str:
    """Why a job ended, as Slurm knows it."""
    told = _output(["scontrol", "show", "job", "--oneliner", job]) or ""
    parts = dict(part.split("=", 1) for part in told.split() if "=" in part)
    if "JobState" in parts:
        node = parts.get("NodeList") or parts.get("BatchHost", "")
        where = f" on {node}" if node and node != "(null)" else ""
        code = parts.get("ExitCode", "")
        return f"job {job} ended as {parts['JobState']}, exit code {code}{where}"
    return f"job {job} is gone, and has not done its work"


def _output(command: Sequence[str]) -> str | None:
    """What a program prints; None where it fails or does not end."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


@contextlib.contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Without what a job that this process may itself run in says of its size."""
    kept = dict(os.environ)
    for name in kept:
        if name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")) and name != "SLURM_CONF":
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
