"""Connected parts of the classes of a mask."""

from collections.abc import Iterator

import numpy as np

from wsss.artifacts.label_png import IGNORE_INDEX, check_label_map

__all__ = ["TOUCHING", "Corner", "class_parts"]

Corner = tuple[slice, slice]
"""Rows and columns of the smallest rectangle around a part."""

TOUCHING = np.ones((3, 3), bool)
"""Pixels that meet at a corner belong together."""


def class_parts(mask: np.ndarray) -> Iterator[tuple[int, Corner, np.ndarray]]:
    """The connected parts of each class, from top to bottom; background and 255 have none.

    Args:
        mask: (H, W) uint8: 0 background, class ids, 255 ignored.

    Yields:
        The class id, where the part is, and (h, w) bool: which pixels there belong to it.

    Raises:
        ValueError: the mask is not uint8.

    Example:
        >>> mask = np.array([[0, 2, 0], [0, 0, 2], [1, 255, 0]], np.uint8)
        >>> [(class_id, int(part.sum())) for class_id, _, part in class_parts(mask)]
        [(1, 1), (2, 2)]
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    check_label_map("mask", mask)
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    for class_id in present[(present != 0) & (present != IGNORE_INDEX)].tolist():
        labels, _ = ndimage.label(mask == class_id, TOUCHING)
        for number, corner in enumerate(ndimage.find_objects(labels), 1):
            yield class_id, corner, labels[corner] == number
