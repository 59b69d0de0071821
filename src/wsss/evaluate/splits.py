"""Scoring the files of one split: images in parallel, counts added up in order."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from wsss.artifacts import Sample, read_label_png, read_score_map
from wsss.cores import usable_cores
from wsss.evaluate.confusion import confusion_matrix
from wsss.evaluate.curves import ThresholdCurve, score_histogram
from wsss.evaluate.ground_truth import read_ground_truth
from wsss.evaluate.metrics import Counts, image_iou
from wsss.evaluate.objects import FoundObjects
from wsss.progress import track

__all__ = ["LabelScores", "evaluate_labels", "evaluate_score_maps", "in_parallel", "label_matrix"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class LabelScores:
    """Pooled counts of a split's label maps.

    Attributes:
        matrix: (C, C + 1) int64, see `confusion_matrix`.
        images: how many were scored.
        image_iou: `metrics.image_iou` averaged over images (on labelled pixels), NaN without any.
        objects: which objects of the ground truth are found.
        has_background: whether a pixel may show none of the classes.
    """

    matrix: np.ndarray
    images: int
    image_iou: float
    objects: FoundObjects = field(default_factory=FoundObjects)
    has_background: bool = True

    @property
    def labelled(self) -> Counts:
        """Counts in which pixels that the prediction ignores are left out."""
        return Counts.of(self.labelled_matrix)

    @property
    def labelled_matrix(self) -> np.ndarray:
        """(C, C) int64: the matrix of those counts."""
        return self.matrix[:, : len(self.matrix)]

    @property
    def strict(self) -> Counts:
        """Counts in which pixels that the prediction ignores are missed."""
        return Counts.of(self.matrix)

    @property
    def coverage(self) -> float:
        """The share of ground-truth pixels whose prediction is a class; NaN without pixels."""
        pixels = self.matrix.sum()
        return float(1 - self.matrix[:, -1].sum() / pixels) if pixels else float("nan")


def evaluate_score_maps(
    samples: Sequence[Sample],
    score_maps: Path,
    masks: Path,
    num_fg_classes: int,
    step: float,
    *,
    has_background: bool = True,
) -> ThresholdCurve:
    """Score the score maps of one split at every threshold.

    Args:
        samples: those with a mask are scored, the others passed over.
        score_maps: the folder of <name>.npz.
        masks: the folder of ground-truth masks.
        num_fg_classes: K.
        step: distance of the thresholds.
        has_background: see `ThresholdCurve`.

    Raises:
        ValueError: a file is missing, broken, or does not fit its image.
    """
    curve = ThresholdCurve(num_fg_classes + 1, step, has_background=has_background)

    def score(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        path = score_maps / f"{sample.name}.npz"
        score_map = read_score_map(path)
        if score_map.size != sample.size or (score_map.class_ids > num_fg_classes).any():
            raise ValueError(
                f"{path} was made from other images or classes; rerun the stage that writes it"
            )
        gt_mask = read_ground_truth(masks / str(sample.mask), sample.size, num_fg_classes)
        histogram = score_histogram(gt_mask, score_map, num_fg_classes + 1, curve.thresholds)
        return histogram, score_map.class_ids

    for histogram, class_ids in in_parallel(score, _masked(samples)):
        curve.add(histogram, class_ids)
    return curve


def evaluate_labels(
    samples: Sequence[Sample],
    labels: Path,
    masks: Path,
    num_fg_classes: int,
    *,
    has_background: bool = True,
) -> LabelScores:
    """Score the label maps (pseudo masks or predictions) of one split.

    Args:
        samples: those with a mask are scored, the others passed over.
        labels: the folder of <name>.png.
        masks: the folder of ground-truth masks.
        num_fg_classes: K.
        has_background: whether a pixel may show none of the classes; where not, label 0 is none.

    Raises:
        ValueError: a file is missing, broken, or does not fit its image.
    """

    def score(sample: Sample) -> tuple[np.ndarray, FoundObjects]:
        gt_mask = read_ground_truth(masks / str(sample.mask), sample.size, num_fg_classes)
        mask, of_image = label_matrix(sample, labels, gt_mask, num_fg_classes)
        return of_image, FoundObjects.of(gt_mask, mask)

    matrix = np.zeros((num_fg_classes + 1, num_fg_classes + 2), np.int64)
    images, ious, objects = 0, [], FoundObjects()
    for of_image, found in in_parallel(score, _masked(samples)):
        matrix += of_image
        objects += found
        images += 1
        value = float(image_iou(Counts.of(of_image[:, :-1])))
        if not np.isnan(value):
            ious.append(value)
    if not has_background:
        matrix[:, -1] += matrix[:, 0]
        matrix[:, 0] = 0
    mean = float(np.mean(ious)) if ious else float("nan")
    return LabelScores(matrix, images, mean, objects, has_background)


def label_matrix(
    sample: Sample, labels: Path, gt_mask: np.ndarray, num_fg_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """One image's file, (H, W) uint8, and its `confusion_matrix`.

    Args:
        sample: whose label map is read.
        labels: the folder of <name>.png.
        gt_mask: (H, W), its ground truth, as of `read_ground_truth`.
        num_fg_classes: K.

    Raises:
        ValueError: the file is missing, broken, or does not fit its image.
    """
    path = labels / f"{sample.name}.png"
    mask = read_label_png(path)
    try:
        return mask, confusion_matrix(gt_mask, mask, num_fg_classes + 1)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; rerun the stage that writes it") from None


def _masked(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.mask is not None]


def in_parallel(score: Callable[[Sample], Result], samples: Sequence[Sample]) -> Iterator[Result]:
    """Results in the order of the samples, a bounded number under way.

    Args:
        score: of one sample; called from several threads.
        samples: in any order.
    """
    return track(_results(score, samples), "scoring", len(samples))


def _results(score: Callable[[Sample], Result], samples: Sequence[Sample]) -> Iterator[Result]:
    upcoming, threads = iter(samples), min(usable_cores(), 16)
    with ThreadPoolExecutor(threads) as pool:
        while chunk := list(islice(upcoming, 16 * threads)):
            yield from pool.map(score, chunk)
