"""One process that takes trials from the queue until there are none."""

import importlib
import importlib.util
import logging
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from wsss.artifacts import Paths
from wsss.pipeline.mishaps import explain
from wsss.seeding import derive_seed
from wsss.tracking import prepare_mlflow, tracking_uri
from wsss.tuning.objective import Objective, trial_folder
from wsss.tuning.plan import SearchSettings, make_plan
from wsss.tuning.retry import fail_dead_trials, retry, sweep
from wsss.tuning.route import make_route
from wsss.tuning.storage import HEARTBEAT, open_storage

__all__ = ["STOPPED", "Job", "run_trials", "work"]

log = logging.getLogger(__name__)

STOPPED = 130
"""Exit code of a worker that was asked to stop."""

_POLL = 2.0  # seconds between two looks whether a trial has come back into the queue


@dataclass(frozen=True)
class Job:
    """What every worker of a search is told.

    Attributes:
        name: of the search.
        settings: of the search.
        values: the plain tree of params.yaml.
        paths: the project.
        storage: see `open_storage`.
        study_name: of the Optuna study, which exists.
        num_before: trials it has; part of the sampler's seed, so that going on draws anew.
        enough: trials that are done or running at which no other one starts; None runs all that
            wait.
        num_threads: of each worker.
        deadline: no trial starts after it, in seconds of `time.time`.
        limit: trials that this worker runs at most; None is all.
        heartbeat: see `open_storage`.
        alone: whether no other worker shares the machine.
    """

    name: str
    settings: SearchSettings
    values: Mapping[str, Any]
    paths: Paths
    storage: str | None
    study_name: str
    num_before: int
    num_threads: int
    deadline: float
    enough: int | None = None
    limit: int | None = None
    heartbeat: float = HEARTBEAT
    alone: bool = True


def work(job: Job, index: int, problems: Any) -> None:
    """Run trials in a process of its own; what a user can mend is told through `problems`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_trials(job, index)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        problems.put(text)
        sys.exit(1)


def run_trials(job: Job, index: int | str) -> int:
    """Run the trials that wait, each an MLflow run.

    A worker stays as long as others run a trial, which may come back; it leaves when none is left,
    at the deadline, or without its parent. One that is asked to leave gives its trial back.

    Args:
        job: what to do.
        index: of this worker, part of its sampler's seed.

    Returns:
        How many trials it has run.
    """
    import optuna

    from wsss.densecrf import set_num_threads

    # whatever ends a trial ends the worker, too, which tells it; Optuna would trace a Ctrl-C
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    set_num_threads(job.num_threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(job.num_threads))  # read when torch is imported
    plan = make_plan(job.paths.root, job.name, job.settings, job.values)
    route = make_route(plan)
    loaders = {} if job.alone else {"num_workers": max(job.num_threads - 1, 0)}
    if plan.params.machine.num_workers != "auto":
        loaders = {}
    objective = Objective(route, job.paths, job.study_name, loaders)
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri(job.paths.root)
    prepare_mlflow()
    if importlib.util.find_spec("mlflow"):
        importlib.import_module("mlflow")  # once here, not by a helper process per trial
    done = 0
    with warnings.catch_warnings(), _errors_alone("wsss.pipeline.job"):  # warnings are tags of runs
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # what stands in params.yaml may lie outside the ranges
        warnings.filterwarnings("ignore", message="Fixed parameter .* is out of range")
        warnings.filterwarnings("ignore", message="The `srun` command is available")
        # a trial that goes on has reported its first epochs already
        warnings.filterwarnings("ignore", message="The reported value is ignored")
        seed = job.settings.seed
        if seed is None:
            seed = plan.params.base.rng_seed
        study = _queue()(
            job.study_name,
            open_storage(job.name, job.paths, job.storage, job.heartbeat),
            _sampler(job, derive_seed(seed, "tune", job.study_name, index, job.num_before)),
            _pruner(job.settings),
        )
        parent = multiprocessing.parent_process()
        folder = trial_folder(job.paths, job.study_name)
        sweep(study, folder)
        while (
            time.time() < job.deadline
            and (parent is None or parent.is_alive())
            and (job.limit is None or done < job.limit)
            and (job.enough is None or _started(study) < job.enough)
        ):
            try:
                if not study.waiting():
                    raise _NothingWaits
                objective.prepare()
                study.optimize(objective, n_trials=1)
                done += 1
            except _NothingWaits:
                if not _others_run(study):
                    break
                time.sleep(min(_POLL, job.heartbeat))
                fail_dead_trials(study)
            except KeyboardInterrupt:
                _give_back(study, objective.number)
                raise
        sweep(study, folder)
    return done


@contextmanager
def _errors_alone(logger: str) -> Iterator[None]:
    """Within the block, a logger's warnings are not shown."""
    held = logging.getLogger(logger)
    before = held.level
    held.setLevel(logging.ERROR)
    try:
        yield
    finally:
        held.setLevel(before)


class _NothingWaits(Exception):
    """The queue is empty."""


def _queue() -> Any:
    """The class of a study that runs the trials which wait, and makes none of its own.

    Taking one is a single step in the storage, so that no two workers take the same, and as many
    run as were asked for, however many workers there are.
    """
    import optuna
    from optuna.trial import TrialState

    class Queue(optuna.Study):  # type: ignore[misc]
        def waiting(self) -> bool:
            return bool(self.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

        def _pop_waiting_trial_id(self) -> int:
            found: int | None = super()._pop_waiting_trial_id()
            if found is None:
                raise _NothingWaits
            return found

    return Queue


def _sampler(job: Job, seed: int) -> Any:
    import optuna

    seed %= 2**32
    if job.settings.sampler == "tpe":
        # group: ranges with a `when` are drawn in some trials only
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    if job.settings.sampler == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)  # of a grid, all trials are told their values


def _pruner(settings: SearchSettings) -> Any:
    import optuna

    prune = settings.prune
    if prune is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=prune.trials, n_warmup_steps=prune.epochs)


def _started(study: Any) -> int:
    """How many trials are done or run."""
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return len(study.get_trials(deepcopy=False, states=states))


def _others_run(study: Any) -> bool:
    from optuna.trial import TrialState

    return bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)))


def _give_back(study: Any, number: int) -> None:
    """Put the trial that this worker has left into the queue again."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    if 0 <= number < len(trials) and trials[number].state == TrialState.FAIL:
        retry(study, trials[number], blame=False)
