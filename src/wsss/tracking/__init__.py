"""Where runs are recorded: MLflow when it is installed, nowhere otherwise."""

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wsss.tracking._base import NullTracker, RunTracker, Tracker

__all__ = ["NullTracker", "Tracker", "open_tracker", "prepare_mlflow", "tracking_uri"]

_logger = logging.getLogger(__name__)


@contextmanager
def open_tracker(
    stage: str,
    root: Path,
    experiment: str,
    settings: Mapping[str, Any],
    *,
    key: str,
    inputs: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[Tracker]:
    """Open the run of one stage; leaving the block ends it as FINISHED, FAILED or KILLED.

    A run that was killed or interrupted goes on under its old id when the stage starts
    again with the same settings, inputs and code. Importing MLflow takes seconds, so a
    helper process records the run, unless MLflow is imported here already.

    Args:
        stage: its name in dvc.yaml, such as "refine_cams@crf".
        root: the folder that holds reports/.
        experiment: the MLflow experiment.
        settings: of the stage and of all that it depends on, as a tree of plain values.
        key: a hash of all that decides the results.
        inputs: by path, a hash of what the stage reads; they become tags.
        tags: further tags, such as a trial's study.

    Yields:
        The tracker. Without MLflow, and in all but the first of several processes that
        train together, it records nothing.

    Raises:
        ConnectionError: MLflow can not record. For a server that is before the block starts;
            for the project's own database at the next word to the tracker. Once the run
            exists, trouble with MLflow is logged and the block goes on.
    """
    if any(os.environ.get(rank, "0") != "0" for rank in ("RANK", "LOCAL_RANK", "NODE_RANK")):
        yield NullTracker()
        return
    if importlib.util.find_spec("mlflow") is None:
        _logger.info("Not tracked: MLflow is not installed (pip install mlflow)")
        yield NullTracker()
        return
    from wsss.tracking.provenance import run_start

    start = run_start(
        stage,
        root,
        tracking_uri(root),
        experiment,
        settings,
        key=key,
        inputs=inputs or {},
        tags=tags or {},
    )
    prepare_mlflow()
    tracker: RunTracker
    if "mlflow" in sys.modules:
        from wsss.tracking.mlflow_tracker import MlflowTracker

        tracker = MlflowTracker(start)
    else:
        from wsss.tracking.recorder import Recorder

        tracker = Recorder(start)
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


def prepare_mlflow() -> None:
    """Set what MLflow reads when it is imported and used; what the user has set stays."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # a server that is away must be noticed within seconds
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # it prints a server's address with the login in it
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, else the database mlflow.db in DVC's root (without DVC, in `root`).

    A queued DVC experiment runs in a temporary copy, where DVC_ROOT names the real project.
    """
    home = Path(os.environ.get("DVC_ROOT") or root).absolute()
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.as_posix()}/mlflow.db"
