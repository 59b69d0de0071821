"""Regions of label maps, and one feature for each mask of an image."""

import math

import numpy as np

from wsss.artifacts import IGNORE_INDEX, TOUCHING, Proposals, check_label_map
from wsss.checks import check_shape, check_share

__all__ = ["pooled_features", "regions_of"]

REFERENCE_SIDE = 512
"""Pixels of the longer side of an image, for which erosions and areas are given."""


def regions_of(
    mask: np.ndarray, *, erosions: int, min_area: float
) -> tuple[Proposals, np.ndarray, np.ndarray]:
    """The connected parts of each class and of the background, without their borders.

    Both numbers are of an image of 512 pixels, and follow the longer side of others: erosions in
    proportion, areas with the square. The border of the image takes nothing away.

    Args:
        mask: (H, W) uint8: 0 background, class ids, 255 ignored.
        erosions: by 3x3 pixels, one after the other.
        min_area: pixels that are left of a part, below which it is left out.

    Returns:
        N parts, by class and then from top to bottom, as masks; their (N,) uint8 class ids; and
        their (N, 4) int32 boxes: top, left, bottom, right, the last two excluded.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    check_label_map("mask", mask)
    scale = max(mask.shape) / REFERENCE_SIDE
    side = 2 * round(erosions * scale) + 1
    numbers = np.full(mask.shape, -1, np.int32)
    ids: list[int] = []
    boxes: list[tuple[int, int, int, int]] = []
    for class_id in np.unique(mask[mask != IGNORE_INDEX]).tolist():
        inside = (mask == class_id).astype(np.uint8)
        # so many erosions by 3x3 are one by a larger square
        inner = ndimage.minimum_filter(inside, side, mode="nearest")
        parts, _ = ndimage.label(inner, TOUCHING)
        for number, corner in enumerate(ndimage.find_objects(parts), 1):
            part = parts[corner] == number
            if part.sum() >= min_area * scale**2:
                numbers[corner][part] = len(ids)
                ids.append(class_id)
                rows, columns = corner
                boxes.append((rows.start, columns.start, rows.stop, columns.stop))
    found = Proposals.from_labels(numbers)
    return found, np.array(ids, np.uint8), np.array(boxes, np.int32).reshape(-1, 4)


def pooled_features(
    masks: Proposals, features: np.ndarray, shown: tuple[float, float]
) -> np.ndarray:
    """The mean feature of the pixels of each mask, of length 1.

    A pixel has the feature of the cell that it lies in.

    Args:
        masks: N masks of an image.
        features: (D, h, w) float32.
        shown: the share of the grid's height and width that the image covers, in (0, 1]; the rest
            is padding.

    Returns:
        (N, D) float32; zeros for an empty mask.
    """
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

    check_shape("features", features.shape, ("D", "h", "w"))
    for share in shown:
        check_share("shown", share, zero=False)
    (height, width), (rows, columns) = masks.size, features.shape[1:]
    y = _cells(height, rows * shown[0], rows)
    x = _cells(width, columns * shown[1], columns)
    cells = (y[:, None] * columns + x).ravel()  # of each pixel
    ones = np.ones(height * width, np.float32)
    to_cells = csr_array(
        (ones, cells, np.arange(height * width + 1)), shape=(height * width, rows * columns)
    )
    counts = masks.matrix() @ to_cells  # (N, h*w) pixels of each mask in each cell
    sums = counts @ features.reshape(len(features), -1).T
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    unit: np.ndarray = (sums / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return unit


def _cells(pixels: int, span: float, cells: int) -> np.ndarray:
    """The cell of each of some pixels in a row, which span so many cells of a grid."""
    centres = (np.arange(pixels) + 0.5) * (span / pixels)
    return np.minimum(centres.astype(np.int64), min(cells, math.ceil(span)) - 1)
