"""One process that runs trials until there are no more to run."""

import contextlib
import importlib
import importlib.util
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.artifacts import Paths
from wsss.config.params import Params
from wsss.pipeline.mishaps import explain
from wsss.registry import SEARCHES
from wsss.seeding import derive_seed
from wsss.settings import Named
from wsss.stages import find_stages
from wsss.tracking import (
    NullTracker,
    Tracker,
    experiment_name,
    open_tracker,
    prepare_mlflow,
    tracking_uri,
)
from wsss.tuning.base import Search, changed
from wsss.tuning.storage import FOLDER, open_storage, worker_id

__all__ = ["STOPPED", "Job", "run_trials", "work"]

log = logging.getLogger(__name__)

STOPPED = 130
"""Exit code of a worker that was asked to stop."""


@dataclass(frozen=True)
class Job:
    """What every worker of a search is told.

    Attributes:
        settings: of the search.
        params: params.yaml.
        paths: the project.
        storage: see `open_storage`.
        study_name: of the Optuna study, which exists.
        num_before: trials it has; part of the sampler's seed, so that going on draws anew.
        num_threads: of each worker.
        deadline: no trial starts after it, in seconds of `time.time`.
    """

    settings: Named
    params: Params
    paths: Paths
    storage: str | None
    study_name: str
    num_before: int
    num_threads: int
    deadline: float


def work(job: Job, index: int, tickets: Any, problems: Any) -> None:
    """Run trials in a process of its own; what a user can mend is told through `problems`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_trials(job, index, tickets)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        problems.put(text)
        sys.exit(1)


def run_trials(job: Job, index: int, tickets: Any) -> None:
    """Run one trial per ticket, each an MLflow run; stop at the deadline or without a parent.

    Args:
        job: what to do.
        index: of this worker, part of its sampler's seed.
        tickets: a semaphore that counts the trials left to start.
    """
    import optuna

    from wsss.densecrf import set_num_threads

    # whatever ends a trial ends the worker, too, which tells it; Optuna would trace a Ctrl-C
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    set_num_threads(job.num_threads)
    seed = derive_seed(job.params.base.rng_seed, "tune", job.study_name, index, job.num_before)
    search: Search = SEARCHES.build(job.settings)
    score = search.scorer(job.params, job.paths)
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri(job.paths.root)
    prepare_mlflow()
    if importlib.util.find_spec("mlflow"):
        importlib.import_module("mlflow")  # once here, not by a helper process per trial
    folder = job.paths.root / FOLDER
    folder.mkdir(exist_ok=True)
    pipeline = find_stages()
    target = pipeline.target(f"evaluate_refined@{search.chain}", job.params)
    tags = {
        "study": job.settings.name,
        "study.key": job.study_name,
        "stage": f"tune_{job.settings.name}",
    }

    def objective(trial: Any) -> float:
        trial.set_user_attr("worker", worker_id(os.getpid()))
        settings = search.suggest(trial, job.params)
        trial.set_user_attr("settings", settings)
        params = changed(job.params, settings)
        own = {"trial": str(trial.number), "mlflow.runName": f"{tags['stage']} {trial.number}"}
        # workers remember their runs apart; below the root, so that git is found
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix="trial-") as root,
            contextlib.ExitStack() as runs,
        ):
            opening = open_tracker(
                target.name,
                Path(root),
                experiment_name(job.params.machine.experiment, "trials"),
                pipeline.settings(target, params),
                key=job.study_name,
                tags=tags | own,
            )
            tracker: Tracker
            try:
                tracker = runs.enter_context(opening)
            except ConnectionError as error:  # the score is kept with the trial
                log.warning("trial %d has no run in MLflow: %s", trial.number, error)
                tracker = NullTracker()
            started = time.perf_counter()
            found = score(params)
            seconds = time.perf_counter() - started
            metric = job.params.evaluate.select_by
            tracker.metrics(
                {f"selection/{metric}": found.value, "threshold": found.threshold}
                | {"value": found.value, "seconds": seconds}
            )
        trial.set_user_attr("threshold", found.threshold)
        trial.set_user_attr("seconds", round(seconds, 3))
        return found.value

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # what stands in params.yaml may lie outside the ranges
        warnings.filterwarnings("ignore", message="Fixed parameter .* is out of range")
        # group: gt_prob, threshold and alpha are drawn in some trials only
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, multivariate=True, group=True)
        study = optuna.load_study(
            study_name=job.study_name,
            storage=open_storage(job.settings.name, job.paths, job.storage),
            sampler=sampler,
        )
        parent = multiprocessing.parent_process()
        while (
            time.time() < job.deadline
            and (parent is None or parent.is_alive())
            and tickets.acquire(False)
        ):
            study.optimize(objective, n_trials=1)
