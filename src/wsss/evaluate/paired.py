"""Two predictions of the same images: how much better one is, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsss.artifacts import Sample
from wsss.checks import check_shape
from wsss.evaluate.ground_truth import read_ground_truth
from wsss.evaluate.metrics import Counts, iou, mean_over
from wsss.evaluate.splits import in_parallel, label_matrix

__all__ = ["Difference", "image_counts", "paired_differences"]

RESAMPLES = 1000
CONFIDENCE = 0.95

FEWEST = 5
"""Images that an interval is drawn from at least: fewer say nothing of others like them."""


@dataclass(frozen=True)
class Difference:
    """A score of two predictions.

    Attributes:
        name: "mean_iou", or of a class.
        before: of the first, NaN where it has none.
        after: of the other.
        interval: in which `after` - `before` lies in 95 of 100 sets of images like these; NaN
            where it is not known.
        images: how many show the class, or were scored.
    """

    name: str
    before: float
    after: float
    interval: tuple[float, float]
    images: int

    @property
    def gain(self) -> float:
        """By how much the other is better; negative where it is worse."""
        return self.after - self.before

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out 0."""
        low, high = self.interval
        return low > 0 or high < 0


def image_counts(
    samples: Sequence[Sample],
    labels: Path,
    masks: Path,
    num_fg_classes: int,
    *,
    has_background: bool = True,
) -> Counts:
    """Count the pixels of each image by itself; summed over images they are those of a split.

    Args:
        samples: N that have a mask.
        labels: the folder of <name>.png.
        masks: the folder of ground-truth masks.
        num_fg_classes: K.
        has_background: whether a pixel may show none of the classes; where not, label 0 is none.

    Returns:
        Arrays of (N, K + 1).

    Raises:
        ValueError: a file is missing, broken, or does not fit its image.
    """

    def count(sample: Sample) -> np.ndarray:
        gt_mask = read_ground_truth(masks / str(sample.mask), sample.size, num_fg_classes)
        matrix = label_matrix(sample, labels, gt_mask, num_fg_classes)[1]
        if not has_background:
            matrix[:, -1] += matrix[:, 0]
            matrix[:, 0] = 0
        return matrix

    matrices = np.array([*in_parallel(count, samples)], np.int64)
    matrices = matrices.reshape(-1, num_fg_classes + 1, num_fg_classes + 2)
    square = matrices[:, :, :-1]
    correct = np.diagonal(square, axis1=1, axis2=2)
    # pixels that only the prediction ignores are left out, as of a network there are none; those
    # that it gives to no class, where each pixel has one, are missed
    wanted = square if has_background else matrices
    return Counts(correct, wanted.sum(axis=2), square.sum(axis=1))


def paired_differences(
    before: Counts, after: Counts, class_names: Sequence[str], rng: np.random.Generator
) -> list[Difference]:
    """Compare two predictions of the same images.

    The interval is a percentile bootstrap: images are drawn with replacement, the same ones for
    both, as hard images are hard for both; each draw is scored with pixels pooled, as a split is.

    Args:
        before: (N, K + 1), as of `image_counts`.
        after: of the same images in the same order.
        class_names: K names.
        rng: draws the images.

    Returns:
        The mean IoU first, then the background and each class that any image has.

    Raises:
        ValueError: the arrays do not fit together, or there is no image.
    """
    check_shape("after", after.gt.shape, before.gt.shape)
    number, classes = before.gt.shape
    check_shape("class_names", (len(class_names),), (classes - 1,))
    if not number:
        raise ValueError("there is no image to compare on")
    parts = [part for counts in (before, after) for part in _parts(counts)]
    stacked = np.concatenate(parts, axis=1).astype(np.float64)  # (N, 6 C), exact below 2**53
    sums = [stacked.sum(axis=0)]  # of the images as they are; then of each draw
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(number, size=number), minlength=number)
        sums.append(times @ stacked)
    pooled = np.array(sums).reshape(1 + RESAMPLES, 6, classes)
    old, new = (iou(Counts(*pooled[:, at : at + 3].swapaxes(0, 1))) for at in (0, 3))
    shown = (before.gt > 0).sum(axis=0)
    found = [_difference("mean_iou", mean_over(old), mean_over(new), number)]
    for class_id, name in enumerate(("background", *class_names)):
        if shown[class_id] or not np.isnan((old[0, class_id], new[0, class_id])).all():
            of_class = old[:, class_id], new[:, class_id]
            found.append(_difference(name, *of_class, int(shown[class_id])))
    return found


def _parts(counts: Counts) -> tuple[np.ndarray, ...]:
    return counts.correct, counts.gt, counts.predicted


def _difference(name: str, old: np.ndarray, new: np.ndarray, images: int) -> Difference:
    gains = (new - old)[1:]
    gains = gains[~np.isnan(gains)]
    tail = (1 - CONFIDENCE) / 2
    known = gains.size and images >= FEWEST
    low, high = np.quantile(gains, [tail, 1 - tail]) if known else (np.nan, np.nan)
    return Difference(name, float(old[0]), float(new[0]), (float(low), float(high)), images)
