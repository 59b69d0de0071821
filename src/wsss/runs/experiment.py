"""One run per experiment: the scores of all its stages, what is different, pictures."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsss.artifacts import Manifest, fingerprint, read_json, report_splits
from wsss.config.params import Params
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params
from wsss.config.yaml_text import load_yaml, read_text
from wsss.pipeline import Job, Target
from wsss.pipeline.origin import committed_params, datasets, target_changes
from wsss.report import save_cells
from wsss.settings import ConfigError
from wsss.tracking import RunStart, experiment_name, known_runs, open_run, tracking_uri
from wsss.tracking.naming import short_name
from wsss.tracking.provenance import flatten, run_start

__all__ = ["experiment_changes", "experiment_scores", "record_experiment"]

MASKS_FIRST = "pseudo mask"
"""The column that MLflow's grid of pictures shows first."""


def record_experiment(jobs: Sequence[Job], runs: Mapping[str, str], tags: Mapping[str, str]) -> str:
    """Record the run of an experiment, unless it has one.

    Args:
        jobs: its stages, all of which are up to date.
        runs: the ids of their runs, by name.
        tags: of the run.

    Returns:
        The run's id.
    """
    job = jobs[-1]
    params, root = job.params, job.paths.root
    experiment, uri = experiment_name(params.machine.experiment, ""), tracking_uri(root)
    key = fingerprint("experiment", {part.target.name: part.key for part in jobs})
    if found := known_runs(uri, experiment, [key]):
        return found[key]
    changes = experiment_changes(jobs)
    settings: dict[str, Any] = {}
    for part in jobs:
        settings |= dict(flatten(part.pipeline.settings(part.target, params)))
    name = short_name(changes) or params.base.recipe
    start = run_start(
        "",
        root,
        uri,
        experiment,
        settings,
        key=key,
        name=name,
        tags={
            "recipe": params.base.recipe,
            "changes": short_name(changes),
            **{f"run.{stage}": run_id for stage, run_id in runs.items() if run_id},
            **tags,
        },
        datasets=_data(jobs),
        description=_description(changes, params),
    )
    return _record(start, jobs)


def experiment_scores(jobs: Sequence[Job]) -> dict[str, float]:
    """Gather what all evaluations say on val: "cam.val_mean_iou" of evaluate_cams, "crf..." of the
    chain crf, "pseudo...", "segmenter..."; and on scored sets, "cam.smoke5k_mean_iou".

    All that the runs page draws is a bar for each; more of them would hide these. The rest is with
    the runs of the stages.
    """
    scores: dict[str, float] = {}
    for job in jobs:
        report = read_json(job.paths.report(job.target.report))
        if "protocol" not in report:
            continue
        label = _label(job.target)
        for split in report_splits(report):
            if split in ("train", "selection"):
                continue
            for key, value in report[split].items():
                if key.startswith("mean_iou") and key != "mean_iou_foreground":
                    scores[f"{label}.{split}_{key}"] = value
    return scores


def experiment_changes(jobs: Sequence[Job]) -> dict[str, str]:
    """Find the settings that make this experiment: what differs from the last commit.

    Where nothing does, or the commit has another recipe, it is what differs from the recipe.
    """
    params, root = jobs[-1].params, jobs[-1].paths.root
    committed = committed_params(root)
    if committed is not None and committed.base.recipe == params.base.recipe:
        changes = _changes(jobs, committed)
        if changes:
            return changes
    return _changes(jobs, _recipe(root, params))


def _changes(jobs: Sequence[Job], others: Params | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for job in jobs:
        found |= target_changes(job.pipeline, job.target, job.params, others)
    return found


def _recipe(root: Path, params: Params) -> Params | None:
    """The settings of params.yaml's recipe; what no recipe names is as params.yaml has it."""
    folder = root / "recipes"
    try:
        values = load_yaml(read_text(root / "params.yaml"), "params.yaml")
        recipe = Recipe.read(folder, params.base.recipe)
        return recipe_params(values, recipe, Recipe.read(folder, BASE_RECIPE))
    except (OSError, ConfigError):
        return None


def _label(target: Target) -> str:
    """What an evaluation is of: the entry, or the stage's name without what all have."""
    name = target.stage.name.removeprefix("evaluate_").removesuffix("_masks").removesuffix("s")
    return target.entry or name


def _data(jobs: Sequence[Job]) -> list[Any]:
    """The data set, once for each thing it was used for."""
    return sorted({data for job in jobs for data in datasets(job)}, key=lambda data: data.context)


def _description(changes: Mapping[str, str], params: Params) -> str:
    lines = [f"Recipe `{params.base.recipe}`."]
    if changes:
        lines += ["", "What is different:", ""]
        lines += [f"- `{key}`: {value}" for key, value in changes.items()]
    return "\n".join(lines)


def _record(start: RunStart, jobs: Sequence[Job]) -> str:
    """Send scores and pictures; the pictures are those of the last evaluation."""
    last = next((job for job in reversed(jobs) if "data/masks" in job.target.stage.reads), jobs[-1])
    manifest = Manifest.read(last.paths.splits)
    columns, samples = last.panel_columns(truth="data/masks" in last.target.stage.reads)
    with tempfile.TemporaryDirectory(prefix="wsss-") as folder, open_run(start) as tracker:
        tracker.metrics(experiment_scores(jobs))
        panel = last.paths.report(f"{last.target.report}/panel", ".png")
        if panel.exists():
            tracker.artifact(panel)
        if samples:
            table = save_cells(
                Path(folder), last.paths.images, samples, columns, manifest.num_fg_classes
            )
            first = [name for name in ("image", MASKS_FIRST) if name in table]
            order = [*first, *(name for name in table if name not in first)]
            tracker.table("panel.json", {name: table[name] for name in order})
    return tracker.run_id
