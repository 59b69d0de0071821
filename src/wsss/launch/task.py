"""What a task is, and what is known of one that has ended."""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from wsss.artifacts import fingerprint
from wsss.launch.site import ENGINE, NAME, TaskSettings

__all__ = [
    "JOBS",
    "Ended",
    "Engine",
    "Failure",
    "Task",
    "TasksFailedError",
    "check_scratch",
    "log_folder",
    "python_of",
    "task_environment",
]

FOLDER = ".launch"
"""Where logs are, below the project, unless the site has another place."""

JOBS = ".work.jobs.json"
"""Which jobs of a cluster work for a folder; beside their work."""


@dataclass(frozen=True)
class Task:
    """A command that is run until it has ended well once.

    Attributes:
        name: of the task among the others, such as "part 1 of 8"; part of a file's name.
        command: the program and its arguments.
        done: a file that is made when it has ended well.
        environment: variables besides those of this process.
        ranks: processes that run it together, started by torchrun; 0 is one, without torchrun.
    """

    name: str
    command: tuple[str, ...]
    done: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ranks: int = 0

    def progress(self, folder: Path) -> Path:
        """Where the task says how far it is."""
        return folder / f"{self.file}.progress"

    @property
    def file(self) -> str:
        """Its name as that of a file."""
        return re.sub(r"[^\w.@=-]+", "_", self.name)


@dataclass(frozen=True)
class Ended:
    """A task that does not run any more.

    Attributes:
        task: which.
        reason: why it ended, such as "exit code 1".
        log: what it wrote.
    """

    task: Task
    reason: str
    log: Path


@dataclass(frozen=True)
class Failure:
    """A task that failed more often than it was started again.

    Attributes:
        name: of the task.
        reason: why it ended the last time.
        log: what it wrote.
    """

    name: str
    reason: str
    log: Path

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}; see {self.log}"


class TasksFailedError(OSError):
    """Tasks failed; the text says which, what they wrote last, and what to do."""


class Engine(Protocol):
    """Runs tasks; leaving it stops what cannot go on without it."""

    poll: float
    """Seconds between two looks."""

    def adopt(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Of these tasks, those that run already, as an earlier process started them."""

    def start(self, tasks: Sequence[Task]) -> None:
        """Start tasks."""

    def look(self) -> tuple[Sequence[Ended], Mapping[str, int]]:
        """What has ended since the last look, and how many tasks are in which state."""


def check_scratch(settings: TaskSettings) -> None:
    """Raise ValueError where scratch is a folder that cannot be used."""
    if not settings.scratch:
        return
    scratch = Path(os.path.expandvars(settings.scratch)).expanduser().absolute()
    if not scratch.is_dir():
        raise ValueError(
            f"{NAME}: scratch is '{settings.scratch}', which is no folder; make it "
            f"(mkdir -p {shlex.quote(str(scratch))}), or leave scratch out"
        )
    if not os.access(scratch, os.W_OK):
        raise ValueError(
            f"{NAME}: scratch is '{settings.scratch}', which may not be written; name another "
            "folder, or leave scratch out"
        )


def log_folder(settings: TaskSettings, root: Path, title: str) -> Path:
    """Where tasks write: .launch/<title> in the project, or a folder below scratch.

    That is <scratch>/wsss-<number of the user>/<project>-<hash of its place>/<title>, as scratch
    may hold what belongs to others, and to projects of the same name.
    """
    title = re.sub(r"[^\w.@=-]+", "_", title)
    if not settings.scratch:
        return root.absolute() / FOLDER / title
    scratch = Path(os.path.expandvars(settings.scratch)).expanduser().absolute()
    place = root.resolve()
    project = f"{place.name}-{fingerprint(str(place))[:8]}"
    return scratch / f"wsss-{os.getuid()}" / project / title


def task_environment(task: Task, logs: Path) -> dict[str, str]:
    """The variables of a task, besides those that it inherits."""
    own = {ENGINE: "inline", "WSSS_PROGRESS": str(task.progress(logs)), "PYTHONUNBUFFERED": "1"}
    return own | dict(task.environment)


def python_of(settings: TaskSettings) -> str:
    """The Python of the tasks' commands: the site's, or the one that runs here."""
    return settings.python or sys.executable
