"""What scores against masks of annotators tell, as evaluation has reported them."""

from collections.abc import Iterator, Mapping
from typing import Any

from wsss.pipeline import Target
from wsss.stages.findings.finding import Change, Finding
from wsss.stages.findings.made import Made
from wsss.stages.findings.warned import of_classes

__all__ = ["better_chains", "maps_beside", "scores_apart", "worse_segmenter"]

BETTER = 0.02  # of a mean IoU, that another chain has to be better by
APART = 0.1  # of a mean IoU, between splits
LOST = 0.05  # of a mean IoU, by a threshold that was chosen on another split
WORSE = 0.15  # of a mean IoU, that a segmenter may be worse by than its pseudo masks
MANY = 20  # images of a split, fewer than which say little
MISSED = 0.3  # precision and recall of maps that lie beside their objects
ZERO = 0.005  # an IoU of which the evaluation itself warns


def better_chains(made: Made, target: Target) -> Iterator[Finding]:
    """A chain that pseudo masks are not made from, and that is better on selection."""
    chain = made.params.make_pseudo_masks.chain
    if target.name != f"evaluate_refined@{chain}":
        return
    metric = made.params.evaluate.select_by
    own = _score(made.report(target.name), "selection", metric)
    others = {
        name: score
        for name in made.params.refine.chains
        if name != chain
        and (score := _score(made.report(f"evaluate_refined@{name}"), "selection", metric))
        is not None
    }
    if own is None or not others:
        return
    best = max(others, key=lambda name: (others[name], name))
    if others[best] <= own + BETTER:
        return
    yield Finding(
        "better_chain",
        "warning",
        target.name,
        f"pseudo masks are made from the chain '{chain}', whose {metric} is {own:.3f} on "
        f"selection, and '{best}' has {others[best]:.3f}; change make_pseudo_masks.chain to "
        f"{best}, or the settings of refine.chains.{chain}",
        (Change("make_pseudo_masks.chain", "change"), Change(f"refine.chains.{chain}", "change")),
        {chain: own, best: others[best]},
        needs_truth=True,
    )


def scores_apart(made: Made, target: Target) -> Iterator[Finding]:
    """A mean IoU of val far from that of selection, or a threshold that does not suit it."""
    if not target.stage.name.startswith("evaluate_"):
        return
    report = made.report(target.name)
    own, other = (_score(report, split, "mean_iou") for split in ("selection", "val"))
    if own is None or other is None:
        return
    if min(report[split].get("images", MANY) for split in ("selection", "val")) < MANY:
        return
    advice = (
        "raise prepare_data.selection_share, or draw both splits from the same places and days "
        "(prepare_data.dataset)"
    )
    share = Change("prepare_data.selection_share", "raise")
    if abs(own - other) > APART:
        yield Finding(
            "scores_apart",
            "warning",
            target.name,
            f"the mean IoU is {own:.3f} on selection and {other:.3f} on val: what is chosen on the "
            f"first does not hold for the second; {advice}",
            (share, Change("prepare_data.dataset", "change")),
            {"selection": own, "val": other},
            needs_truth=True,
        )
    best: Mapping[str, Any] = report.get("oracle", {}).get("val", {})
    lost = best.get("mean_iou", 0) - other
    if "threshold" in report and lost > LOST:
        yield Finding(
            "threshold_of_another_split",
            "warning",
            target.name,
            f"the threshold {report['threshold']:g}, chosen on selection, has a mean IoU of "
            f"{other:.3f} on val, where {best['threshold']:g} would have {best['mean_iou']:.3f}; "
            f"{advice}, or let another metric choose (evaluate.select_by)",
            (share, Change("evaluate.select_by", "change")),
            {"val": other, "best": best["mean_iou"]},
            needs_truth=True,
        )


def maps_beside(made: Made, target: Target) -> Iterator[Finding]:
    """Classes whose maps are about as large as their objects, and lie somewhere else.

    So is what a classifier has learned of the surroundings: the rails in place of the train.
    """
    if target.name != "evaluate_cams" or made.manifest is None:
        return
    report = made.report(target.name)
    split = next(
        (name for name in ("val", "selection", "train") if "iou" in report.get(name, {})), ""
    )
    if not split or report[split].get("images", MANY) < MANY:
        return
    scores = report[split]
    beside: dict[str, tuple[float, float]] = {}
    for name in made.manifest.class_names:
        iou, wrong, missed = (
            scores.get(key, {}).get(name, 0.0) for key in ("iou", "fp_share", "fn_share")
        )
        if iou < ZERO or iou + wrong == 0 or iou + missed == 0:
            continue
        precision, recall = iou / (iou + wrong), iou / (iou + missed)
        size = (iou + wrong) / (iou + missed)
        if max(precision, recall) < MISSED and 1 / 3 < size < 3:
            beside[name] = (precision, recall)
    if not beside:
        return
    listed = ", ".join(
        f"'{name}' {100 * precision:.0f} % and {100 * recall:.0f} %"
        for name, (precision, recall) in beside.items()
    )
    ids = {at for at, name in enumerate(made.manifest.class_names, 1) if name in beside}
    shown, names = of_classes(made, ids)
    yield Finding(
        "maps_beside_objects",
        "warning",
        target.name,
        f"on {split} these classes' maps, at the best threshold, are about as large as their "
        "objects and lie beside them; pixels of the maps that are right, and pixels of the objects "
        f"that are found: {listed}. The classifier goes by what is around them: add images of the "
        "same surroundings without the class (prepare_data.background_images), or change "
        "train_classifier.method or train_classifier.backbone.last_stage",
        (
            Change("prepare_data.background_images", "change"),
            Change("train_classifier.method", "change"),
            Change("train_classifier.backbone.last_stage", "change"),
        ),
        {name: precision for name, (precision, _) in beside.items()},
        names,
        shown,
        needs_truth=True,
    )


def worse_segmenter(made: Made, target: Target) -> Iterator[Finding]:
    """A segmenter that is far worse than the masks that it learned from."""
    if target.name != "evaluate_segmenter":
        return
    own = _score(made.report(target.name), "val", "mean_iou")
    taught = _score(made.report("evaluate_pseudo_masks"), "val", "mean_iou")
    if own is None or taught is None or own >= taught - WORSE:
        return
    yield Finding(
        "worse_segmenter",
        "warning",
        target.name,
        f"the segmenter's mean IoU on val is {own:.3f}, and its pseudo masks, which know the tags, "
        f"have {taught:.3f}; raise train_segmenter.epochs, change train_segmenter.optimizer.lr, or "
        "let it know the tags better: predict_masks.filter_recall",
        (
            Change("train_segmenter.epochs", "raise"),
            Change("train_segmenter.optimizer.lr", "change"),
            Change("predict_masks.filter_recall", "raise"),
        ),
        {"segmenter": own, "pseudo_masks": taught},
        needs_truth=True,
    )


def _score(report: Mapping[str, Any], split: str, metric: str) -> float | None:
    value = report.get(split, {}).get(metric)
    return None if value is None else float(value)
