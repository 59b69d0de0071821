"""What maps tell by themselves: whether they follow the images, or say the same of all of them."""

from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np
from PIL import Image

from wsss.artifacts import read_image
from wsss.pipeline import Target
from wsss.stages.findings.finding import Change, Finding, Shown, falling
from wsss.stages.findings.made import Made

__all__ = ["likeness", "same_place"]

GRID = (12, 12)  # cells, on which maps and images are compared
FEW = 10  # maps of a class, fewer than which say nothing
ALIKE = 0.9  # correlation of a map with the mean of the others
DIFFERENT = 0.8  # correlation of an image with the mean of the others


def same_place(made: Made, target: Target) -> Iterator[Finding]:
    """Classes whose maps lie in the same place in all images, though the images are different.

    A map is compared with the mean of all others of its class; an object that moves, or changes its
    form, makes the two unlike. What stays is what all images of a class have in common besides it:
    the water below the boat, or the edge of the picture. Images that are themselves alike, as those
    of a fixed camera, are left out.
    """
    manifest = made.manifest
    if target.name != "generate_cams" or manifest is None:
        return
    found: dict[int, dict[str, np.ndarray]] = {}
    images: dict[str, str] = {}
    for sample, score_map in made.maps(made.paths.cams, manifest.all_samples()):
        images[sample.name] = sample.image
        maps = dict(zip(score_map.class_ids.tolist(), score_map.on_grid(GRID)))
        for class_id in sample.class_ids:
            if class_id in maps and np.ptp(maps[class_id]) > 0:
                found.setdefault(class_id, {})[sample.name] = maps[class_id]
    for class_id, own in sorted(found.items()):
        if len(own) < FEW:
            continue
        alike = dict(zip(own, likeness(list(own.values()))))
        share = median(alike.values())
        if share < ALIKE:
            continue
        pictures = [_small(read_image(made.paths.images / images[name])) for name in own]
        of_images = median(likeness(pictures))
        if of_images >= DIFFERENT:
            continue
        name = manifest.class_names[class_id - 1]
        yield Finding(
            "same_place",
            "warning",
            target.name,
            f"the maps of '{name}' lie in the same place in all {len(own)} images (correlation "
            f"with the mean of the others: {share:.2f}), though these differ ({of_images:.2f}): "
            "they show what surrounds the class, or the edge of the image. Add images of the same "
            "surroundings without the class (prepare_data.background_images), or change "
            "train_classifier.method or train_classifier.backbone.last_stage",
            (
                Change("prepare_data.background_images", "change"),
                Change("train_classifier.method", "change"),
                Change("train_classifier.backbone.last_stage", "change"),
            ),
            {"likeness": share, "images": of_images},
            falling(alike),
            Shown("scores", made.paths.cams),
        )


def likeness(planes: Sequence[np.ndarray]) -> list[float]:
    """How much each of several planes is like the mean of the others.

    Args:
        planes: at least two, of one shape.

    Returns:
        The correlation of each, in [-1, 1]; 0 of one that is the same everywhere.

    Example:
        >>> plane = np.array([[0.0, 1.0]])
        >>> np.round(likeness([plane, plane, 1 - plane]), 6).tolist()
        [0.0, 0.0, -1.0]
    """
    rows = np.stack([np.ravel(plane) for plane in planes]).astype(np.float64)
    others = (rows.sum(axis=0) - rows) / (len(rows) - 1)
    own = rows - rows.mean(axis=1, keepdims=True)
    mean = others - others.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(own, axis=1) * np.linalg.norm(mean, axis=1)
    products = (own * mean).sum(axis=1)
    found = np.where(norms > 1e-9, products / np.maximum(norms, 1e-9), 0.0)
    return [float(value) for value in found]


def _small(image: np.ndarray) -> np.ndarray:
    """An image in grey, as many cells as maps are compared on."""
    grey = Image.fromarray(image).convert("L")
    return np.asarray(grey.resize(GRID[::-1], Image.Resampling.BILINEAR), np.float32)
