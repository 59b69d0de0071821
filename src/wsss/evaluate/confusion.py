"""Pixel counts of ground truth against prediction; those of several images simply add up."""

import numpy as np

from wsss.artifacts import IGNORE_INDEX, check_label_map
from wsss.checks import check_shape

__all__ = ["confusion_matrix", "merge_foreground"]

BLOCK_PIXELS = 2**20  # that are counted together, at some 24 bytes each


def confusion_matrix(gt_mask: np.ndarray, mask: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the pixels of each pair of classes.

    Pixels the ground truth ignores are dropped. Pixels only the prediction ignores are
    counted in a last column of their own, so that both readings stay open:

    - *on labelled pixels*, `matrix[:, :num_classes]`: they are left out;
    - *strict*, the whole matrix: they count as missed by every class, so that
      ignoring more can never raise the score.

    Args:
        gt_mask: (H, W) uint8, 0..num_classes - 1 or 255.
        mask: (H, W) uint8, as `gt_mask`.
        num_classes: K + 1, with the background.

    Returns:
        (num_classes, num_classes + 1) int64: rows ground truth, columns prediction.

    Raises:
        ValueError: the shapes differ, a mask is not uint8, or a value is neither a class nor 255.

    Example:
        >>> gt, mask = np.array([[0, 1, 1, 255]], np.uint8), np.array([[0, 0, 255, 1]], np.uint8)
        >>> confusion_matrix(gt, mask, 2)
        array([[1, 0, 0],
               [1, 0, 1]])
    """
    check_shape("gt_mask", gt_mask.shape, ("H", "W"))
    check_shape("mask", mask.shape, gt_mask.shape)
    check_label_map("gt_mask", gt_mask)
    check_label_map("mask", mask)
    counts = np.zeros(256 * 256, np.int64)
    rows = max(1, BLOCK_PIXELS // max(1, gt_mask.shape[1]))
    for top in range(0, len(gt_mask), rows):
        block = slice(top, top + rows)
        both = gt_mask[block].astype(np.intp) * 256 + mask[block]
        counts += np.bincount(both.ravel(), minlength=len(counts))
    pairs = counts.reshape(256, 256)
    for name, used in (("gt_mask", pairs.sum(axis=1)), ("mask", pairs.sum(axis=0))):
        wrong = np.flatnonzero(used[num_classes:IGNORE_INDEX]) + num_classes
        if wrong.size:
            raise ValueError(
                f"{name} holds {wrong.tolist()}, but its values are 0..{num_classes - 1} and "
                f"{IGNORE_INDEX}; was it made with other classes?"
            )
    columns = [*range(num_classes), IGNORE_INDEX]
    return pairs[:num_classes, columns]


def merge_foreground(matrix: np.ndarray) -> np.ndarray:
    """Take all classes but the background as one, so that mistaking one for another is right.

    Args:
        matrix: (C, C) or (C, C + 1), as of `confusion_matrix`.

    Returns:
        (2, 2) or (2, 3) int64.

    Example:
        >>> merge_foreground(np.array([[5, 0, 1], [0, 2, 3], [1, 0, 4]]))
        array([[5, 1],
               [1, 9]])
    """
    starts = [0, 1, *range(len(matrix), matrix.shape[1])]
    merged: np.ndarray = np.add.reduceat(np.add.reduceat(matrix, [0, 1]), starts, axis=1)
    return merged
