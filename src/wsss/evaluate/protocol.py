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

__all__ = ["best_threshold", "curve_columns", "label_report", "score_map_report", "split_scores"]

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
        None where the ground truth has no pixel of the classes that count: whatever is predicted
        least would be best. 0 without a background, where each pixel has a class.
    """
    counts = curve.counts()
    group = group_ids(class_groups, class_names).get(select_by.removeprefix("mean_iou_"))
    if not _drawn(counts, group):
        return None
    if select_by == "foreground_iou":
        values = curve.foreground_iou()
    elif select_by == "iou_image_mean":
        values = curve.image_iou()
    else:
        values = mean_iou(counts, group)
    index = int(np.nanargmax(values)) if curve.has_background else 0
    return index, float(values[index])


def score_map_report(
    curves: Mapping[str, ThresholdCurve],
    class_names: Sequence[str],
    class_groups: Groups,
    select_by: str,
    fixed: float | None = None,
) -> dict[str, Any]:
    """The report on score maps.

    Args:
        curves: by split.
        class_names: K names, without the background.
        class_groups: see `group_ids`.
        select_by: see `best_threshold`.
        fixed: a threshold of the curves, that is taken in place of the best.

    Returns:
        threshold: the best on the selection split, if that has masks of any class, or `fixed`;
        <split>: the scores of `split_scores` at that threshold, foreground_iou (of all classes
            taken as one, over the pixels of the split), iou_image_mean, average_precision, images;
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
    if fixed is not None:
        report["protocol"]["threshold"] = f"{fixed:g}, as the maps are made to be cut there"
        report["threshold"] = fixed
        return report | _at_threshold(curves, class_names, class_groups, fixed)
    if chosen is None:
        report["protocol"]["threshold"] = (
            f"none, as no mask of the selection split holds a class that counts in {select_by}"
            if "selection" in curves
            else "none, as the selection split has no masks to choose it on"
        )
        return report
    report["protocol"]["threshold"] = (
        f"best {select_by} on the selection split"
        if curves["selection"].has_background
        else "0, as each pixel has a class"
    )
    report["threshold"] = float(curves["selection"].thresholds[chosen[0]])
    return report | _at_threshold(curves, class_names, class_groups, report["threshold"])


def _at_threshold(
    curves: Mapping[str, ThresholdCurve],
    class_names: Sequence[str],
    class_groups: Groups,
    threshold: float,
) -> dict[str, Any]:
    """The scores of each split at a threshold of its curve."""
    report: dict[str, Any] = {}
    for split, curve in curves.items():
        index = int(np.flatnonzero(curve.thresholds == threshold)[0])
        counts = curve.counts()
        at = Counts(counts.correct[index], counts.gt[index], counts.predicted[index])
        further = {}
        if curve.has_background:
            further = {
                "foreground_iou": float(curve.foreground_iou()[index]),
                "iou_image_mean": float(curve.image_iou()[index]),
                "average_precision": curve.average_precision(),
            }
        report[split] = split_scores(at, class_names, class_groups, further)
        report[split]["images"] = curve.images
    return report


def split_scores(
    counts: Counts,
    class_names: Sequence[str],
    class_groups: Groups,
    further: Mapping[str, float],
) -> dict[str, Any]:
    """The scores of one split; none where its ground truth holds no class at all.

    There the background alone would be scored: 1 for predicting nothing. The same holds for a
    group of which the ground truth has no class.

    Args:
        counts: with arrays of shape (K + 1,).
        class_names: K names, without the background.
        class_groups: see `group_ids`.
        further: scores that go with them.

    Returns:
        `summary`, mean_iou_foreground (that mean without the background), and `further`.
    """
    if not _drawn(counts):
        return {}
    scores = summary(counts, class_names, class_groups)
    scores["mean_iou_foreground"] = float(mean_over(iou(counts)[1:]))
    for group, ids in group_ids(class_groups, class_names).items():
        if not _drawn(counts, ids):
            scores.pop(f"mean_iou_{group}", None)
    return {**scores, **further}


def _drawn(counts: Counts, class_ids: Sequence[int] | None = None) -> bool:
    """Whether the ground truth has a pixel of any class, or of those among `class_ids`."""
    gt = counts.gt.reshape(-1, counts.gt.shape[-1])[0]
    wanted = np.arange(len(gt)) if class_ids is None else np.asarray(class_ids, np.intp)
    return bool(gt[wanted[wanted > 0]].any())


def label_report(
    scores: Mapping[str, LabelScores],
    class_names: Sequence[str],
    class_groups: Groups,
    *,
    from_tags: bool,
) -> dict[str, Any]:
    """The report on label maps.

    Pseudo masks (`from_tags`) may ignore pixels: scores are on the pixels that have a
    label, with their share as coverage; under strict, ignored pixels count as missed.

    Returns:
        <split>: the scores of `split_scores`, foreground_iou (of all classes taken as one, over
            the pixels of the split), iou_image_mean, images; of pseudo masks also coverage, and
            strict.mean_iou (and groups) and strict.foreground_iou;
        protocol: how to read the numbers, or that there is no ground truth.
    """
    report: dict[str, Any] = {"protocol": _protocol(_GT_TAGS if from_tags else "none", scores)}
    for split, score in scores.items():
        further, of_strict = {}, {}
        if score.has_background:
            further = {
                "foreground_iou": _foreground_iou(score.labelled_matrix),
                "iou_image_mean": score.image_iou,
            }
            of_strict = {"foreground_iou": _foreground_iou(score.matrix)}
        # a network ignores nothing: what it gives to no class, where each pixel has one, is missed
        complete = not from_tags and not score.has_background
        counts = score.strict if complete else score.labelled
        report[split] = split_scores(counts, class_names, class_groups, further)
        report[split]["images"] = score.images
        if from_tags:
            strict = split_scores(score.strict, class_names, class_groups, of_strict)
            shown = {"mean_iou", *(f"mean_iou_{group}" for group in class_groups), *of_strict}
            report[split]["coverage"] = score.coverage
            report[split]["strict"] = {key: strict[key] for key in strict if key in shown}
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
    fp and fn are the mean shares over foreground classes (over- and under-activation). All are NaN
    for a split, or a group, of which the ground truth has no class.
    """
    columns: dict[str, np.ndarray] = {}
    for split, curve in curves.items():
        counts = curve.counts()
        own = {"mean_iou": mean_iou(counts)}
        nothing = np.full(len(curve.thresholds), np.nan)
        for group, ids in group_ids(class_groups, class_names).items():
            own[f"mean_iou_{group}"] = mean_iou(counts, ids) if _drawn(counts, ids) else nothing
        own["foreground_iou"] = curve.foreground_iou()
        own["iou_image_mean"] = curve.image_iou()
        own["fp"] = mean_over(fp_share(counts)[:, 1:])
        own["fn"] = mean_over(fn_share(counts)[:, 1:])
        own["precision"], own["recall"] = curve.precision_recall()
        drawn = _drawn(counts)
        columns |= {f"{split}_{name}": own[name] if drawn else nothing for name in own}
    return columns
