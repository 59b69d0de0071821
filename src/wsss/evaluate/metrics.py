"""Every metric, once: from the pixels of each class that were right, drawn and predicted.

The counts are pooled over a whole split before anything is divided. A class that neither
ground truth nor prediction has anywhere scores NaN and is left out of means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from wsss.checks import did_you_mean, full_key

__all__ = [
    "Counts",
    "dice",
    "fn_share",
    "fp_share",
    "group_ids",
    "image_iou",
    "iou",
    "mean_accuracy",
    "mean_iou",
    "mean_over",
    "pixel_accuracy",
    "summary",
]


@dataclass(frozen=True)
class Counts:
    """Pixels per class; leading axes, such as one of thresholds, are free.

    Attributes:
        correct: (..., C) int64, pixels whose prediction is the class they have.
        gt: (..., C) int64, pixels of each class in the ground truth.
        predicted: (..., C) int64, pixels predicted as each class.
    """

    correct: np.ndarray
    gt: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, matrix: np.ndarray) -> Self:
        """From a (C, C) confusion, or a (C, C + 1) one whose last column was ignored.

        Example:
            >>> Counts.of(np.array([[50, 10], [5, 35]])).predicted
            array([55, 45])
        """
        num_classes = len(matrix)
        square = matrix[:, :num_classes]
        return cls(square.diagonal(), matrix.sum(axis=1), square.sum(axis=0))

    def pooled(self) -> Self:
        """The sums over the first axis, such as that of images."""
        return type(self)(self.correct.sum(axis=0), self.gt.sum(axis=0), self.predicted.sum(axis=0))

    @property
    def union(self) -> np.ndarray:
        """(..., C) int64: pixels that have a class or are predicted as it."""
        union: np.ndarray = self.gt + self.predicted - self.correct
        return union


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    quotient = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient


def mean_over(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis without NaN; NaN where nothing is left."""
    there = ~np.isnan(values)
    return _divide(np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1))


def iou(counts: Counts) -> np.ndarray:
    """(..., C) float64: intersection over union of each class.

    Example:
        >>> iou(Counts.of(np.array([[50, 10], [5, 35]]))).round(4)
        array([0.7692, 0.7   ])
    """
    return _divide(counts.correct, counts.union)


def mean_iou(counts: Counts, class_ids: Sequence[int] | None = None) -> np.ndarray:
    """(...) float64: the mean IoU of the classes present, or of those among `class_ids`."""
    values = iou(counts)
    return mean_over(values if class_ids is None else values[..., list(class_ids)])


def dice(counts: Counts) -> np.ndarray:
    """(..., C) float64: 2 |A and B| / (|A| + |B|) of each class, the F1 score of its pixels."""
    return _divide(2 * counts.correct, counts.gt + counts.predicted)


def fp_share(counts: Counts) -> np.ndarray:
    """(..., C) float64: the share of each class's union that is predicted and wrong.

    IRN writes it 1 - gt / union, SEAM (predicted - correct) / union; the two are equal, and
    fp_share + fn_share + iou = 1.
    """
    return _divide(counts.predicted - counts.correct, counts.union)


def fn_share(counts: Counts) -> np.ndarray:
    """(..., C) float64: the share of each class's union that is missed; see `fp_share`."""
    return _divide(counts.gt - counts.correct, counts.union)


def pixel_accuracy(counts: Counts) -> np.ndarray:
    """(...) float64: the share of all pixels that are right."""
    return _divide(counts.correct.sum(axis=-1), counts.gt.sum(axis=-1))


def mean_accuracy(counts: Counts) -> np.ndarray:
    """(...) float64: the share of right pixels of each true class, averaged."""
    return mean_over(_divide(counts.correct, counts.gt))


def image_iou(counts: Counts) -> np.ndarray:
    """(...) float64: of one image, right foreground pixels over the union of foregrounds.

    1 where both are empty; NaN where the ground truth ignores the whole image.
    """
    pixels = counts.gt.sum(axis=-1)
    union = pixels - counts.correct[..., 0]
    values = _divide(counts.correct[..., 1:].sum(axis=-1), union)
    return np.where(pixels == 0, np.nan, np.where(union == 0, 1.0, values))


def group_ids(
    class_groups: Mapping[str, Sequence[str]], class_names: Sequence[str]
) -> dict[str, list[int]]:
    """The class ids of each named group, the background (0) among them.

    Raises:
        ValueError: a group names a class that the data set does not have.

    Example:
        >>> group_ids({"pets": ["dog", "cat"]}, ["cat", "cow", "dog"])
        {'pets': [0, 1, 3]}
    """
    ids = {}
    for group, members in class_groups.items():
        for member in members:
            if member not in class_names:
                raise ValueError(
                    f"{full_key(f'class_groups.{group}')} names '{member}', which is no class; "
                    + did_you_mean(member, class_names)
                )
        ids[group] = [0, *sorted(class_names.index(member) + 1 for member in members)]
    return ids


def summary(
    counts: Counts, class_names: Sequence[str], class_groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """All metrics of one split, ready for a JSON report.

    Args:
        counts: with arrays of shape (K + 1,).
        class_names: K names, without the background.
        class_groups: see `group_ids`.

    Returns:
        mean_iou, mean_iou_<group>, mean_dice, mean_fp_share and mean_fn_share (these two
        over foreground classes), pixel_accuracy, mean_accuracy; and per class iou, dice,
        fp_share, fn_share. Fractions in [0, 1]. What cannot be computed is left out.
    """
    scalars = {
        "mean_iou": mean_iou(counts),
        "mean_dice": mean_over(dice(counts)),
        "mean_fp_share": mean_over(fp_share(counts)[1:]),
        "mean_fn_share": mean_over(fn_share(counts)[1:]),
        "pixel_accuracy": pixel_accuracy(counts),
        "mean_accuracy": mean_accuracy(counts),
    }
    for group, ids in group_ids(class_groups, class_names).items():
        scalars[f"mean_iou_{group}"] = mean_iou(counts, ids)
    names = ("background", *class_names)
    per_class = {
        metric.__name__: {
            name: float(value)
            for name, value in zip(names, metric(counts), strict=True)
            if not np.isnan(value)
        }
        for metric in (iou, dice, fp_share, fn_share)
    }
    return {
        name: float(value) for name, value in scalars.items() if not np.isnan(value)
    } | per_class
