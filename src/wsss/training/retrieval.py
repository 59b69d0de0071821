"""An index of regions of the training images, in place of a training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wsss.artifacts import Sample, read_label_png
from wsss.checks import full_key
from wsss.config.segmentation import RetrievalSettings
from wsss.loading.devices import gather
from wsss.segment.retrieval import RegionIndex, RetrievalModel
from wsss.segment.retrieval.model import cell_features, make_backbone
from wsss.segment.retrieval.regions import pooled_features, regions_of
from wsss.training.task import Task

__all__ = ["fit_retrieval"]


def fit_retrieval(
    settings: RetrievalSettings,
    task: Task,
    pseudo_masks: Path,
    classifier: Path,
    batch_size: int,
) -> RetrievalModel:
    """Take the regions of all training images, and leave out those that are least typical.

    Args:
        settings: which regions, and whose features.
        task: the data and the machine.
        pseudo_masks: the folder of <name>.png, (H, W) uint8: 0, class ids, 255 ignored; a given
            mask stands there unchanged.
        classifier: the folder of the trained classifier.
        batch_size: images of one size that run together.

    Returns:
        What predicts, on the CPU.

    Raises:
        ValueError: no region is left, or the backbone cannot be made.
    """
    train = task.manifest.splits["train"]
    backbone, backbone_settings = make_backbone(settings, classifier)
    backbone = task.fabric.to_device(backbone)
    found: dict[str, RegionIndex] = {}
    for samples, images in task.whole_images(
        train,
        backbone.normalisation,
        batch_size=batch_size,
        long_side=settings.long_side,
        description="index regions",
    ):
        with task.fabric.autocast():
            features, shown = cell_features(backbone, images)
        for sample, of_image in zip(samples, features, strict=True):
            mask = read_label_png(pseudo_masks / f"{sample.name}.png")
            found[sample.name] = _regions(settings, sample, mask, of_image, shown)
    merged = {name: part for share in gather(found) for name, part in share.items()}
    index = _joined([merged[sample.name] for sample in train])
    return RetrievalModel(
        settings,
        task.manifest.class_names,
        backbone.cpu(),
        backbone_settings,
        index.trimmed(settings.trim_share),
    )


def _regions(
    settings: RetrievalSettings,
    sample: Sample,
    mask: np.ndarray,
    features: np.ndarray,
    shown: tuple[float, float],
) -> RegionIndex:
    """Those of one image, whose features are (D, h, w)."""
    regions, class_ids, boxes = regions_of(
        mask, erosions=settings.erosions, min_area=settings.min_area
    )
    names = np.full(len(class_ids), sample.name)
    return RegionIndex(pooled_features(regions, features, shown), class_ids, names, boxes)


def _joined(parts: Sequence[RegionIndex]) -> RegionIndex:
    if not any(map(len, parts)):
        raise ValueError(
            "no region of the pseudo masks of the training images is large enough; lower "
            f"{full_key('retrieval.erosions')} or {full_key('retrieval.min_area')}"
        )
    return RegionIndex.join(parts)
