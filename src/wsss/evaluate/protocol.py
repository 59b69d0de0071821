"""What is reported of a target: which threshold, which splits, and how to read the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsss.evaluate.confusion import merge_foreground
from wsss.evaluate.curves import ThresholdCurve
from wsss.evaluate.metrics import (
    Counts,
    fn_share,
    fp_share,
    group_ids,
    iou,
    mean_iou,
    mean_over,
    summary,
)
from wsss.evaluate.splits import LabelScores

__all__ = ["best_threshold", "curve_columns", "label_report", "score_map_report"]

Groups = Mapping[str, Sequence[str]]

_GT_TAGS = "ground truth image tags drop absent classes"


def best_threshold(
    curve: ThresholdCurve, class_names: Sequence[str], class_groups: Groups, select_by: str
) -> tuple[int, float] | None:
    """Index and value of the best threshold, the lowest on ties.

    Args:
        curve: of one split.
        class_names: K names, without the background.
        class_groups: see `group_ids`.
        select_by: mean_iou, mean_iou_<group>, foreground_iou or iou_image_mean.

    Returns:
        None when the metric cannot be computed, as without any pixel of ground truth.
    """
    if select_by == "foreground_iou":
        values = curve.foreground_iou()
    elif select_by == "iou_image_mean":
        values = curve.image_iou()
    else:
        group = group_ids(class_groups, class_names).get(select_by.removeprefix("mean_iou_"))
        values = mean_iou(curve.counts(), group)
    if np.isnan(values).all():
        return None
    index = int(np.nanargmax(values))
    return index, float(values[index])


def score_map_report(
    curves: Mapping[str, ThresholdCurve],
    class_names: Sequence[str],
    class_groups: Groups,
    select_by: str,
) -> dict[str, Any]:
    """The report on score maps.

    Returns:
        threshold: the best on the selection split, if that has masks;
        <split>: `summary` at that threshold, foreground_iou (of all classes taken as one, over
            the pixels of the split), iou_image_mean, average_precision, images;
        oracle.<split>: the best threshold of the split itself, and its value of `select_by`;
        protocol: how to read the numbers, or that there is no ground truth.
    """
    report: dict[str, Any] = {"protocol": _protocol(_GT_TAGS, curves)}
    best = {
        split: best_threshold(curve, class_names, class_groups, select_by)
        for split, curve in curves.items()
    }
    report["oracle"] = {
        split: {"threshold": float(curves[split].thresholds[found[0]]), select_by: found[1]}
        for split, found in best.items()
        if found
    }
    report["protocol"]["oracle"] = f"the threshold with the best {select_by} of the split itself"
    chosen = best.get("selection")
    if chosen is None:
        report["protocol"]["threshold"] = (
            "none, as the selection split has no masks to choose it on"
        )
        return report
    index = chosen[0]
    report["protocol"]["threshold"] = f"best {select_by} on the selection split"
    report["threshold"] = float(curves["selection"].thresholds[index])
    for split, curve in curves.items():
        counts = curve.counts()
        at = Counts(counts.correct[index], counts.gt[index], counts.predicted[index])
        report[split] = summary(at, class_names, class_groups) | {
            "images": curve.images,
            "foreground_iou": float(curve.foreground_iou()[index]),
            "iou_image_mean": float(curve.image_iou()[index]),
            "average_precision": curve.average_precision(),
        }
    return report


def label_report(
    scores: Mapping[str, LabelScores],
    class_names: Sequence[str],
    class_groups: Groups,
    *,
    from_tags: bool,
) -> dict[str, Any]:
    """The report on label maps.

    Pseudo masks (`from_tags`) may ignore pixels: `summary` is on the pixels that have a
    label, with their share as coverage; under strict, ignored pixels count as missed.

    Returns:
        <split>: `summary`, foreground_iou (of all classes taken as one, over the pixels of the
            split), iou_image_mean, images; of pseudo masks also coverage, and strict.mean_iou
            (and groups) and strict.foreground_iou;
        protocol: how to read the numbers, or that there is no ground truth.
    """
    report: dict[str, Any] = {"protocol": _protocol(_GT_TAGS if from_tags else "none", scores)}
    for split, score in scores.items():
        report[split] = summary(score.labelled, class_names, class_groups) | {
            "images": score.images,
            "foreground_iou": _foreground_iou(score.labelled_matrix),
            "iou_image_mean": score.image_iou,
        }
        if from_tags:
            strict = summary(score.strict, class_names, class_groups)
            report[split]["coverage"] = score.coverage
            report[split]["strict"] = {
                key: value for key, value in strict.items() if key.startswith("mean_iou")
            } | {"foreground_iou": _foreground_iou(score.matrix)}
    if from_tags:
        report["protocol"]["ignored"] = "left out; counted as missed under strict"
    return report


def _foreground_iou(matrix: np.ndarray) -> float:
    return float(iou(Counts.of(merge_foreground(matrix)))[1])


def _protocol(tags: str, scored: Mapping[str, Any]) -> dict[str, str]:
    protocol = {
        "tags": tags,
        "mean_iou": "one confusion matrix per split, all classes present",
        "foreground_iou": "pixels pooled over the split, all classes taken as one",
        "iou_image_mean": "foreground of the right class, averaged over images",
    }
    if not scored:
        protocol["ground_truth"] = "none: no image of the result has a mask"
    return protocol


def curve_columns(
    curves: Mapping[str, ThresholdCurve], class_names: Sequence[str], class_groups: Groups
) -> dict[str, np.ndarray]:
    """What is plotted over the thresholds, each (T,).

    The keys are <split>_ and mean_iou, mean_iou_<group>, foreground_iou, iou_image_mean, fp, fn,
    precision, recall;
    fp and fn are the mean shares over foreground classes (over- and under-activation).
    """
    columns = {}
    for split, curve in curves.items():
        counts = curve.counts()
        columns[f"{split}_mean_iou"] = mean_iou(counts)
        for group, ids in group_ids(class_groups, class_names).items():
            columns[f"{split}_mean_iou_{group}"] = mean_iou(counts, ids)
        columns[f"{split}_foreground_iou"] = curve.foreground_iou()
        columns[f"{split}_iou_image_mean"] = curve.image_iou()
        columns[f"{split}_fp"] = mean_over(fp_share(counts)[:, 1:])
        columns[f"{split}_fn"] = mean_over(fn_share(counts)[:, 1:])
        columns[f"{split}_precision"], columns[f"{split}_recall"] = curve.precision_recall()
    return columns
