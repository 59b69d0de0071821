"""`wsss compare --html`: what is compared, as a page and in MLflow."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from wsss.artifacts import fingerprint, report_splits
from wsss.cli.compared import REPORTS, Loaded
from wsss.config.params import load_params
from wsss.config.yaml_text import load_yaml
from wsss.pipeline import Target
from wsss.pipeline.lock import Snapshot
from wsss.pipeline.names import named_scores, score_label
from wsss.report.comparison import Experiment, comparison_page
from wsss.report.frame import write_page
from wsss.settings import ConfigError
from wsss.tracking import experiment_name, has_mlflow, known_runs, open_tracker, tracking_uri
from wsss.tracking.naming import LONGEST
from wsss.tracking.provenance import flatten

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["write_comparison"]

KIND = "comparisons"
"""Of MLflow's experiment that has the pages."""

_LABELS = {"cams": "cam", "pseudo_masks": "pseudo"}
_WITHOUT_EFFECT = ("machine.", "report.", "base.recipe")
_SCORE = re.compile(
    r"(?:evaluate_(?P<of>\w+)/)?(?P<split>[a-z]\w*)/(?P<score>mean_iou(?!_foreground)\w*)"
)
_CLASS = re.compile(r"(?:evaluate_(?P<of>\w+)/)?classes/(?P<split>\w+)/iou/(?P<name>.+)")


def write_comparison(path: Path, loaded: Loaded, root: Path) -> None:
    """Write the page of what is compared, and record it in MLflow, unless it has it already.

    Args:
        path: the file.
        loaded: at least one column.
        root: the project.

    Raises:
        ConnectionError: the page is written, and MLflow cannot record it.
    """
    held = []
    for heading in loaded.columns:
        if heading in loaded.snapshots:
            held.append(_of_snapshot(heading, loaded.snapshots[heading], root))
        else:
            held.append(_of_run(heading, loaded.runs[heading], root))
    text = comparison_page(held, loaded.notes)
    write_page(path, text)
    if not has_mlflow():
        return
    experiment = experiment_name(load_params(root / "params.yaml").machine.experiment, KIND)
    key = fingerprint(text)
    if known_runs(tracking_uri(root), experiment, [key]):
        return
    name = " and ".join(loaded.columns)
    name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    with open_tracker("compare", root, experiment, {}, key=key, name=name) as tracker:
        tracker.artifact(path)


def _of_snapshot(heading: str, snapshot: Snapshot, root: Path) -> Experiment:
    """A revision, or what is in the workspace."""
    strangers = snapshot.strangers()
    known = {name: held for name, held in snapshot.reports().items() if name not in strangers}
    pairs = list(_evaluations(known))
    classes, curves = {}, {}
    for target, report in pairs:
        splits = [name for name in report_splits(report) if name not in ("train", "selection")]
        for split in splits:
            if found := report[split].get("iou"):
                classes[f"{score_label(target)}.{split}"] = found
        table = snapshot.files.get(f"{REPORTS}/{target.report}_curve.csv")
        if table and splits:
            curves[score_label(target)] = _points(table.decode(), f"{splits[0]}_mean_iou")
    panel = b""
    if heading == "workspace":
        drawn = [root / REPORTS / target.report / "panel.png" for target, _ in pairs]
        panel = next((file.read_bytes() for file in reversed(drawn) if file.exists()), b"")
    values: Any = {}
    with suppress(ConfigError):
        values = load_yaml(snapshot.files.get("params.yaml", b"{}").decode(), "params.yaml")
    settings = dict(flatten(values)) if isinstance(values, Mapping) and values else {}
    return Experiment(
        heading,
        named_scores(pairs),
        classes,
        _with_effect(settings),
        {"recipe": settings.get("base.recipe", "")},
        curves,
        panel,
        snapshot.data,
    )


def _evaluations(reports: Mapping[str, Any]) -> Iterator[tuple[Target, Mapping[str, Any]]]:
    """The reports of evaluations, in order, with the targets that made them."""
    from wsss.stages import find_stages

    for stage in find_stages():
        for name, report in reports.items() if stage.evaluates else ():
            entry = name.removeprefix(f"{stage.name}_") if stage.foreach else ""
            if name == stage.report(entry) and "protocol" in report:
                yield Target(stage, entry), report


def _of_run(heading: str, run: "Run", root: Path) -> Experiment:
    """A run of MLflow: of an experiment, a stage, or a row of a study."""
    tags, scores = run.data.tags, {}
    classes: dict[str, dict[str, float]] = {}
    own = str(run.info.run_name).partition(" ")[0].removeprefix("evaluate_")
    own = own.partition("@")[2] or own  # of a stage's own run, whose metrics do not name it
    for key, value in run.data.metrics.items():
        if re.fullmatch(r"\w+\.\w+_mean_iou\w*", key):
            scores[key] = value
        elif found := _SCORE.fullmatch(key):
            if found["split"] not in ("train", "selection", "oracle", "strict"):
                label = _label(found["of"] or own)
                scores[f"{label}.{found['split']}_{found['score']}"] = value
        elif found := _CLASS.fullmatch(key):
            classes.setdefault(f"{_label(found['of'] or own)}.{found['split']}", {})[
                found["name"]
            ] = value
    settings = dict(run.data.params)
    if "seed" in tags and "row" in tags:  # what a row is, says its name
        settings = {**settings, "base.rng_seed": settings.get("base.rng_seed", tags["seed"])}
    began = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    took = ""
    if "row/minutes" in run.data.metrics:
        took = f"{run.data.metrics['row/minutes']:.1f} min"
    elif run.info.end_time and "stage" in tags and "restored" not in tags:
        took = f"{(run.info.end_time - run.info.start_time) / 1000:.1f} s"
    facts = {
        "recipe": tags.get("recipe", ""),
        "revision": tags.get("git.rev", "")[:12],
        "recorded": f"{began:%Y-%m-%d %H:%M} UTC",
        "took": took,
    }
    data = sorted(item.dataset.digest for item in run.inputs.dataset_inputs)
    return Experiment(
        heading,
        dict(sorted(scores.items(), key=lambda pair: _order(pair[0]))),
        {key: classes[key] for key in sorted(classes, key=_order)},
        _with_effect(settings),
        {name: text for name, text in facts.items() if text},
        {},
        _panel(run, root),
        fingerprint(data) if data else "",
    )


def _label(name: str) -> str:
    return _LABELS.get(name, name)


def _order(name: str) -> tuple[int, str]:
    """Maps first, then what is made of them."""
    label = name.partition(".")[0]
    last = {"cam": 0, "pseudo": 2, "segmenter": 3}
    return last.get(label, 1), name


def _with_effect(settings: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in settings.items() if not key.startswith(_WITHOUT_EFFECT)}


def _panel(run: "Run", root: Path) -> bytes:
    """The pictures that were recorded with a run; empty where there are none."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(root))
    with TemporaryDirectory(prefix="wsss-") as folder, suppress(MlflowException, OSError):
        names = [item.path for item in client.list_artifacts(run.info.run_id)]
        if "panel.png" in names:
            return Path(
                client.download_artifacts(run.info.run_id, "panel.png", folder)
            ).read_bytes()
    return b""


def _points(text: str, column: str) -> list[tuple[float, float]]:
    rows = csv.DictReader(io.StringIO(text))
    return [
        (float(row["threshold"]), float(row[column]))
        for row in rows
        if row.get("threshold") and row.get(column)
    ]
