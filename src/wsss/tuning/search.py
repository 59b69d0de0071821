"""Run the trials of a search in several processes."""

import importlib.util
import logging
import math
import multiprocessing
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wsss.artifacts import Paths
from wsss.checks import ConfigError
from wsss.progress import EVERY
from wsss.tracking import check_tracking, experiment_name
from wsss.tuning.base import holds
from wsss.tuning.objective import trial_folder
from wsss.tuning.plan import Plan, SearchSettings, make_plan
from wsss.tuning.retry import fail_dead_trials, sweep, worker_id
from wsss.tuning.route import make_route
from wsss.tuning.space import AS_IT_IS
from wsss.tuning.storage import (
    HEARTBEAT,
    choose_study,
    complete_trials,
    create_study,
    find_studies,
    open_storage,
)
from wsss.tuning.worker import STOPPED, Job, work

__all__ = ["Outcome", "Prepared", "join", "prepare", "run_in_processes"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    Attributes:
        complete: trials that were finished, those ended early among them.
        wanted: those asked for.
        lost: workers that died.
    """

    complete: int
    wanted: int
    lost: int


@dataclass(frozen=True)
class Prepared:
    """A search whose trials wait.

    Attributes:
        study: the Optuna study.
        job: what to tell the workers.
        wanted: how many trials wait.
        workers: how many are to run them.
        before: how many were finished before.
    """

    study: Any
    job: Job
    wanted: int
    workers: int
    before: int

    def outcome(self, lost: int) -> Outcome:
        """What came of it, once the workers have ended, of which so many died."""
        return Outcome(_num_finished(self.study) - self.before, self.wanted, lost)


def prepare(
    name: str,
    settings: SearchSettings,
    values: Mapping[str, Any],
    paths: Paths,
    *,
    trials: int | None = None,
    workers: int = 1,
    storage: str | None = None,
    timeout: float | None = None,
    heartbeat: float = HEARTBEAT,
) -> Prepared:
    """Check everything, make the Optuna study once, and queue the trials.

    Trials wait in the storage, and workers take them one by one; others may join (see `join`). The
    trial of a worker that is killed waits again, and the others go on.

    Args:
        name: of the search.
        settings: of the search.
        values: the plain tree of params.yaml, whose own values are tried first.
        paths: the project.
        trials: how many to run, at least 1, whatever there was before; None is settings.trials, or
            the whole grid.
        workers: at least 1; they share the cores.
        storage: see `open_storage`.
        timeout: seconds after which no trial starts.
        heartbeat: see `open_storage`.

    Raises:
        ValueError, OSError: the search cannot run here.
    """
    import optuna

    from wsss.densecrf import get_num_threads

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = make_plan(paths.root, name, settings, values)
    _check_sampler(plan)
    route = make_route(plan)
    route.check(paths)
    route.check_fresh(paths)
    check_tracking(paths.root, experiment_name(plan.params.machine.experiment, "trials"))
    study = create_study(route, paths, open_storage(name, paths, storage, heartbeat))
    fail_dead_trials(study)
    known, before = len(study.get_trials(deepcopy=False)), _num_finished(study)
    waiting = _queue_trials(study, plan, trials)
    wanted = waiting if trials is None else min(waiting, trials)
    if waiting > wanted:
        log.info(
            "%d more trials wait from before; `wsss tune run %s` without --trials runs all",
            waiting - wanted,
            name,
        )
    job = Job(
        name=name,
        settings=settings,
        values=dict(values),
        paths=paths,
        storage=storage,
        study_name=study.study_name,
        num_before=known,
        enough=before + wanted,
        num_threads=max(get_num_threads() // workers, 1),
        deadline=math.inf if timeout is None else time.time() + timeout,
        heartbeat=heartbeat,
        alone=workers == 1,
    )
    return Prepared(study, job, wanted, min(workers, wanted), before)


def run_in_processes(search: Prepared) -> Outcome:
    """Run the trials that wait in processes of this one.

    Raises:
        ValueError, OSError: a worker met what the user can mend.
        RuntimeError: a worker met a bug; its trace is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    problems = context.SimpleQueue()
    processes = [
        context.Process(target=work, args=(search.job, index, problems))  # which load images
        for index in range(search.workers)
    ]
    dead: set[str] = set()
    try:
        for process in processes:
            process.start()
        _watch({process: worker_id(process.pid or 0) for process in processes}, search, dead)
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()
        fail_dead_trials(search.study, dead)
        sweep(search.study, trial_folder(search.job.paths, search.job.study_name))
    if not problems.empty():
        raise ValueError(problems.get())
    failed = [code for process in processes if (code := process.exitcode)]
    if any(code > 0 and code != STOPPED for code in failed):
        raise RuntimeError("a worker stopped on an error; its trace is above")
    return search.outcome(len(failed))


def join(
    name: str,
    values: Mapping[str, Any],
    paths: Paths,
    *,
    study: str | None = None,
    storage: str | None = None,
    enough: int | None = None,
    limit: int | None = None,
    timeout: float | None = None,
    heartbeat: float = HEARTBEAT,
) -> Job:
    """What to tell a worker that joins a search which another process has started.

    Args:
        name: of the search.
        study: the name of the Optuna study to work on; None is the one that ran last.
        values: the plain tree of params.yaml.
        paths: the project, which holds the same data as where the search was started.
        storage: see `open_storage`.
        enough: see `Job`.
        limit: how many trials to run at most.
        timeout: seconds after which no trial starts.
        heartbeat: see `open_storage`.

    Raises:
        ValueError: no search of this name was started on these data and settings.
    """
    from wsss.densecrf import get_num_threads

    known = find_studies(name, values, paths, storage, empty=True, heartbeat=heartbeat)
    found = choose_study(known, study)
    found.route.check(paths)
    found.route.check_fresh(paths)
    return Job(
        name=name,
        settings=found.route.plan.settings,
        values=dict(values),
        paths=paths,
        storage=storage,
        study_name=found.name,
        num_before=len(found.study.get_trials(deepcopy=False)),
        num_threads=get_num_threads(),
        deadline=math.inf if timeout is None else time.time() + timeout,
        enough=enough,
        limit=limit,
        heartbeat=heartbeat,
    )


def _queue_trials(study: Any, plan: Plan, trials: int | None) -> int:
    """Let as many trials wait as are wanted, the values of params.yaml first; how many do."""
    from optuna.trial import TrialState, create_trial

    known = study.get_trials(deepcopy=False)
    waiting = [trial for trial in known if trial.state == TrialState.WAITING]
    tried = [trial for trial in known if trial.state != TrialState.FAIL]
    told = [trial.system_attrs.get("fixed_params") or trial.params for trial in tried]
    due: list[dict[str, Any]] = []
    first = plan.space.current()
    begun = first in told if first else any(AS_IT_IS in trial.user_attrs for trial in tried)
    if not begun:
        complete = complete_trials(study)
        if not any(holds(plan.params, trial.user_attrs["settings"]) for trial in complete):
            due.append(first)
    grid = plan.settings.sampler == "grid"
    if grid:
        due += [point for point in plan.space.grid() if point not in (*told, *due)]
    if trials is None:
        trials = max(len(due) + len(waiting), 1) if grid else plan.settings.trials
    for params in due[: max(trials - len(waiting), 0)]:
        study.enqueue_trial(params, user_attrs={AS_IT_IS: True} if params is first else None)
        waiting.append(params)
    if grid and not waiting:
        raise ValueError(
            f"{plan.space.source}: every value of the grid was tried; see `wsss tune show "
            f"{plan.name}`, or change its ranges"
        )
    while len(waiting) < trials and not grid:
        study.add_trial(create_trial(state=TrialState.WAITING))
        waiting.append(None)
    return len(waiting)


def _check_sampler(plan: Plan) -> None:
    """Raise ConfigError or ImportError where the sampler cannot do what is asked."""
    settings, source = plan.settings, plan.space.source
    if settings.sampler == "cmaes":
        if settings.seconds_per_image:
            raise ConfigError(
                f"{source}: cmaes has one objective; set seconds_per_image: false, or sampler: tpe"
            )
        if importlib.util.find_spec("cmaes") is None:
            raise ImportError(f"{source}: the sampler cmaes needs its package: pip install cmaes")
    if settings.sampler == "grid":
        next(plan.space.grid())


def _watch(ours: Mapping[Any, str], search: Prepared, dead: set[str]) -> None:
    """Wait for the workers beside a line of progress, on a terminal; give back what dead ones had.

    Args:
        ours: processes and the names of their workers.
        search: whose trials they run.
        dead: is told the workers that are gone.
    """
    study = search.study
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[best]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("trials", total=search.wanted, best="")
        shown = time.monotonic()
        while any(process.is_alive() for process in ours):
            for process in ours:
                process.join(0.5 / len(ours))
            gone = {name for process, name in ours.items() if process.exitcode is not None}
            if gone - dead:
                dead |= gone
                fail_dead_trials(study, dead)
            if not console.is_terminal and time.monotonic() - shown < EVERY:
                continue
            shown = time.monotonic()
            if done := complete_trials(study):
                best = f"best {done[0].values[0]:.4f} (trial {done[0].number})"
                count = _num_finished(study) - search.before
                progress.update(task, completed=count, best=best)
                if not console.is_terminal:
                    log.info("%d of %d trials, %s", count, search.wanted, best)
        dead |= set(ours.values())


def _num_finished(study: Any) -> int:
    """How many trials are done, those among them that were ended early."""
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=states))
