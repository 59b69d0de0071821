"""Running commands as tasks: what is done stays done, what failed is started again.

A task is done when its done-file is there, and by nothing else: whoever comes later, after a crash
of any of the processes, sees by these files what is left to do.
"""

import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from wsss.launch.site import TaskSettings
from wsss.launch.task import (
    JOBS,
    Engine,
    Failure,
    Task,
    TasksFailedError,
    check_scratch,
    log_folder,
)
from wsss.launch.waiting import Waiting

__all__ = ["check_all_done", "run_tasks", "stop_jobs"]

log = logging.getLogger(__name__)

_LINES = 25  # of a log that are shown


def run_tasks(
    tasks: Sequence[Task],
    settings: TaskSettings,
    root: Path,
    title: str,
    *,
    folder: Path | None = None,
) -> list[Failure]:
    """Run commands as tasks, wait until all have ended, and say which failed.

    A bar shows how far they are, or a line a minute off a terminal. What has its done-file is not
    run; what failed is started again, `settings.restarts` times at most, and not at all once there
    were as many failures as tasks and nothing is done: that would not help.

    Args:
        tasks: what is to be done, in any order; names differ.
        settings: the engine, and what it has to know. "inline" runs one task at a time.
        root: the project.
        title: what is done, such as "generate_cams"; names the jobs and their logs.
        folder: where the ids of jobs are kept, so that a later call waits for jobs that run
            already; by default that of the logs.

    Returns:
        What failed, in order; empty when all is done.

    Raises:
        ValueError, ImportError: the engine cannot run here; said before anything is started.
    """
    missing = [task for task in tasks if not task.done.exists()]
    if not missing:
        return []
    logs = log_folder(settings, root, title)
    prepared = _engine(settings, root, title, logs, folder or logs)
    logs.mkdir(parents=True, exist_ok=True)
    attempts: Counter[str] = Counter()
    failed: dict[str, Failure] = {}
    with (
        prepared as engine,
        Waiting(title, [task.progress(logs) for task in missing]) as waiting,
    ):
        running = list(engine.adopt(missing))
        if running:
            log.info("%s: %d of its tasks run already; waiting for them", title, len(running))
        else:  # what is there is of earlier times
            for kind in ("*.log", "*.out", "*.pkl", "*.sh"):
                for old in logs.glob(kind):
                    old.unlink()
        fresh = [task for task in missing if task not in running]
        for task in fresh:
            task.progress(logs).unlink(missing_ok=True)
        engine.start(fresh)
        left, succeeded = {task.name: task for task in missing}, len(missing) < len(tasks)
        while left:
            ended, states = engine.look()
            again = []
            for end in ended:
                name = end.task.name
                if end.task.done.exists():
                    del left[name]
                    succeeded = True
                    continue
                attempts[name] += 1
                hopeless = not succeeded and attempts.total() >= len(missing) > 1
                if attempts[name] > settings.restarts or hopeless:
                    failed[name] = Failure(name, end.reason, end.log)
                    del left[name]
                    continue
                again.append(end.task)
                log.warning(
                    "%s, %s: %s; started again (%d of %d)",
                    *(title, name, end.reason, attempts[name], settings.restarts),
                )
            if again:
                engine.start(again)
            waiting.show({task.progress(logs) for task in left.values()}, states)
            if left and not ended:
                time.sleep(engine.poll)
    if not failed:
        ((folder or logs) / JOBS).unlink(missing_ok=True)
    return [failed[task.name] for task in missing if task.name in failed]


def check_all_done(failed: Sequence[Failure], title: str) -> None:
    """Raise TasksFailedError if there are failures, with what the first of them wrote last."""
    if not failed:
        return
    first, others = failed[0], failed[1:]
    lines = [f"{title}: {len(failed)} task{'s' * bool(others)} failed."]
    lines += [str(first), *(f"  | {line}" for line in _last_lines(first.log))]
    lines += [*map(str, others[:5]), *([f"and {len(others) - 5} more"] * (len(others) > 5))]
    lines.append("Run the same command again: it goes on with what is done.")
    raise TasksFailedError("\n".join(lines))


def stop_jobs(folder: Path) -> None:
    """Stop the jobs of a cluster that work for a folder, before it is deleted under them."""
    if (folder / JOBS).exists():
        from wsss.launch.slurm import cancel

        cancel(folder / JOBS)


def _engine(
    settings: TaskSettings, root: Path, title: str, logs: Path, folder: Path
) -> AbstractContextManager[Engine]:
    check_scratch(settings)
    if settings.engine == "slurm":
        from wsss.launch.slurm import SlurmEngine, check_slurm

        check_slurm(settings, root)
        return SlurmEngine(settings, root, title, logs, folder / JOBS)
    from wsss.launch.local import LocalEngine, places

    stop_jobs(folder)  # that are left of earlier times, as tasks here do their work
    at_once = 1 if settings.engine == "inline" else settings.at_once
    return LocalEngine(logs, at_once or settings.parts(sys.maxsize, places()))


def _last_lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [f"{file} cannot be read; the job may have ended before it could write"]
    width = shutil.get_terminal_size((200, 20)).columns
    lines = [line.rstrip()[: 4 * width] for line in text.splitlines() if line.strip()]
    return lines[-_LINES:]
