"""What is told of a stage that has run: scores, curves and pictures, read from its files.

A result that DVC restores has the same files, and is told of in the same way.
"""

import csv
from collections.abc import Iterator, Mapping
from typing import Any

from wsss.artifacts import SPLITS, read_json, report_splits
from wsss.pipeline.job import Job

__all__ = ["record_epochs", "record_outcome", "report_scores", "run_job"]

HEADLINES = (
    *("mean_iou", "foreground_iou", "iou_image_mean"),  # what evaluate.select_by may name
    *("coverage", "false_alarms/", "objects/hit"),
)
"""What is recorded of each split; all else is in the report, which is stored with the run."""


def run_job(job: Job) -> None:
    """Run a stage, and tell its tracker what came of it."""
    job.run()
    if job.is_first:
        record_outcome(job)


def record_outcome(job: Job) -> None:
    """Tell the tracker what a stage's report says, and store report, curve and panel."""
    stage, name = job.target.stage, job.target.report
    if stage.last:
        _record_page(job)
        return
    file = job.paths.report(name)
    if not file.exists():
        return
    report = read_json(file)
    job.tracker.metrics(report_scores(report))
    protocol = report.get("protocol", {})
    job.tracker.tags({f"protocol.{key}": value for key, value in protocol.items()})
    if "warnings" in report:
        job.tracker.tags({"warnings": "\n".join(report["warnings"])})
    job.tracker.artifact(file)
    threshold = report.get("threshold")
    if stage.curve:
        _record_curve(job, report)
    evaluates = stage.evaluates
    if stage.picture or evaluates:
        job.panel(threshold if evaluates else None, truth=evaluates)


def record_epochs(job: Job) -> None:
    """Tell the tracker the values of all epochs, of a training that ran elsewhere."""
    curve = job.target.stage.curve
    file = job.paths.report(f"{job.target.report}_curve", ".csv")
    if curve is None or curve.x != "epoch" or not file.exists():
        return
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            step = int(float(row.pop("epoch")))
            job.tracker.metrics({key: float(text) for key, text in row.items() if text}, step)


def report_scores(report: Mapping[str, Any]) -> dict[str, float]:
    """Choose what is recorded of a report.

    For an evaluation that is the threshold, the mean IoU and the false alarms of each split and
    scored set, and, as "classes/...", the IoU of each class on val and scored sets; of a training
    the kept epoch's values, as "best_...".

    Example:
        >>> report_scores({"best_epoch": 2, "val_map": 0.5})
        {'best_val_map': 0.5}
        >>> report_scores({"a": {"num_images": 3}})
        {'a/num_images': 3.0}
    """
    if "protocol" not in report:
        return {path: value for path, value in _numbers(report) if path.count("/") < 3}
    scores = {"threshold": report["threshold"]} if "threshold" in report else {}
    for split in report_splits(report):
        for key, value in _numbers(report[split]):
            if key.startswith(HEADLINES):
                scores[f"{split}/{key}"] = value
        if split not in ("train", "selection"):
            by_class = report[split].get("iou", {})
            scores |= {f"classes/{split}/iou/{name}": value for name, value in by_class.items()}
    return scores


def _record_page(job: Job) -> None:
    """Store what the last stage made, and its scores."""
    folder = job.paths.root / job.target.stage.makes[0]
    report = job.paths.root / job.target.stage.report_path()
    if report.exists():
        job.tracker.metrics(read_json(report)["scores"])
        for file in sorted(folder.glob("[!.]*")):
            job.tracker.artifact(file)


def _record_curve(job: Job, report: Mapping[str, Any]) -> None:
    table = job.paths.report(f"{job.target.report}_curve", ".csv")
    curve = job.target.stage.curve
    if curve is None or not table.exists():
        return
    job.tracker.artifact(table)
    if curve.x == "threshold":
        from wsss.report import draw_curve

        picture = job.paths.report(f"{job.target.report}/curve", ".png")
        value = curve.y.removeprefix("val_")
        further = [split for split in report_splits(report) if split not in SPLITS]
        columns = [f"{split}_{value}" for split in (*SPLITS, *further)]
        draw_curve(picture, table, curve.x, columns, report.get("threshold"))
        job.tracker.artifact(picture)


def _numbers(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of a report by their paths; those of a kept epoch are marked as the best."""
    best = "best_" if "best_epoch" in tree else ""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{path}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and key != "best_epoch":
            yield f"{path}{best}{key}", float(value)
