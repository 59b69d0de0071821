"""Which objects are found at all, of which pooled pixels say little where objects are small."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsss.artifacts import IGNORE_INDEX, Sample, check_label_map, read_label_png
from wsss.checks import check_shape
from wsss.evaluate.ground_truth import read_ground_truth
from wsss.evaluate.splits import in_parallel

__all__ = ["HIT_IOU", "SIZES", "FoundObjects", "count_objects", "object_overlaps"]

HIT_IOU = 0.1
"""An object is hit from this IoU on."""

SIZES = {"tiny": 0.0, "small": 0.001, "medium": 0.003, "large": 0.01}
"""The least share of its image that an object of each size covers, ascending."""

_TOUCHING = np.ones((3, 3), bool)  # also across a corner


@dataclass(frozen=True)
class FoundObjects:
    """Pooled counts of a split.

    Attributes:
        total: objects of each of the `SIZES`.
        hit: those of them that are hit.
    """

    total: tuple[int, ...]
    hit: tuple[int, ...]

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
    areas, _ = ndimage.label(predicted, _TOUCHING)
    sizes = np.bincount(areas.ravel())
    sizes[0] = 0
    ious, shares = [], []
    for class_id in np.unique(gt_mask[(gt_mask > 0) & (gt_mask != IGNORE_INDEX)]):
        objects, count = ndimage.label(gt_mask == class_id, _TOUCHING)
        for box, number in zip(ndimage.find_objects(objects), range(1, count + 1), strict=True):
            below = areas[box][objects[box] == number]
            union = sizes[np.unique(below)].sum() + (below == 0).sum()
            ious.append(float((below > 0).sum() / union))
            shares.append(below.size / gt_mask.size)
    return np.array(ious), np.array(shares)


def count_objects(
    samples: Sequence[Sample], labels: Path, masks: Path, num_fg_classes: int
) -> FoundObjects:
    """Count the objects of a split, and those that are hit.

    Args:
        samples: those with a mask are counted, the others passed over.
        labels: the folder of <name>.png, which fit their images.
        masks: the folder of ground-truth masks.
        num_fg_classes: K.

    Raises:
        ValueError: a file is missing or broken.
    """
    starts = list(SIZES.values())

    def count(sample: Sample) -> np.ndarray:
        gt_mask = read_ground_truth(masks / str(sample.mask), sample.size, num_fg_classes)
        ious, shares = object_overlaps(gt_mask, read_label_png(labels / f"{sample.name}.png"))
        size = np.searchsorted(starts, shares, side="right") - 1
        both = size, size[ious >= HIT_IOU]
        return np.stack([np.bincount(part, minlength=len(starts)) for part in both])

    masked = [sample for sample in samples if sample.mask is not None]
    counts = np.zeros((2, len(starts)), np.int64)
    for of_image in in_parallel(count, masked):
        counts += of_image
    total, hit = counts.tolist()
    return FoundObjects(tuple(total), tuple(hit))
