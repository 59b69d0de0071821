"""How masks fail, image by image: objects missed or merged, masks that leak, or lie elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsss.artifacts import IGNORE_INDEX, TOUCHING, Sample, check_label_map, class_parts
from wsss.checks import check_shape
from wsss.evaluate.ground_truth import read_ground_truth
from wsss.evaluate.metrics import Counts, image_iou
from wsss.evaluate.objects import HIT_IOU, SIZES, object_overlaps
from wsss.evaluate.splits import in_parallel, label_matrix

__all__ = ["KINDS", "Failures", "ImageScore", "find_failures", "score_images"]

KINDS = ("missed", "merged", "leak", "context")
"""In the order in which they are told."""

NEAR = 0.06  # of an image's longer side, up to which false foreground is beside an object
COVERED = 0.5  # of an object, from which it is in a predicted area

_MISSED, _MERGED = 1.0, 1.0  # objects, from which an image shows it
_LEAK, _CONTEXT = 0.15, 0.1  # of the predicted foreground, from which an image shows it


@dataclass(frozen=True)
class Failures:
    """What is wrong with the mask of one image.

    Attributes:
        missed: objects that are not hit, of those that cover 0.3 % of the image or more; see
            `wsss.evaluate.objects`.
        merged: objects of one class that lie together in one predicted area of it, less one for
            each such area.
        leak: the share of the predicted foreground that lies on background beside an
            object of its class.
        context: the share that lies on background away from each object of its class:
            what goes with a class, rather than it.
    """

    missed: int = 0
    merged: int = 0
    leak: float = 0.0
    context: float = 0.0

    def shown(self) -> tuple[str, ...]:
        """The kinds that the image is an example of, the first of `KINDS` first.

        Example:
            >>> Failures(missed=2, leak=0.1, context=0.3).shown()
            ('missed', 'context')
        """
        least = dict(zip(KINDS, (_MISSED, _MERGED, _LEAK, _CONTEXT), strict=True))
        return tuple(kind for kind in KINDS if self.of(kind) >= least[kind])

    def of(self, kind: str) -> float:
        """How much of a kind there is: objects, or a share."""
        return float(getattr(self, kind))


@dataclass(frozen=True)
class ImageScore:
    """The mask of one image against its ground truth.

    Attributes:
        name: of the sample.
        matrix: (K + 1, K + 2) int64, as of `confusion_matrix`.
        failures: what is wrong with it.
    """

    name: str
    matrix: np.ndarray
    failures: Failures

    @property
    def iou(self) -> float:
        """The foreground's `image_iou`; NaN where the ground truth ignores the whole image."""
        return float(image_iou(Counts.of(self.matrix[:, :-1])))


def find_failures(gt_mask: np.ndarray, mask: np.ndarray) -> Failures:
    """Look at one image.

    Pixels that the ground truth ignores do not count, nor do those that the mask ignores. False
    foreground on an object of another class is neither leak nor context: the confusion tells it.

    Args:
        gt_mask: (H, W) uint8: 0, class ids, 255 ignored.
        mask: (H, W) uint8, predicted; 255 is no class.

    Raises:
        ValueError: the shapes differ, or a mask is not uint8.

    Example:
        >>> gt_mask = np.zeros((40, 60), np.uint8)
        >>> gt_mask[10:20, 5:15] = gt_mask[10:20, 17:27] = 1
        >>> mask = np.zeros_like(gt_mask)
        >>> mask[10:20, 5:27] = 1
        >>> find_failures(gt_mask, mask)
        Failures(missed=0, merged=1, leak=0.09090909090909091, context=0.0)
    """
    check_shape("gt_mask", gt_mask.shape, ("H", "W"))
    check_shape("mask", mask.shape, gt_mask.shape)
    check_label_map("gt_mask", gt_mask)
    check_label_map("mask", mask)
    ious, shares = object_overlaps(gt_mask, mask)
    counting = shares >= SIZES["medium"]  # smaller ones are hidden for the most part
    predicted = np.where(gt_mask == IGNORE_INDEX, 0, np.where(mask == IGNORE_INDEX, 0, mask))
    leak, context = _astray(gt_mask, predicted)
    total = max(1, int(np.count_nonzero(predicted)))
    return Failures(
        int((ious[counting] < HIT_IOU).sum()),
        _merged(gt_mask, predicted),
        leak / total,
        context / total,
    )


def _merged(gt_mask: np.ndarray, predicted: np.ndarray) -> int:
    """Objects that share a predicted area of their class with another, less one for each area."""
    from scipy import ndimage  # type: ignore[import-untyped]

    count = 0
    areas: dict[int, np.ndarray] = {}
    held: dict[tuple[int, int], int] = {}
    for class_id, corner, part in class_parts(gt_mask):
        if class_id not in areas:
            areas[class_id] = ndimage.label(predicted == class_id, TOUCHING)[0]
        below = areas[class_id][corner][part]
        numbers, pixels = np.unique(below[below > 0], return_counts=True)
        for number, size in zip(numbers.tolist(), pixels.tolist(), strict=True):
            if size >= COVERED * below.size:
                held[class_id, number] = held.get((class_id, number), 0) + 1
    for objects in held.values():
        count += objects - 1
    return count


def _astray(gt_mask: np.ndarray, predicted: np.ndarray) -> tuple[int, int]:
    """Pixels of false foreground on background: beside an object of their class, and elsewhere."""
    from scipy import ndimage

    near = max(2.0, NEAR * max(gt_mask.shape))
    leak = context = 0
    wrong = (predicted > 0) & (gt_mask == 0)
    for class_id in np.unique(predicted[wrong]).tolist():
        own = wrong & (predicted == class_id)
        there = gt_mask == class_id
        count = int(own.sum())
        beside = 0
        if there.any():
            beside = int((ndimage.distance_transform_edt(~there)[own] <= near).sum())
        leak += beside
        context += count - beside
    return leak, context


def score_images(
    samples: Sequence[Sample], labels: Path, masks: Path, num_fg_classes: int
) -> list[ImageScore]:
    """Look at the masks of all samples that have a ground truth; summed, their matrices are those
    of a split.

    Args:
        samples: those without a mask are passed over.
        labels: the folder of <name>.png.
        masks: the folder of ground-truth masks.
        num_fg_classes: K.

    Returns:
        In the order of the samples.

    Raises:
        ValueError: a file is missing, broken, or does not fit its image.
    """

    def score(sample: Sample) -> ImageScore:
        gt_mask = read_ground_truth(masks / str(sample.mask), sample.size, num_fg_classes)
        mask, matrix = label_matrix(sample, labels, gt_mask, num_fg_classes)
        return ImageScore(sample.name, matrix, find_failures(gt_mask, mask))

    return list(in_parallel(score, [sample for sample in samples if sample.mask is not None]))
