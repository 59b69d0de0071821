"""What every stage has: its place for files, its settings, its tracker, its last words."""

import csv
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from wsss.artifacts import Paths, atomic_path, write_json
from wsss.config.params import Params, load_params
from wsss.progress import show_log
from wsss.tracking import Tracker, open_tracker

__all__ = ["Run", "execute", "report_training"]

log = logging.getLogger(__name__)


Run = Callable[[Params, Paths, Tracker], None]


def report_training(
    name: str,
    history: Sequence[dict[str, float]],
    best: int,
    images_per_second: float,
    paths: Paths,
    tracker: Tracker,
    further: Mapping[str, float] | None = None,
) -> None:
    """Write reports/<name>.json with the best epoch, and <name>_curve.csv for DVC's plots.

    Args:
        name: the stage.
        history: per epoch the losses and scores.
        best: the epoch that was kept, 0-based.
        images_per_second: of training; 0 if all epochs were already done.
        paths: of the project.
        tracker: gets the best epoch's values, as best_<metric>, and the rate.
        further: values of the finished network, reported beside those of the epoch.
    """
    with atomic_path(paths.report(f"{name}_curve", ".csv")) as path, path.open("w") as file:
        writer = csv.DictWriter(file, ["epoch", *sorted(set(history[0]) - {"epoch"})])
        writer.writeheader()
        for row in history:
            writer.writerow({key: f"{value:.6g}" for key, value in row.items()})
    kept = history[best] | dict(further or {})
    values = {key: round(value, 6) for key, value in kept.items() if key != "epoch"}
    write_json(paths.report(name), {"best_epoch": best + 1, **values})
    tracker.metrics({f"best_{key}": value for key, value in values.items()}, step=len(history))
    if images_per_second:
        tracker.metrics({"images_per_second": images_per_second}, step=len(history))
        log.info("trained at %.1f images/s", images_per_second)


def execute(name: str, run: Run, upstream: tuple[str, ...] = ()) -> None:
    """Run a stage from the command line: settings in, tracker around, errors in plain words.

    Args:
        name: the stage, as in dvc.yaml and MLflow, such as "refine_cams@crf".
        run: the stage's own function.
        upstream: paths below the root that this stage reads; their hashes become tags.

    What a user can mend (ValueError, OSError) is printed as one message with exit code 1;
    anything else is a bug and keeps its traceback.
    """
    console = Console(stderr=True)
    show_log()
    paths = Paths(Path())  # not DVC_ROOT: in a queued experiment that is another folder
    try:
        params = load_params(paths.root / "params.yaml")
        with open_tracker(name, params, paths.root, upstream) as tracker:
            run(params, paths, tracker)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("WSSS_TRACEBACK"):
            raise
        console.print(f"[bold red]{name} stopped[/]")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
