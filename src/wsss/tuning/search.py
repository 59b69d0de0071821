"""Run the trials of a search in several processes."""

import math
import multiprocessing
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wsss.artifacts import Paths
from wsss.config.params import Params
from wsss.registry import SEARCHES
from wsss.settings import Named
from wsss.tracking import check_tracking, experiment_name
from wsss.tuning.base import Search, holds
from wsss.tuning.storage import (
    complete_trials,
    create_study,
    fail_dead_trials,
    open_storage,
    worker_id,
)
from wsss.tuning.worker import STOPPED, Job, work

__all__ = ["Outcome", "prepare", "search"]


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    Attributes:
        complete: trials that were scored.
        wanted: those asked for.
        lost: workers that died.
    """

    complete: int
    wanted: int
    lost: int


def search(
    settings: Named,
    params: Params,
    paths: Paths,
    *,
    trials: int = 40,
    workers: int = 1,
    storage: str | None = None,
    timeout: float | None = None,
) -> Outcome:
    """Add trials to a search.

    Workers take trials one by one until `trials` are done, whatever it had before. A
    worker that is killed loses its trial, which does not count; the others go on.

    Args:
        settings: of the search.
        params: params.yaml, whose own values are tried first.
        paths: the project.
        trials: how many to complete, at least 1.
        workers: processes, at least 1; they share the cores.
        storage: see `open_storage`.
        timeout: seconds after which no trial starts.

    Raises:
        ValueError, OSError: the search cannot run here, or a worker met what the user can mend.
        RuntimeError: a worker met a bug; its trace is on stderr.
    """
    workers = min(workers, trials)
    study, job = prepare(settings, params, paths, workers, storage, timeout)
    context = multiprocessing.get_context("spawn")
    tickets, problems = context.Semaphore(trials), context.SimpleQueue()
    processes = [
        context.Process(target=work, args=(job, index, tickets, problems), daemon=True)
        for index in range(workers)
    ]
    try:
        for process in processes:
            process.start()
        ours = {worker_id(process.pid or 0) for process in processes}
        _watch(processes, study, ours, trials)
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()
        fail_dead_trials(study)
    if not problems.empty():
        raise ValueError(problems.get())
    failed = [code for process in processes if (code := process.exitcode)]
    if any(code > 0 and code != STOPPED for code in failed):
        raise RuntimeError("a worker stopped on an error; its trace is above")
    return Outcome(len(_of(study, ours)), trials, len(failed))


def prepare(
    settings: Named,
    params: Params,
    paths: Paths,
    workers: int = 1,
    storage: str | None = None,
    timeout: float | None = None,
) -> tuple[Any, Job]:
    """Make the Optuna study once, before workers start, and queue what params.yaml has.

    Returns:
        The Optuna study, and what to tell the workers.
    """
    import optuna
    from optuna.trial import TrialState

    from wsss.densecrf import get_num_threads

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search: Search = SEARCHES.build(settings)
    search.check(params, paths)
    check_tracking(paths.root, experiment_name(params.machine.experiment, "trials"))
    opened = open_storage(settings.name, paths, storage)
    study = create_study(settings, params, paths, opened)
    fail_dead_trials(study)
    known = study.get_trials(deepcopy=False)
    first = search.current(params)
    due = any(
        (item.state == TrialState.WAITING and item.user_attrs.get("current") == first)
        for item in known
    ) or any(holds(params, item.user_attrs["settings"]) for item in complete_trials(study))
    if not due:
        study.enqueue_trial(first, user_attrs={"current": first})
    return study, Job(
        settings=settings,
        params=params,
        paths=paths,
        storage=storage,
        study_name=study.study_name,
        num_before=len(known),
        num_threads=max(get_num_threads() // workers, 1),
        deadline=math.inf if timeout is None else time.time() + timeout,
    )


def _watch(processes: list[Any], study: Any, ours: set[str], trials: int) -> None:
    """Wait for the workers beside a line of progress, on a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[best]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("trials", total=trials, best="")
        while any(process.is_alive() for process in processes):
            for process in processes:
                process.join(0.5 / len(processes))
            if console.is_terminal and (done := complete_trials(study)):
                best = f"best {done[0].value:.4f} (trial {done[0].number})"
                progress.update(task, completed=len(_of(study, ours)), best=best)


def _of(study: Any, workers: set[str]) -> list[Any]:
    return [trial for trial in complete_trials(study) if trial.user_attrs.get("worker") in workers]
