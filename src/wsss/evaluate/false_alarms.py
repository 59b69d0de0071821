"""What is predicted in images that show none of the classes, of which no IoU speaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsss.artifacts import Sample, has_file
from wsss.evaluate.ground_truth import read_ground_truth
from wsss.evaluate.splits import in_parallel, label_matrix

__all__ = ["FalseAlarms", "count_false_alarms"]


@dataclass(frozen=True)
class FalseAlarms:
    """Pooled counts of images without a tag.

    Attributes:
        untagged: images.
        alarmed: those of them in which a pixel is predicted as a class.
        pixels: of all of them.
        predicted: pixels of them that are predicted as a class.
    """

    untagged: int
    alarmed: int
    pixels: int
    predicted: int

    def report(self) -> dict[str, float]:
        """The share of images with any such pixel, the share of area, and the number of images."""
        return {
            "images": self.alarmed / self.untagged,
            "area": self.predicted / self.pixels,
            "untagged": self.untagged,
        }


def count_false_alarms(
    samples: Sequence[Sample], labels: Path, masks: Path, num_fg_classes: int
) -> FalseAlarms | None:
    """Count what is predicted where nothing is to be found.

    Images count that have no tag, and no class in their mask where they have one; of that mask,
    ignored pixels do not count. Without a mask the tags say that all of it is background, unless
    nobody is certain of them.

    Args:
        samples: of one split; those that have a tag are passed over.
        labels: the folder of <name>.png.
        masks: the folder of ground-truth masks.
        num_fg_classes: K.

    Returns:
        None when no image counts, or when there is no label map of any of them.

    Raises:
        ValueError: a file is missing, broken, or does not fit its image.
    """
    empty = [
        sample
        for sample in samples
        if not sample.class_ids and (sample.mask is not None or not sample.uncertain)
    ]
    if not any(has_file(labels / f"{sample.name}.png") for sample in empty):
        return None

    def count(sample: Sample) -> tuple[int, int, int, int]:
        gt_mask = np.zeros(sample.size, np.uint8)
        if sample.mask is not None:
            gt_mask = read_ground_truth(masks / sample.mask, sample.size, num_fg_classes)
        _, matrix = label_matrix(sample, labels, gt_mask, num_fg_classes)
        pixels = int(matrix[0].sum())
        if matrix[1:].any() or not pixels:
            return 0, 0, 0, 0
        wrong = int(matrix[0, 1:-1].sum())
        return 1, int(wrong > 0), pixels, wrong

    found = np.zeros(4, np.int64)
    for of_image in in_parallel(count, empty):
        found += of_image
    return FalseAlarms(*found.tolist()) if found[0] else None
