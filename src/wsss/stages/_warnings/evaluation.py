"""What a person must know of the scores of a result: one line for the log, and warnings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wsss.artifacts import SPLITS, Manifest, Sample, report_splits
from wsss.evaluate import threshold_grid
from wsss.stages._warnings.wording import quoted, share_of

__all__ = ["headline", "warnings_of_classes", "warnings_of_false_alarms", "warnings_of_threshold"]

ZERO = 0.005  # an IoU that is printed as 0.00
POOR = 0.2  # a mean IoU of the foreground classes
HIDDEN = 0.5  # one of background and foreground is below this share of the other

Report = Mapping[str, Any]


def headline(report: Report) -> str:
    """One line for the log: the scores, or why there are none.

    Background and foreground are named apart where one hides the other in the mean.
    """
    parts = []
    for split in report_splits(report):
        scores = report[split]
        if "mean_iou" in scores:
            parts.append(f"{split} mean IoU {scores['mean_iou']:.3f}{_apart(scores)}")
        if "given" in scores:
            parts.append(f"{scores['given']} given masks of {split} left out")
        if {"hit_tiny", "hit_small"} & scores.get("objects", {}).keys():
            objects = scores["objects"]
            parts.append(f"{100 * objects['hit']:.0f} % of {objects['count']} {split} objects hit")
        if "false_alarms" in scores:
            found = scores["false_alarms"]
            parts.append(
                f"false alarms in {100 * found['images']:.0f} % of {found['untagged']} "
                f"{split} images without a tag"
            )
    if "threshold" in report:
        parts.append(f"threshold {_digits(report['threshold'])} chosen on selection")
    protocol = report["protocol"]
    missing = protocol.get("ground_truth", "not on selection")
    return ", ".join(parts) or f"no scores; ground truth: {missing}"


def _digits(threshold: float) -> str:
    """Two digits, or as many as a finer step needs."""
    return max(f"{threshold:.2f}", f"{threshold:g}", key=len)


def _apart(scores: Report) -> str:
    background, foreground = scores["iou"].get("background"), scores["mean_iou_foreground"]
    if background is None or min(background, foreground) >= HIDDEN * max(background, foreground):
        return ""
    return f" (background {background:.3f}, foreground classes {foreground:.3f})"


def warnings_of_threshold(report: Report, step: float, select_by: str) -> Iterator[str]:
    """Of a threshold that was not chosen though there are masks, or at the end of its range.

    Args:
        report: of score maps.
        step: distance of the thresholds.
        select_by: what chose it.
    """
    chosen = report.get("threshold")
    if chosen is None:
        reason = report["protocol"]["threshold"]
        if "holds a class" in reason:
            yield (
                f"threshold: {reason}; check prepare_data's mask values, add masks of them, or set "
                "make_pseudo_masks.threshold to usual"
            )
        return
    thresholds = threshold_grid(step)
    place = int(abs(thresholds - chosen).argmin())
    poor = report["selection"].get("mean_iou_foreground", 1) < POOR
    last = len(thresholds) - 1
    if place in (0, last) or (poor and place in (1, last - 1)):
        yield (
            f"threshold {_digits(chosen)} is at the end of its range, and none within has a better "
            f"{select_by} on the selection split: these maps do not tell objects from their "
            "background; see what train_classifier and the maps warn of, let another metric choose "
            "(evaluate.select_by), or set make_pseudo_masks.threshold"
        )


def warnings_of_classes(report: Report, manifest: Manifest, advice: str) -> Iterator[str]:
    """Of classes that score nothing, or cannot be scored, on val; without masks there, elsewhere.

    The same is said of each scored set.

    Args:
        report: of any result.
        manifest: of the samples that are scored, whose tags say where a class should be.
        advice: what to look at or to change where classes are not found.
    """
    found = report_splits(report)
    for split in found:
        if report[split].get("images") and "mean_iou" not in report[split]:
            yield _nothing_drawn(split, report[split])
    scored = [split for split in ("val", "selection", "train") if "iou" in report.get(split, {})]
    further = [split for split in found if split not in SPLITS and "iou" in report[split]]
    for split in (*scored[:1], *further):
        yield from _not_found(split, report, manifest, advice)


def _not_found(split: str, report: Report, manifest: Manifest, advice: str) -> Iterator[str]:
    """Of the classes of one split."""
    scores, tagged = report[split], _tagged(manifest, manifest.splits[split])
    # a class without any true pixel has missed none; one that was not even predicted has no IoU
    drawn = [name for name in tagged if scores["fn_share"].get(name, 0) > 0] + [
        name for name in tagged if scores["iou"].get(name, 0) > 0
    ]
    lost = [name for name in tagged if name in drawn and scores["iou"][name] < ZERO]
    absent = [name for name in tagged if name not in drawn]
    if lost:
        background = scores["iou"].get("background", 0)
        everything = len(lost) == len(set(drawn))
        alone = f" comes from the background alone ({background:.3f})" if everything else ""
        mean = f"mean IoU of {scores['mean_iou']:.3f}"
        yield (
            f"IoU of {quoted(lost)} is 0 on {split}, {'whose ' if alone else 'with a '}{mean}"
            f"{alone}; {advice}"
        )
    if absent:
        count = sum(tagged[name] for name in absent)
        yield (
            f"no scored pixel of the {split} masks has the class {quoted(absent)}, though {count} "
            "of their images are tagged so: the IoU there says nothing; check prepare_data's mask "
            "values, and of pseudo masks what make_pseudo_masks ignores"
        )


def _nothing_drawn(split: str, scores: Report) -> str:
    if "mean_iou" in scores.get("strict", {}):
        return (
            f"every pixel of a class is ignored in the pseudo masks of {split}, so that only the "
            "strict mean IoU is given; lower make_pseudo_masks.ignore_margin or ignore_below"
        )
    return (
        f"the {scores['images']} masks of {split} hold no pixel of any class, so that no mean IoU "
        "is given; check prepare_data's mask values"
    )


def _tagged(manifest: Manifest, samples: Sequence[Sample]) -> dict[str, int]:
    """By class, how many of the samples have its tag; without those that none has."""
    counts = manifest.labels(samples).sum(axis=0).astype(int).tolist()
    found = zip(manifest.class_names, counts, strict=True)
    return {name: count for name, count in found if count}


def warnings_of_false_alarms(report: Report) -> Iterator[str]:
    """Of images without a tag in most of which something is predicted."""
    for split in report_splits(report):
        found = report[split].get("false_alarms")
        if found and found["images"] >= 0.5:
            alarmed = round(found["images"] * found["untagged"])
            yield (
                f"classes are predicted in {share_of(alarmed, found['untagged'])} {split} images "
                f"without a tag, on {100 * found['area']:.1f} % of their area; give train more "
                "images without any class, tagged with the data set's empty_tag"
            )
