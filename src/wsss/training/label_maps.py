"""Which images teach a segmenter, and where the labels of their pixels are."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import IGNORE_INDEX, Annotations, Sample, read_label_png
from wsss.config.segmentation import TrainSegmenterSettings
from wsss.loading.order import Mixture
from wsss.progress import track
from wsss.segment.forms import TagForm

__all__ = ["LabelMaps", "find_label_maps"]


@dataclass(frozen=True)
class LabelMaps:
    """The samples to train on, and a label map for each.

    Attributes:
        samples: N samples.
        paths: of each the file of (H, W) uint8: 0, class ids, 255; None where no pixel has a label.
        given: of each, whether it is the whole mask of an annotator.
        num_classes: K + 1.
    """

    samples: tuple[Sample, ...]
    paths: tuple[Path | None, ...]
    given: tuple[bool, ...]
    num_classes: int

    @cached_property
    def counts(self) -> np.ndarray:
        """(N, K + 1) int64: pixels of each class, background first; each file is read once."""
        found = np.zeros((len(self.paths), self.num_classes), np.int64)
        for row, path in enumerate(track(self.paths, "count labelled pixels")):
            if path is not None:
                pixels = np.bincount(read_label_png(path).ravel(), minlength=IGNORE_INDEX + 1)
                found[row] = pixels[: self.num_classes]
        return found

    def class_pixels(self) -> np.ndarray:
        """See `LossContext.class_pixels`."""
        of_image = self.counts.sum(axis=1, keepdims=True)
        where_present = (of_image * (self.counts > 0)).sum(axis=0)
        return np.stack([self.counts.sum(axis=0), where_present])

    def mixture(self, settings: TrainSegmenterSettings, class_names: Sequence[str]) -> Mixture:
        """What an epoch is made of; label maps are read if crops are drawn for classes."""
        crops = settings.augment.class_crops
        with_class: dict[int, Sequence[int]] = {}
        if crops.share:
            rows = [np.flatnonzero(column).tolist() for column in self.counts.T]
            names = crops.classes or class_names
            ids = [class_names.index(name) + 1 for name in names]
            with_class = {class_id: rows[class_id] for class_id in ids if rows[class_id]}
        return Mixture(
            settings.images_per_epoch,
            [row for row, given in enumerate(self.given) if given],
            settings.given_share,
            crops.share,
            with_class,
        )


def find_label_maps(
    settings: TrainSegmenterSettings,
    form: TagForm[Any],
    samples: Sequence[Sample],
    pseudo_masks: Path,
    annotations: Annotations,
    num_fg_classes: int,
) -> LabelMaps:
    """Find what a form lets each image teach.

    Args:
        settings: of the network.
        form: that of `settings.tags_only`.
        samples: the training images.
        pseudo_masks: the folder of <name>.png, in which a given mask is unchanged.
        annotations: says which masks and seeds were given.
        num_fg_classes: K.

    Raises:
        ValueError: the settings ask for masks or seeds that nobody gave.
    """
    settings.check_given(
        masks=any(sample.name in annotations.masks for sample in samples),
        seeds=any(sample.name in annotations.seeds for sample in samples),
    )
    chosen, paths, given = [], [], []
    for sample in samples:
        whole = sample.name in annotations.masks
        path = None
        if whole or form.takes_pseudo_masks:
            path = pseudo_masks / f"{sample.name}.png"
        elif sample.name in annotations.seeds:
            path = annotations.seeds_path(sample.name)
        if path is not None or form.takes_tags:
            chosen.append(sample)
            paths.append(path)
            given.append(whole)
    return LabelMaps(tuple(chosen), tuple(paths), tuple(given), num_fg_classes + 1)
