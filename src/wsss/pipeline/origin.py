"""How the run of a stage is named and described, so that two scores can be told apart."""

import inspect
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from wsss.config.params import Params, parse_params
from wsss.config.yaml_text import load_yaml
from wsss.pipeline.graph import Pipeline, Target
from wsss.pipeline.job import Job
from wsss.pipeline.names import data_digest
from wsss.pipeline.stage import Stage
from wsss.settings import ConfigError
from wsss.tracking import Dataset, Tracker, experiment_name, open_tracker
from wsss.tracking.naming import changed_settings, short_name
from wsss.tracking.provenance import flatten

__all__ = ["committed_params", "datasets", "first_line", "open_stage_run", "target_changes"]


def open_stage_run(
    job: Job, tags: Mapping[str, str] | None = None
) -> AbstractContextManager[Tracker]:
    """Open the run of a stage; see `wsss.tracking.open_tracker`.

    Args:
        job: the stage.
        tags: further ones.
    """
    changes = target_changes(job.pipeline, job.target, job.params, committed_params(job.paths.root))
    return open_tracker(
        job.target.name,
        job.paths.root,
        experiment_name(job.params.machine.experiment, "stages"),
        job.pipeline.settings(job.target, job.params),
        key=job.key,
        name=f"{job.target.name} {short_name(changes)}".strip(),
        inputs=job.inputs,
        tags={"recipe": job.params.base.recipe, **(tags or {})},
        datasets=datasets(job),
        description=_description(job),
    )


def target_changes(
    pipeline: Pipeline, target: Target, params: Params, others: Params | None
) -> dict[str, str]:
    """Find the settings of a target, and of all before it, that differ from others; by key."""
    if others is None:
        return {}
    if target.entry not in target.stage.entries_to_run(others):
        return {f"{target.stage.foreach}.{target.entry}": "new"}
    settings = dict(flatten(pipeline.settings(target, params)))
    return changed_settings(settings, dict(flatten(pipeline.settings(target, others))))


def committed_params(root: Path) -> Params | None:
    """Read params.yaml as the last commit has it; None where that is not to be had."""
    command = ["git", "-C", str(root.absolute()), "show", "HEAD:./params.yaml"]
    try:
        found = subprocess.run(command, capture_output=True, check=True)
        return parse_params(load_yaml(found.stdout.decode(), "HEAD:params.yaml"), "HEAD")
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError, ConfigError):
        return None


def datasets(job: Job) -> list[Dataset]:
    """Name the images that a stage reads, and what for; the digest is that of all stages."""
    stage = job.target.stage
    if "data/splits" not in stage.reads:
        return []
    context = "evaluation" if stage.evaluates or stage.last else "inference"
    if stage.name.startswith("train_"):
        context = "training"
    digest = data_digest(job.params, job.paths)
    return [Dataset(job.params.prepare_data.dataset.name, digest, context)]


def first_line(stage: Stage) -> str:
    """Say in a sentence what a stage does: how its page begins."""
    text = inspect.getdoc(sys.modules[stage.module]) or stage.name
    return " ".join(text.split("\n\n")[0].split())


def _description(job: Job) -> str:
    parts = [first_line(job.target.stage)]
    for verb, paths in (
        ("Reads", job.target.inputs(job.params)),
        ("Makes", job.target.outs(job.params)),
    ):
        if paths:
            parts.append(f"{verb} {', '.join(f'`{path}`' for path in paths)}.")
    return "\n\n".join(parts)
