"""Where runs are recorded: MLflow when it is installed, nowhere otherwise."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wsss.cores import is_first
from wsss.tracking._base import NullTracker, RunTracker, Table, Tracker
from wsss.tracking.database import database_file, finished_runs, tracking_uri
from wsss.tracking.environment import has_mlflow, prepare_mlflow
from wsss.tracking.provenance import Dataset, RunStart, run_start
from wsss.tracking.unsent import KeepingTracker, Unsent, send_unsent
from wsss.tracking.usable import check_database

__all__ = [
    "Dataset",
    "NullTracker",
    "RunStart",
    "Table",
    "Tracker",
    "check_tracking",
    "experiment_name",
    "has_mlflow",
    "known_runs",
    "open_run",
    "open_tracker",
    "prepare_mlflow",
    "send_unsent",
    "tracking_uri",
    "was_lost",
]

_logger = logging.getLogger(__name__)


def experiment_name(experiment: str, kind: str) -> str:
    """Name MLflow's experiment for one kind of runs.

    The runs page shows one experiment: what a person compares first, one run per experiment of the
    pipeline, has the plain name, and is not hidden among stages and trials.

    Args:
        experiment: machine.experiment.
        kind: "" for whole experiments; "stages", "trials", "studies" or "comparisons".

    Example:
        >>> experiment_name("wsss", "stages")
        'wsss stages'
    """
    return f"{experiment} {kind}".strip()


def known_runs(uri: str, experiment: str, keys: Sequence[str]) -> dict[str, str]:
    """Find the finished runs of keys, in the project's database without importing MLflow.

    Args:
        uri: where MLflow is.
        experiment: its name there.
        keys: as runs were opened with.

    Returns:
        By key the id of the latest run; keys without one are left out.

    Raises:
        ConnectionError: a server cannot be asked.
    """
    database = database_file(uri)
    if database is None:
        from wsss.tracking.mlflow_tracker import find_runs

        return find_runs(uri, experiment, keys)
    found = finished_runs(database, experiment)
    return {key: found[key] for key in keys if key in found}


def check_tracking(root: Path, experiment: str = "") -> None:
    """Make sure, before long work, that its runs can be recorded; see `open_tracker`.

    Args:
        root: the project; only its own database is looked at, and no server.
        experiment: MLflow's name for the runs; "" of none.

    Raises:
        ConnectionError: they cannot; the text says why, and what to do.
    """
    uri = tracking_uri(root)
    database = database_file(uri)
    if database is not None and is_first() and has_mlflow():
        check_database(database, uri, experiment)


def was_lost(tracker: Tracker) -> bool:
    """Whether MLflow was lost while a run was recorded, as is known once the run has ended."""
    return getattr(tracker, "run_id", None) == ""


@contextmanager
def open_tracker(
    stage: str,
    root: Path,
    experiment: str,
    settings: Mapping[str, Any],
    *,
    key: str,
    name: str = "",
    inputs: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    datasets: Sequence[Dataset] = (),
    description: str = "",
) -> Iterator[Tracker]:
    """Open the run of one stage; leaving the block ends it as FINISHED, FAILED or KILLED.

    A run that was killed or interrupted goes on under its old id when the stage starts
    again under the same key. Importing MLflow takes seconds, so a helper process records the run,
    unless MLflow is imported here already.

    Args:
        stage: its name in dvc.yaml, such as "refine_cams@crf".
        root: the folder that holds reports/, and the database unless MLflow is elsewhere.
        experiment: MLflow's name for the runs that this one is listed with.
        settings: all that the stage and those before it depend on, as a tree.
        key: a hash of settings, inputs and code.
        name: of the run; without one, that of the stage.
        inputs: hashes of what the stage reads, by path; they become tags.
        tags: further tags, such as a trial's study.
        datasets: the images that are read.
        description: what MLflow shows above the run.

    Yields:
        The tracker. Without MLflow, and in all but the first of several processes that
        train together, it records nothing.

    Raises:
        ConnectionError: MLflow cannot record, which is known before the block starts. Trouble that
            comes later is logged and the block goes on.
    """
    if not is_first():
        yield NullTracker()
        return
    if not has_mlflow():
        _logger.info("Not tracked: MLflow is not installed (pip install mlflow)")
        yield NullTracker()
        return
    start = run_start(
        stage,
        root,
        tracking_uri(root),
        experiment,
        settings,
        key=key,
        name=name,
        inputs=inputs,
        tags=tags,
        datasets=datasets,
        description=description,
    )
    with open_run(start) as tracker:
        yield tracker


@contextmanager
def open_run(start: RunStart) -> Iterator[RunTracker]:
    """Open a run of anything; see `open_tracker`."""
    prepare_mlflow()
    tracker: RunTracker
    if "mlflow" in sys.modules:
        from wsss.tracking.mlflow_tracker import MlflowTracker

        tracker = MlflowTracker(start)
    else:
        from wsss.tracking.helper import HelperTracker

        tracker = HelperTracker(start)
    if unsent := Unsent.of(start):
        tracker = KeepingTracker(tracker, unsent, start.key)
    try:
        yield tracker
    except BaseException as error:
        with suppress(ConnectionError):  # the stage's own error is the one to see
            if isinstance(error, KeyboardInterrupt):
                tracker.end("KILLED")
            else:
                tracker.end("FAILED", f"{type(error).__name__}: {error}")
        raise
    tracker.end("FINISHED")
    if tracker.run_id:  # a stage that is killed before it knows of that goes on with its run
        start.remember(tracker.run_id, "finished")
