"""What annotators gave of an image, imposed on its pseudo mask."""

from collections.abc import Sequence

import numpy as np

from wsss.artifacts import IGNORE_INDEX, Box

__all__ = ["box_area", "impose"]


def impose(
    mask: np.ndarray,
    boxes: Sequence[Box],
    seeds: np.ndarray | None,
    found: np.ndarray | None = None,
) -> tuple[np.ndarray, list[Box]]:
    """A pseudo mask with an image's seeds, in which no box lacks its class.

    A box without a pixel of its class is filled with it, as far as no smaller box holds a pixel of
    its own class there, and nobody pointed at something else. Seeds are taken as they are.

    Args:
        mask: (H, W), as `pseudo_mask` gives it, in which classes lie within their boxes.
        boxes: of the image.
        seeds: (H, W), points and scribbles as `Annotations.seed_map` gives them, or None.
        found: (H, W), the pseudo mask before doubtful pixels were ignored, which tells boxes that
            have nothing of their class from those of which nothing is certain; None is `mask`.

    Returns:
        The mask, and the boxes that were filled.

    Example:
        >>> mask = np.array([[0, 2, 0, 0]], np.uint8)
        >>> impose(mask, [Box(1, 0, 2, 1, 4)], np.array([[255, 255, 255, 0]], np.uint8))
        (array([[0, 2, 1, 0]], dtype=uint8), [Box(class_id=1, top=0, left=2, bottom=1, right=4)])
    """
    found = mask if found is None else found
    mask, found = (_with_seeds(pixels, seeds) for pixels in (mask, found))
    empty = [box for box in boxes if not (_part(found, box) == box.class_id).any()]
    kept = [box for box in boxes if box not in empty]
    for box in sorted(empty, key=box_area, reverse=True):
        taken = np.zeros(mask.shape, bool)
        for other in kept:
            if box_area(other) < box_area(box) and other.class_id != box.class_id:
                _part(taken, other)[_part(mask, other) == other.class_id] = True
        if seeds is not None:
            taken |= seeds != IGNORE_INDEX
        _part(mask, box)[~_part(taken, box)] = box.class_id
    return mask, empty


def _with_seeds(mask: np.ndarray, seeds: np.ndarray | None) -> np.ndarray:
    return mask.copy() if seeds is None else np.where(seeds == IGNORE_INDEX, mask, seeds)


def _part(pixels: np.ndarray, box: Box) -> np.ndarray:
    return pixels[box.top : box.bottom, box.left : box.right]


def box_area(box: Box) -> int:
    """The pixels of a box."""
    return (box.bottom - box.top) * (box.right - box.left)
