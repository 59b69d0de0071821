"""One run per experiment: the scores of all its stages, what is different, pictures."""

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsss.artifacts import Manifest, fingerprint, read_json
from wsss.config.params import Params
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params
from wsss.config.yaml_text import load_yaml, read_text
from wsss.pipeline import Job
from wsss.pipeline.names import named_scores
from wsss.pipeline.origin import committed_params, datasets, target_changes
from wsss.report import save_cells
from wsss.report.frame import with_facts, write_page
from wsss.settings import ConfigError
from wsss.tracking import RunStart, experiment_name, known_runs, open_run, tracking_uri
from wsss.tracking.naming import short_name
from wsss.tracking.provenance import flatten, run_start
from wsss.tracking.times import run_seconds

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
    return _record(start, jobs, run_seconds(uri, runs))


def experiment_scores(jobs: Sequence[Job]) -> dict[str, float]:
    """Gather what all evaluations say on val and on scored sets; see `named_scores`.

    All that the runs page draws is a bar for each; more of them would hide these. The rest is with
    the runs of the stages.
    """
    return named_scores(
        (job.target, read_json(job.paths.root / job.target.stage.report_path(job.target.entry)))
        for job in jobs
    )


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


def _data(jobs: Sequence[Job]) -> list[Any]:
    """The data set, once for each thing it was used for."""
    return sorted({data for job in jobs for data in datasets(job)}, key=lambda data: data.context)


def _description(changes: Mapping[str, str], params: Params) -> str:
    lines = [f"Recipe `{params.base.recipe}`."]
    if changes:
        lines += ["", "What is different:", ""]
        lines += [f"- `{key}`: {value}" for key, value in changes.items()]
    return "\n".join(lines)


def _record(start: RunStart, jobs: Sequence[Job], seconds: Mapping[str, float]) -> str:
    """Send scores, pictures and the report; the pictures are those of the last evaluation."""
    last = next((job for job in reversed(jobs) if job.target.stage.evaluates), jobs[-1])
    manifest = Manifest.read(last.paths.splits)
    columns, samples = last.panel_columns(truth=last.target.stage.evaluates)
    with tempfile.TemporaryDirectory(prefix="wsss-") as folder, open_run(start) as tracker:
        tracker.metrics(experiment_scores(jobs))
        panel = last.paths.report(f"{last.target.report}/panel", ".png")
        if panel.exists():
            tracker.artifact(panel)
        for page in _pages(jobs):
            text = with_facts(page.read_text(encoding="utf-8"), _facts(start, seconds))
            write_page(Path(folder) / page.name, text)
            tracker.artifact(Path(folder) / page.name)
        if samples:
            table = save_cells(
                Path(folder), last.paths.images, samples, columns, manifest.num_fg_classes
            )
            first = [name for name in ("image", MASKS_FIRST) if name in table]
            order = [*first, *(name for name in table if name not in first)]
            tracker.table("panel.json", {name: table[name] for name in order})
    return tracker.run_id


def _pages(jobs: Sequence[Job]) -> list[Path]:
    """The page of the last stage, where it has run."""
    made = [
        job.paths.root / job.target.outs(job.params)[0] for job in jobs if job.target.stage.last
    ]
    return [page for folder in made for page in sorted(folder.glob("*.html"))]


def _facts(start: RunStart, seconds: Mapping[str, float]) -> dict[str, str]:
    """What this run alone knows, and what is therefore not on the page that a stage makes."""
    revision = start.tags.get("git.rev", "not in git")
    changed = " with changes" if start.tags.get("git.dirty") == "true" else ""
    began = datetime.fromtimestamp(start.began / 1000, UTC)
    times = ", ".join(f"{stage} {_spoken(value)}" for stage, value in seconds.items())
    return {
        "Revision": f"{revision}{changed}",
        "Recorded": f"{began:%Y-%m-%d %H:%M} UTC",
        "Times": times or "not known of any stage, as their results were restored",
    }


def _spoken(seconds: float) -> str:
    """A time, as a person says it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
