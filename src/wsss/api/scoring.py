"""Masks against the masks of annotators."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from wsss.api.results import Maps, Mask
from wsss.artifacts import IGNORE_INDEX, check_label_map, read_label_png
from wsss.checks import check_shape
from wsss.evaluate import Counts, LabelScores, confusion_matrix, label_report
from wsss.evaluate.ground_truth import value_counts, wrong_ids, wrong_size
from wsss.evaluate.metrics import image_iou

__all__ = ["OneMask", "Scores", "evaluate"]

OneMask: TypeAlias = Mask | str | Path | np.ndarray | Image.Image
"""A mask of class ids, 0 background, 1..K, 255 ignored: what `wsss.mask` and `wsss.predict` give, a
palette or grey PNG, (H, W) uint8, or a Pillow image of such a PNG."""


@dataclass(frozen=True, eq=False)
class Scores:
    """How masks agree with ground truth, pixels pooled over all images.

    Attributes:
        images: how many.
        mean_iou: over the background and the classes that either has; NaN where the ground truth
            has no class.
        iou: by name of the class.
        foreground_iou: all classes taken as one; NaN likewise, and without a background.
        pixel_accuracy: the share of labelled pixels that are right.
        coverage: the share of ground-truth pixels whose prediction is not ignored (255); all others
            are of these pixels alone. Without a background what has no class is missed.
        confusion: (K + 1, K + 2) int64: rows ground truth, columns prediction, ignored last.
        report: all that reports of evaluations have, of the split "images".
    """

    images: int
    mean_iou: float
    iou: dict[str, float]
    foreground_iou: float
    pixel_accuracy: float
    coverage: float
    confusion: np.ndarray = field(repr=False)
    report: dict[str, Any] = field(repr=False)


def evaluate(
    predictions: OneMask | Iterable[OneMask],
    masks: OneMask | Iterable[OneMask],
    class_names: Sequence[str] | None = None,
    *,
    background: bool | None = None,
) -> Scores:
    """Score masks by ground truth, as the pipeline does.

    Args:
        predictions: of one image or many.
        masks: those of annotators, of the same images in the same order.
        class_names: K names; None takes them from the predictions.
        background: whether a pixel may show none of the classes; None asks the predictions, and
            takes it for true of arrays and files.

    Raises:
        ValueError: there are not as many of both, sizes differ, a mask holds what is no class or
            255 where a class is meant, or nothing says what the classes are, or two things say so
            differently.

    Example:
        >>> truth = np.array([[0, 1], [1, 1]], np.uint8)
        >>> found = np.array([[0, 0], [1, 1]], np.uint8)
        >>> scores = evaluate(found, truth, ["cat"])
        >>> {name: round(value, 3) for name, value in scores.iou.items()}
        {'background': 0.5, 'cat': 0.667}
    """
    found, wanted = _listed(predictions), _listed(masks)
    if len(found) != len(wanted) or not found:
        raise ValueError(
            f"there are {len(found)} predictions and {len(wanted)} masks; give as many of both, "
            "and one at least"
        )
    names = _names([*found, *wanted], class_names)
    size = len(names) + 1
    matrix, ious = np.zeros((size, size + 1), np.int64), []
    for at, (prediction, mask) in enumerate(zip(found, wanted, strict=True)):
        gt_mask = _labels(mask, f"masks[{at}]")
        labels = _labels(prediction, f"predictions[{at}]")
        wrong = wrong_size(gt_mask, (labels.shape[0], labels.shape[1]))
        wrong = wrong or wrong_ids(list(value_counts(gt_mask)), len(names))
        if wrong:
            raise ValueError(f"{_called(mask, f'masks[{at}]')} {wrong}")
        of_image = confusion_matrix(gt_mask, labels, size)
        matrix += of_image
        ious.append(float(image_iou(Counts.of(of_image[:, :-1]))))
    if background is None:
        background = all(item.has_background for item in found + wanted if isinstance(item, Mask))
    _refuse_255_as_a_class("masks", wanted, bool(matrix[1:].any()))
    if matrix[1:].any():
        _refuse_255_as_a_class("predictions", found, bool(matrix[:, 1:-1].any()))
    known = [value for value in ious if not np.isnan(value)]
    mean = float(np.mean(known)) if known else float("nan")
    if not background:  # what is given to no class, where each pixel has one, is missed
        matrix[:, -1] += matrix[:, 0]
        matrix[:, 0] = 0
    scored = LabelScores(matrix, len(found), mean, has_background=background)
    report = label_report({"images": scored}, names, {}, from_tags=background)
    own, nothing = report["images"], float("nan")
    return Scores(
        len(found),
        own.get("mean_iou", nothing),
        own.get("iou", {}),
        own.get("foreground_iou", nothing),
        own.get("pixel_accuracy", nothing),
        scored.coverage,
        matrix,
        report,
    )


def _names(given: Sequence[Any], class_names: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the classes, on which all that name them agree."""
    names = None if class_names is None else tuple(class_names)
    for item in given:
        if isinstance(item, Mask):
            names = names or item.class_names
            if item.class_names != names:
                raise ValueError(
                    f"the classes of '{item.name}' are {', '.join(item.class_names)}, and not "
                    f"{', '.join(names)} in this order: its ids mean others"
                )
    if names is None:
        raise ValueError("nothing says what the classes are; give class_names=[...]")
    return names


def _refuse_255_as_a_class(what: str, masks: Sequence[Any], has_class: bool) -> None:
    """That of masks of 0 and 255 alone, as other tools write them, not all that counts is ignored.

    Args:
        what: they are.
        masks: as the caller gave them; a `Mask` has no 255 that means a class.
        has_class: whether one of them has a class.
    """
    if has_class:
        return
    for at, mask in enumerate(masks):
        if not isinstance(mask, Mask) and (_labels(mask, what) == IGNORE_INDEX).any():
            raise ValueError(
                f"{what} hold 0 and 255 alone, such as {_called(mask, f'{what}[{at}]')}, and 255 "
                "is ignored; where it means a class, take (mask > 0).astype(np.uint8)"
            )


def _listed(masks: Any) -> list[Any]:
    if isinstance(masks, Mask | Maps | str | Path | np.ndarray | Image.Image):
        return [masks]
    return list(masks)


def _labels(mask: Any, what: str) -> np.ndarray:
    """(H, W) uint8."""
    if isinstance(mask, Maps):
        raise ValueError(f"{what} are maps, which have no classes yet; take wsss.mask(maps)")
    if isinstance(mask, Mask):
        return mask.labels
    if isinstance(mask, str | Path):
        path = Path(mask).expanduser()
        if not path.is_file():
            raise ValueError(f"{what} is {path}, and there is no such file")
        return read_label_png(path)
    if isinstance(mask, Image.Image) and mask.mode not in ("P", "L", "1"):
        raise ValueError(
            f"{what} has mode {mask.mode}; a mask holds class ids, so take a palette or grey image"
        )
    labels = np.asarray(mask)
    check_shape(what, labels.shape, ("H", "W"))
    check_label_map(what, labels)
    return labels


def _called(mask: Any, what: str) -> str:
    return str(mask) if isinstance(mask, str | Path) else what
