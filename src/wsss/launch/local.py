"""Tasks as processes of this machine, which end with the one that started them."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wsss.cores import usable_cores
from wsss.launch.task import Ended, Task, task_environment
from wsss.stopping import stop_processes

__all__ = ["LocalEngine", "places"]

_GRACE = 10.0  # seconds from SIGTERM to SIGKILL


class LocalEngine:
    """Runs tasks here, so many at a time, each with its share of GPUs and cores.

    Args:
        logs: where they write, a file each.
        at_once: tasks that run at the same time at most.
    """

    poll = 0.05

    def __init__(self, logs: Path, at_once: int) -> None:
        self._logs, self._at_once = logs, at_once
        self._waiting: list[Task] = []
        self._running: dict[int, tuple[Task, subprocess.Popen[bytes]]] = {}
        self._gpus = _gpus()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stop_processes([process for _, process in self._running.values()], _GRACE)

    def adopt(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """None: they ended with the process that started them."""
        del tasks
        return ()

    def start(self, tasks: Sequence[Task]) -> None:
        """Start tasks as places become free."""
        self._waiting += tasks
        self._fill()

    def look(self) -> tuple[Sequence[Ended], Mapping[str, int]]:
        """What has ended since the last look, and how many run and wait."""
        ended = []
        for place, (task, process) in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[place]
            if code == 0:
                task.done.touch()
            ended.append(Ended(task, _reason(code), self._log(task)))
        self._fill()
        return ended, {"running": len(self._running), "waiting": len(self._waiting)}

    def _fill(self) -> None:
        for place in range(self._at_once):
            if self._waiting and place not in self._running:
                task = self._waiting.pop(0)
                self._running[place] = task, self._started(task, place)

    def _started(self, task: Task, place: int) -> "subprocess.Popen[Any]":
        """Start one, with the cores and the GPU of a place."""
        environment = os.environ | task_environment(task, self._logs)
        environment["WSSS_PARENT"] = str(os.getpid())  # it ends with this process
        environment["WSSS_TASKS_HERE"] = str(self._at_once)
        environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // self._at_once)))
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
        with self._log(task).open("ab") as written:
            return subprocess.Popen(
                task.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
            )

    def _log(self, task: Task) -> Path:
        return self._logs / f"{task.file}.log"


def places() -> int:
    """How many tasks this machine runs at a time: one per GPU, or per two cores."""
    return len(_gpus()) or max(1, usable_cores() // 2)


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu for gpu in chosen.split(",") if gpu.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(at) for at in range(count)]


def _reason(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    name = signal.Signals(-code).name
    memory = " (the system kills what needs more memory than there is)" * (name == "SIGKILL")
    return f"it was killed by {name}{memory}"
