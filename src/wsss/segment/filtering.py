"""Which classes an image may have, by the classifier that was trained on tags."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from wsss.artifacts import Manifest, Sample
from wsss.checks import check_range
from wsss.cores import share
from wsss.loading.devices import gather
from wsss.loading.same_size import same_size_batches, with_long_side
from wsss.models.classifier import Classifier, load_classifier

__all__ = ["ClassFilter", "class_probs", "kept_classes", "recall_thresholds"]


def recall_thresholds(probs: np.ndarray, targets: np.ndarray, recall: float) -> np.ndarray:
    """The largest probability of each class at which enough of its images reach it.

    Args:
        probs: (N, K) of the classes.
        targets: (N, K): 1 where the image has the class, 0 where not, NaN where unknown.
        recall: share of a class's images that must reach its threshold, in [0, 1].

    Returns:
        (K,) thresholds, which a class that is present reaches or exceeds; 0 for a class of which
        there is no image.

    Raises:
        ValueError: `recall` leaves its range.

    Example:
        >>> probs = np.array([[0.9], [0.2], [0.6], [0.8]])
        >>> recall_thresholds(probs, np.array([[1], [0], [1], [1]]), 0.66)
        array([0.8])
        >>> recall_thresholds(probs, np.array([[1], [0], [1], [1]]), 0.99)
        array([0.6])
    """
    check_range("recall", recall, 0, 1)
    thresholds = np.zeros(probs.shape[1])
    for column, (of_class, target) in enumerate(zip(probs.T, targets.T, strict=True)):
        those = np.sort(of_class[target >= 0.5])  # NaN is not
        if len(those):
            lost = int(np.floor(len(those) * (1 - recall) + 1e-9))
            thresholds[column] = those[min(lost, len(those) - 1)]
    return thresholds


def kept_classes(probs: np.ndarray, thresholds: np.ndarray, *, has_background: bool) -> np.ndarray:
    """Which classes an image may have: the background, and those that reach their threshold.

    Args:
        probs: (K,) of the classes.
        thresholds: (K,) likewise.
        has_background: whether a pixel may show none of the classes; where not, the most probable
            one is left in any case.

    Returns:
        (K + 1,) bool.

    Example:
        >>> few = np.array([0.1, 0.2])
        >>> kept_classes(few, np.array([0.5, 0.5]), has_background=True).tolist()
        [True, False, False]
        >>> kept_classes(few, np.array([0.5, 0.5]), has_background=False).tolist()
        [True, False, True]
    """
    kept = probs >= thresholds
    if not has_background and not kept.any():
        kept[probs.argmax()] = True
    return np.concatenate([[True], kept])


def class_probs(model: Classifier, loss: str, fabric: Fabric, pixels: Tensor) -> np.ndarray:
    """What a classifier finds in images.

    Args:
        model: in eval mode, on the device.
        loss: that it was trained with, multi_label or single_label.
        fabric: the device and the precision.
        pixels: of a batch, as `same_size_batches` gives them.

    Returns:
        (B, K) float32 probabilities of the classes.
    """
    images = model.backbone.normalisation(fabric.to_device(pixels))
    with torch.inference_mode(), fabric.autocast():
        logits = model(images).logits.float()
    probs = logits.sigmoid() if loss == "multi_label" else logits.softmax(dim=1)
    # images of none of the classes may have one more
    found: np.ndarray = probs[:, : len(model.class_names)].cpu().numpy()
    return found


class ClassFilter:
    """The trained classifier, with a threshold of each class from the selection split.

    Args:
        classifier: its folder.
        manifest: the data.
        images: the folder of the images.
        fabric: the device.
        recall: as of `recall_thresholds`.
        long_side: that images are resized to, in pixels.
        batch_size: at most so many images of one size.
        num_workers: processes that decode.

    Raises:
        ValueError: the classifier knows other classes.
    """

    def __init__(
        self,
        classifier: Path,
        manifest: Manifest,
        images: Path,
        fabric: Fabric,
        *,
        recall: float,
        long_side: int,
        batch_size: int,
        num_workers: int,
    ) -> None:
        model, self._loss = load_classifier(classifier)
        manifest.check_classes(model.class_names, f"the classifier in {classifier}")
        self._model = fabric.to_device(model)
        self._images, self._fabric = images, fabric
        self._long_side, self._batch_size = long_side, batch_size
        self._num_workers = num_workers
        self._has_background = manifest.has_background
        known = manifest.splits["selection"]
        probs = self._probs(known)
        self.thresholds = recall_thresholds(
            np.array([probs[sample.name] for sample in known]).reshape(-1, manifest.num_fg_classes),
            manifest.targets(known),
            recall,
        )

    def present(
        self, samples: Sequence[Sample], wanted: Collection[Sample] | None = None
    ) -> dict[str, np.ndarray]:
        """(K + 1,) bool by name of the image: the classes that it may have; always the background.

        Of data whose every pixel shows a class the most probable one is left in any case.

        Processes that run a stage together look at a part each, and all get all.

        Args:
            samples: all images, which go in batches together whoever is asked for.
            wanted: those that are asked for; None is all of them.
        """
        found = {}
        for name, probs in self._probs(samples, wanted).items():
            found[name] = kept_classes(probs, self.thresholds, has_background=self._has_background)
        return found

    def _probs(
        self, samples: Sequence[Sample], wanted: Collection[Sample] | None = None
    ) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for batch, pixels in same_size_batches(
            samples,
            self._images,
            batch_size=self._batch_size,
            num_workers=self._num_workers,
            size_for=lambda size: with_long_side(size, self._long_side),
            dealt=share,
            done=lambda sample: wanted is not None and sample not in wanted,
            description="classes of images",
        ):
            probs = class_probs(self._model, self._loss, self._fabric, pixels)
            for sample, row in zip(batch, probs, strict=True):
                found[sample.name] = row
        return {name: row for part in gather(found) for name, row in part.items()}
