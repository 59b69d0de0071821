"""Which objects are found at all, of which pooled pixels say little where objects are small."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from wsss.artifacts import IGNORE_INDEX, TOUCHING, check_label_map, class_parts
from wsss.checks import check_shape

__all__ = ["HIT_IOU", "SIZES", "FoundObjects", "object_overlaps"]

HIT_IOU = 0.1
"""An object is hit from this IoU on."""

SIZES = {"tiny": 0.0, "small": 0.001, "medium": 0.003, "large": 0.01}
"""The least share of its image that an object of each size covers, ascending."""


@dataclass(frozen=True)
class FoundObjects:
    """Counts of objects, of an image or pooled over several.

    Attributes:
        total: objects of each of the `SIZES`.
        hit: those of them that are hit.

    Example:
        >>> gt_mask, mask = np.array([[1, 0, 2]], np.uint8), np.array([[1, 0, 0]], np.uint8)
        >>> found = FoundObjects.of(gt_mask, mask)
        >>> found, (FoundObjects() + found).report()["hit"]
        (FoundObjects(total=(0, 0, 0, 2), hit=(0, 0, 0, 1)), 0.5)
    """

    total: tuple[int, ...] = (0,) * len(SIZES)
    hit: tuple[int, ...] = (0,) * len(SIZES)

    @classmethod
    def of(cls, gt_mask: np.ndarray, mask: np.ndarray) -> Self:
        """Count those of an image; arguments and errors as of `object_overlaps`."""
        ious, shares = object_overlaps(gt_mask, mask)
        size = np.searchsorted(list(SIZES.values()), shares, side="right") - 1
        total, hit = (
            np.bincount(part, minlength=len(SIZES)).tolist()
            for part in (size, size[ious >= HIT_IOU])
        )
        return cls(tuple(total), tuple(hit))

    def __add__(self, other: Self) -> Self:
        pairs = zip((self.total, self.hit), (other.total, other.hit), strict=True)
        total, hit = (tuple(map(sum, zip(*pair, strict=True))) for pair in pairs)
        return type(self)(total, hit)

    def report(self) -> dict[str, float]:
        """Shares of objects that are hit, and numbers of objects.

        Returns:
            hit and count of all of them, hit_from_medium of those of 0.3 % of their image or more;
            hit_<size> and count_<size> of each of the `SIZES`. What would be a share of none is
            left out.
        """
        sizes = list(SIZES)
        from_medium = sizes.index("medium")
        parts = {
            "": slice(None),
            "_from_medium": slice(from_medium, None),
            **{f"_{size}": slice(at, at + 1) for at, size in enumerate(sizes)},
        }
        found: dict[str, float] = {}
        for name, part in parts.items():
            total, hit = sum(self.total[part]), sum(self.hit[part])
            if total:
                found |= {f"hit{name}": hit / total, f"count{name}": total}
        return found


def object_overlaps(gt_mask: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How well each object of an image is covered by what is predicted there, of any class.

    An object is a connected area of one class. It is held against the connected areas of predicted
    foreground that touch it, taken together; pixels that the ground truth ignores do not count.

    Args:
        gt_mask: (H, W) uint8: 0, class ids, 255 ignored.
        mask: (H, W) uint8, predicted; 255 is no class.

    Returns:
        (N,) float64 IoU of each object; and (N,) float64, the share of the image that it covers.

    Raises:
        ValueError: the shapes differ, or a mask is not uint8.

    Example:
        >>> gt_mask = np.array([[1, 1, 0, 0, 2]], np.uint8)
        >>> ious, shares = object_overlaps(gt_mask, np.array([[0, 3, 3, 0, 0]], np.uint8))
        >>> ious.round(3).tolist(), shares.tolist()
        ([0.333, 0.0], [0.4, 0.2])
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    check_shape("gt_mask", gt_mask.shape, ("H", "W"))
    check_shape("mask", mask.shape, gt_mask.shape)
    check_label_map("gt_mask", gt_mask)
    check_label_map("mask", mask)
    predicted = (mask > 0) & (mask != IGNORE_INDEX) & (gt_mask != IGNORE_INDEX)
    areas, _ = ndimage.label(predicted, TOUCHING)
    sizes = np.bincount(areas.ravel())
    sizes[0] = 0
    ious, shares = [], []
    for _, corner, part in class_parts(gt_mask):
        below = areas[corner][part]
        union = sizes[np.unique(below)].sum() + (below == 0).sum()
        ious.append(float((below > 0).sum() / union))
        shares.append(below.size / gt_mask.size)
    return np.array(ious), np.array(shares)
