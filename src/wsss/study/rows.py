"""The rows of a study as tasks beside one another; what rows share, one of them makes."""

from collections.abc import Sequence
from pathlib import Path

from wsss.launch import Task, TaskSettings, check_all_done, run_tasks
from wsss.launch.task import log_folder, python_of
from wsss.study.plan import Plan, row_params
from wsss.study.run import wanted_rows
from wsss.tracking import check_tracking, experiment_name

__all__ = ["run_rows"]


def run_rows(
    root: Path,
    name: str,
    plan: Plan,
    size: str,
    settings: TaskSettings,
    *,
    rows: Sequence[str] = (),
    seeds: int = 1,
    ignore_code: bool = False,
) -> None:
    """Run what is missing of a study, a task per row and seed; see `wsss.study.run.run_study`.

    Args:
        root: the project.
        name: of the study.
        plan: what it compares.
        size: a name in plan.sizes.
        settings: the engine.
        rows: those to run; empty is all.
        seeds: how often each of plan.repeated runs.
        ignore_code: keep results of older code where the settings are the same.

    Raises:
        ValueError: a row's settings do not fit, or the engine cannot run here; before anything
            runs.
        TasksFailedError: a row failed more often than it may.
        ConnectionError: MLflow cannot record (before anything runs).
    """
    wanted = wanted_rows(plan, rows, seeds)
    experiments = {row_params(root, plan, row, size).machine.experiment for row, _ in wanted}
    for experiment in experiments:
        check_tracking(root, experiment_name(experiment, "studies"))
    title = f"study-{name}-{size}"
    logs = log_folder(settings, root, title)
    tasks = []
    for row, seed in wanted:
        command = [python_of(settings), "-m", "wsss.study", name, size, row, str(seed)]
        label = f"row {row} seed {seed}"
        done = logs / f"{row}-{seed}.done"
        done.unlink(missing_ok=True)  # whether a row is done it sees itself, in seconds
        tasks.append(Task(label, (*command, *(["--ignore-code"] * ignore_code)), done))
    check_all_done(run_tasks(tasks, settings, root, title), f"the study {name}")
