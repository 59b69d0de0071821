"""Boxes, points and scribbles as an annotator would give them of what a mask shows."""

from collections.abc import Iterator

import numpy as np

from wsss.artifacts import IGNORE_INDEX, Box, Corner, class_parts

__all__ = ["boxes_of", "points_of", "scribbles_of"]

_DEEP = 0.5  # of the greatest distance to the outline: where a stroke runs


def boxes_of(mask: np.ndarray) -> tuple[Box, ...]:
    """Tight boxes of the parts of each class; what touches, also at a corner, is one part.

    Args:
        mask: (H, W) uint8: 0 background, class ids, 255 ignored.

    Returns:
        By class, from top to bottom.

    Example:
        >>> boxes_of(np.array([[0, 2, 0], [0, 0, 2], [1, 255, 0]], np.uint8))
        (Box(class_id=1, top=2, left=0, bottom=3, right=1), Box(class_id=2, top=0, left=1, \
bottom=2, right=3))
    """
    return tuple(
        Box(class_id, rows.start, columns.start, rows.stop, columns.stop)
        for class_id, (rows, columns), _ in class_parts(mask)
    )


def points_of(mask: np.ndarray) -> np.ndarray:
    """The pixel of each part that is farthest from its outline, and one of the background.

    Args:
        mask: (H, W) uint8: 0 background, class ids, 255 ignored.

    Returns:
        (H, W) uint8: 0 and class ids at those pixels, 255 elsewhere.

    Example:
        >>> points_of(np.array([[0, 0, 0, 2, 2, 2], [0, 0, 0, 2, 2, 2], [0, 0, 0, 2, 2, 2]],
        ...                    np.uint8))
        array([[255, 255, 255, 255, 255, 255],
               [255,   0, 255, 255,   2, 255],
               [255, 255, 255, 255, 255, 255]], dtype=uint8)
    """
    points = np.full(mask.shape, IGNORE_INDEX, np.uint8)
    for class_id, corner, part in _regions(mask):
        points[corner][_deepest(_depth(part))] = class_id
    return points


def scribbles_of(mask: np.ndarray) -> np.ndarray:
    """A stroke along the middle of each part, where it is thick, and of the background.

    Args:
        mask: (H, W) uint8: 0 background, class ids, 255 ignored.

    Returns:
        (H, W) uint8: 0 and class ids along those strokes, 255 elsewhere.
    """
    from skimage.morphology import skeletonize

    strokes = np.full(mask.shape, IGNORE_INDEX, np.uint8)
    for class_id, corner, part in _regions(mask):
        depth = _depth(part)
        stroke = skeletonize(part) & (depth >= _DEEP * depth.max())
        stroke[_deepest(depth)] = True  # of the smallest parts nothing else is left
        strokes[corner][stroke] = class_id
    return strokes


def _regions(mask: np.ndarray) -> Iterator[tuple[int, Corner, np.ndarray]]:
    """The parts of classes, and the whole background if there is any."""
    yield from class_parts(mask)
    background = mask == 0
    if background.any():
        yield 0, (slice(None), slice(None)), background


def _depth(part: np.ndarray) -> np.ndarray:
    """Each pixel's distance to the outline, which the edge of the image is, too."""
    from scipy import ndimage  # type: ignore[import-untyped]

    depth: np.ndarray = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    return depth


def _deepest(depth: np.ndarray) -> tuple[int, ...]:
    return tuple(int(at) for at in np.unravel_index(depth.argmax(), depth.shape))
