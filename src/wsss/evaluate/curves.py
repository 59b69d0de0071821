"""Metrics at every threshold from one pass over the images."""

import numpy as np

from wsss.artifacts import IGNORE_INDEX, ScoreMap, check_label_map
from wsss.artifacts.background import winners
from wsss.checks import check_dtype, check_shape, check_share, check_values
from wsss.evaluate.metrics import Counts, image_iou, iou

__all__ = ["ThresholdCurve", "score_histogram", "threshold_grid"]


def threshold_grid(step: float) -> np.ndarray:
    """(T,) float64: 0, step, 2 step, ..., 1; the last interval may be shorter.

    Raises:
        ValueError: step is not in (0, 1].

    Example:
        >>> threshold_grid(0.4)
        array([0. , 0.4, 0.8, 1. ])
    """
    check_share("step", step, zero=False)
    grid = np.arange(int(1 / step + 1e-9) + 1) * step
    grid = np.round(grid, 6)
    return grid if grid[-1] == 1 else np.append(grid, 1.0)


def score_histogram(
    gt_mask: np.ndarray, score_map: ScoreMap, num_classes: int, thresholds: np.ndarray
) -> np.ndarray:
    """Sort the pixels of one image by true class, winning class and score.

    The winner of a pixel is its class with the highest score at full resolution, the
    lower id on ties. It takes the pixel at the thresholds below that score, as `labels_above` has
    it at each of them.

    Args:
        gt_mask: (H, W) uint8, the ground truth, 0..num_classes - 1 or 255, which is dropped.
        score_map: of the same image, with P classes.
        num_classes: K + 1, with the background.
        thresholds: (T,) ascending.

    Returns:
        (num_classes, max(P, 1), T + 1) int64: pixels by true class, index of the winner in
        `class_ids`, and number of thresholds at which the winner takes the pixel.

    Raises:
        ValueError: the shapes differ, the mask is not uint8, or a value is neither a class nor 255.
    """
    check_shape("gt_mask", gt_mask.shape, score_map.size)
    check_label_map("gt_mask", gt_mask)
    num_bins = len(thresholds) + 1
    num_winners = max(len(score_map.class_ids), 1)
    pixels = np.zeros(num_classes * num_winners * num_bins, np.int64)
    for start, stop in score_map.row_blocks():
        gt = gt_mask[start:stop]
        best, winner = winners(score_map.rows(start, stop))
        valid = gt != IGNORE_INDEX
        labels = gt[valid]
        check_values("gt_mask", labels, 0, num_classes - 1)
        index = labels.astype(np.int64) * num_winners + winner[valid]
        index *= num_bins
        index += np.searchsorted(thresholds.astype(np.float32), best[valid], side="left")
        pixels += np.bincount(index, minlength=len(pixels))
    return pixels.reshape(num_classes, num_winners, num_bins)


def _counts(histogram: np.ndarray, class_ids: np.ndarray) -> Counts:
    """Counts of shape (T, C) from a histogram whose winners have the given class ids."""
    taken = histogram[..., ::-1].cumsum(axis=-1)[..., -2::-1]  # (C, P, T): bins above t
    num_classes, num_thresholds = taken.shape[0], taken.shape[2]
    gt = histogram.sum(axis=(1, 2))
    correct = np.zeros((num_thresholds, num_classes), np.int64)
    predicted = np.zeros_like(correct)
    for winner, class_id in enumerate(class_ids.tolist()):
        correct[:, class_id] = taken[class_id, winner]
        predicted[:, class_id] = taken[:, winner].sum(axis=0)
    correct[:, 0] = gt[0] - taken[0].sum(axis=0)
    predicted[:, 0] = gt.sum() - predicted.sum(axis=1)
    return Counts(correct, np.broadcast_to(gt, correct.shape), predicted)


class ThresholdCurve:
    """The pooled counts of a split at every threshold.

    Args:
        num_classes: K + 1, with the background.
        step: distance of the thresholds, in (0, 1].
        has_background: whether a pixel may show none of the classes; where not, one that no class
            takes is missed, and no class was predicted there.

    Attributes:
        thresholds: (T,) float64.
        histogram: (C, K, T + 1) int64, as `score_histogram`, over all classes.
        images: how many were added.
        class_images: (C,) int64, how many of them show each class in their ground truth.
    """

    def __init__(self, num_classes: int, step: float, *, has_background: bool = True) -> None:
        self.thresholds, self.has_background = threshold_grid(step), has_background
        self.histogram = np.zeros(
            (num_classes, num_classes - 1, len(self.thresholds) + 1), np.int64
        )
        self.images = 0
        self.class_images = np.zeros(num_classes, np.int64)
        self._iou_sum = np.zeros(len(self.thresholds))
        self._iou_images = 0

    def add(self, histogram: np.ndarray, class_ids: np.ndarray) -> None:
        """Add one image.

        Args:
            histogram: from `score_histogram`, at these thresholds.
            class_ids: (P,) uint8 in 1..num_classes - 1, those of its score map.

        Raises:
            ValueError: class_ids is not as above.
        """
        check_dtype("class_ids", class_ids.dtype, "uint8")
        check_values("class_ids", class_ids, 1, len(self.histogram) - 1)
        self.images += 1
        self.class_images += histogram.any(axis=(1, 2))
        if len(class_ids):
            self.histogram[:, class_ids.astype(np.intp) - 1] += histogram
        else:
            self.histogram[:, :1] += histogram  # never above a threshold: the winner is nobody
        of_image = image_iou(_counts(histogram, class_ids))
        if not np.isnan(of_image).any():
            self._iou_sum += of_image
            self._iou_images += 1

    def counts(self) -> Counts:
        """Pooled counts, each of shape (T, C)."""
        counts = _counts(self.histogram, np.arange(1, len(self.histogram)))
        if not self.has_background:
            counts.predicted[:, 0] = 0
        return counts

    def foreground_iou(self) -> np.ndarray:
        """(T,) float64: pooled IoU of all classes taken as one, whichever of them a pixel shows."""
        merged = np.stack([self.histogram[:1].sum((0, 1)), self.histogram[1:].sum((0, 1))])
        foreground: np.ndarray = iou(_counts(merged[:, None], np.array([1])))[:, 1]
        return foreground

    def confusion(self, index: int) -> np.ndarray:
        """(C, C) int64: the confusion matrix at one threshold, rows ground truth."""
        foreground = self.histogram[..., index + 1 :].sum(axis=-1)
        background = self.histogram.sum(axis=(1, 2)) - foreground.sum(axis=1)
        return np.column_stack([background, foreground])

    def image_iou(self) -> np.ndarray:
        """(T,) float64: `metrics.image_iou` averaged over images, NaN without any."""
        if not self._iou_images:
            return np.full(len(self.thresholds), np.nan)
        return self._iou_sum / self._iou_images

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall of all foreground pixels, each (T,) float64.

        Precision is the share of pixels predicted as foreground that have the right class
        (1 when there are none), recall the share of foreground pixels found with the right
        class (NaN when there are none).
        """
        counts = self.counts()
        right = counts.correct[:, 1:].sum(axis=1)
        predicted = counts.predicted[:, 1:].sum(axis=1)
        drawn = counts.gt[:, 1:].sum(axis=1)
        precision = np.where(predicted > 0, right / np.maximum(predicted, 1), 1.0)
        recall = np.where(drawn > 0, right / np.maximum(drawn, 1), np.nan)
        return precision, recall

    def average_precision(self) -> float:
        """Area under the precision-recall curve: precision times the gain in recall, summed
        over the thresholds from the highest to 0; NaN without foreground."""
        precision, recall = self.precision_recall()
        return float(np.sum(precision * -np.diff(recall, append=0.0)))
