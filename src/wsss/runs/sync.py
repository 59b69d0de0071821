"""A run for each result that is there, whoever made it: what DVC skips or restores makes none."""

import logging
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.artifacts import Paths, read_json
from wsss.commands import has_dvc
from wsss.config.params import Params, load_params
from wsss.pipeline import Job, Target
from wsss.pipeline.in_order import is_there
from wsss.pipeline.lock import changed_stages
from wsss.pipeline.origin import open_stage_run
from wsss.pipeline.outcome import record_epochs, record_outcome
from wsss.progress import show_log
from wsss.runs.experiment import record_experiment
from wsss.runs.seen import remember
from wsss.stages import find_stages
from wsss.tracking import (
    NullTracker,
    experiment_name,
    has_mlflow,
    known_runs,
    prepare_mlflow,
    send_unsent,
    tracking_uri,
    was_lost,
)
from wsss.tracking.provenance import run_record, write_record
from wsss.tracking.usable import SYNC

__all__ = ["Synced", "main", "sync_after_run", "sync_runs"]

log = logging.getLogger(__name__)

RESTORED = {"restored": "true"}
"""The tag of runs of results that were not made when the run was recorded."""


@dataclass(frozen=True)
class Synced:
    """What a look through the runs came to.

    Attributes:
        restored: stages whose results had no run, and have one now.
        stale: stages whose results are not those of params.yaml and the code, or not there.
        experiment: the id of the run of the whole experiment; "" while a stage is stale.
    """

    restored: tuple[str, ...]
    stale: tuple[str, ...]
    experiment: str = ""


def main() -> None:
    """Look through the runs at the end of a `dvc repro`; a lost MLflow does not stop it."""
    show_log()
    root = Path()
    try:
        sync_runs(root, load_params(root / "params.yaml"))
    except KeyboardInterrupt:
        log.warning("Stopped by Ctrl-C%s", SYNC)
        sys.exit(130)
    except (ValueError, OSError) as error:
        log.warning("%s%s", str(error).removesuffix(SYNC), SYNC)


def sync_after_run(root: Path, params: Params, stale: Collection[str]) -> None:
    """Look through the runs at the end of a `wsss run`; a lost MLflow does not stop it.

    Args:
        root: the project.
        params: its settings.
        stale: the stages whose results are of something else.
    """
    try:
        sync_runs(root, params, stale)
    except (ValueError, OSError) as error:
        log.warning("%s%s", str(error).removesuffix(SYNC), SYNC)


def sync_runs(root: Path, params: Params, stale: Collection[str] | None = None) -> Synced:
    """See that every result has a run with its scores and pictures, and the experiment its own.

    First, MLflow is told what it missed of runs while it was away.

    A result that has none, as DVC restored it or took it for unchanged, gets one that is marked as
    restored. Pictures that are missing below reports/ are drawn anew.

    Args:
        root: the project.
        params: its settings.
        stale: the stages whose results are of something else; None asks DVC, or the notes of
            `wsss run` where there is none.

    Raises:
        ConnectionError: MLflow cannot be asked.
    """
    if not has_mlflow():
        log.info("No runs are recorded: MLflow is not installed (pip install mlflow)")
        return Synced((), ())
    prepare_mlflow()
    if late := send_unsent(root, tracking_uri(root)):
        log.info("told MLflow what it had missed of: %s", ", ".join(late))
    pipeline, paths = find_stages(), Paths(root)
    targets = [target for target in pipeline.targets(params) if not target.stage.is_idle(params)]
    changed: Collection[str] = () if stale is None else stale
    if stale is None and not os.environ.get("DVC_STAGE"):
        if has_dvc(root):
            changed = changed_stages(root)
        else:
            changed = {x.name for x in targets if not is_there(pipeline, x, params, root)}
    outdated = tuple(item.name for item in targets if _is_stale(item, params, paths, changed))
    jobs = [
        Job(pipeline, target, params, paths, NullTracker())
        for target in targets
        if target.name not in outdated
    ]
    experiment = experiment_name(params.machine.experiment, "stages")
    known = known_runs(tracking_uri(root), experiment, [job.key for job in jobs])
    restored = []
    for job in jobs:
        if job.key not in known:
            with open_stage_run(job, RESTORED) as tracker:
                job.tracker = tracker
                record_outcome(job)
                record_epochs(job)
            job.tracker = NullTracker()
            if was_lost(tracker):
                raise ConnectionError("MLflow was lost meanwhile; `wsss runs sync` goes on")
            restored.append(job.target.name)
        else:
            _point_to(root, job.target, known[job.key], job.key)
            if not _has_pictures(job):
                record_outcome(job)
    if restored:
        log.info("recorded in MLflow as restored: %s", ", ".join(restored))
    if outdated:
        return Synced(tuple(restored), outdated)
    tags = RESTORED if len(restored) == len(targets) else {}
    run_id = record_experiment(jobs, {job.target.name: _run_id(job) for job in jobs}, tags)
    remember(root, experiment_run=run_id)
    return Synced(tuple(restored), (), run_id)


def _is_stale(target: Target, params: Params, paths: Paths, changed: Collection[str]) -> bool:
    needed = [*target.inputs(params), *target.outs(params), target.stage.report_path(target.entry)]
    return target.name in changed or not all((paths.root / path).exists() for path in needed)


def _point_to(root: Path, target: Target, run_id: str, key: str) -> None:
    """Let the stage's record name the run of its result."""
    record = run_record(root, target.name)
    if _known(record) != {"run_id": run_id, "key": key, "status": "finished"}:
        write_record(record, run_id, key, "finished")


def _run_id(job: Job) -> str:
    return str(_known(run_record(job.paths.root, job.target.name)).get("run_id", ""))


def _known(record: Path) -> dict[str, Any]:
    """What a record of a run says; nothing where it is not there, or damaged."""
    try:
        known = read_json(record)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _has_pictures(job: Job) -> bool:
    stage, name = job.target.stage, job.target.report
    if not (stage.picture or stage.evaluates):
        return True
    return job.paths.report(f"{name}/panel", ".png").exists()
