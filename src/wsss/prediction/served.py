"""A model that predicts: arrays to masks, as predict_masks makes them of the project's images."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsss.artifacts import Proposals, Sample, palette, write_proposals
from wsss.checks import check_image
from wsss.config.sections import MachineSettings
from wsss.loading.devices import device_of, make_fabric
from wsss.loading.same_size import size_groups, with_long_side
from wsss.models.classifier import load_classifier
from wsss.prediction._base import Predicted, Tags
from wsss.prediction.files import FilterFiles, ModelFiles
from wsss.prediction.tags import allowed_in_each
from wsss.registry import PROPOSALS
from wsss.segment.filtering import class_probs, kept_classes
from wsss.segment.network import load_for_prediction
from wsss.segment.predictor import Predictor, most_probable
from wsss.segment.retrieval import load_retrieval
from wsss.segment.retrieval.predictor import RetrievalPredictor

__all__ = ["ServedModel"]


class ServedModel:
    """A trained network or an index of regions, with its settings of prediction.

    Args:
        files: of the model.
        machine: where it runs.

    Attributes:
        class_names: as of `wsss.prediction.Model`, which this is one of.
        has_background: likewise.
        about: likewise.
        settings: how it predicts.

    Raises:
        ValueError: the files are damaged, or this version of wsss does not know what they hold.
    """

    def __init__(self, files: ModelFiles, machine: MachineSettings | None = None) -> None:
        machine = machine or MachineSettings()
        self.class_names, self.has_background = files.class_names, files.has_background
        self.settings, self.about = files.settings, dict(files.about)
        self._fabric = make_fabric(machine, self.settings.precision)
        self._filter = None if files.filter is None else _Filter(files, files.filter, self._fabric)
        self._source: Any = None
        self._network: Any
        if files.proposals is not None:
            settings = PROPOSALS.settings(files.proposals["name"]).model_validate(files.proposals)
            self._source = PROPOSALS.build(settings, partial(device_of, machine.accelerator))
            self._network = load_retrieval(files.segmenter)
        else:
            self._network = load_for_prediction(files.segmenter, self._fabric)

    @property
    def palette(self) -> np.ndarray:
        """(K + 1, 3) uint8 RGB: the colours of a mask's values, as its PNG has them."""
        return palette()[: len(self.class_names) + 1]

    def predict(
        self,
        images: Sequence[np.ndarray],
        *,
        tags: Sequence[Tags] | None = None,
        probs: bool = False,
        crf: bool = True,
    ) -> list[Predicted]:
        """Find masks of images of any sizes; see `wsss.prediction.Model.predict`.

        An image's tags take the place of the classifier that leaves out classes by itself.
        """
        for number, image in enumerate(images):
            check_image(f"image {number}", image)
            if not image.size:
                raise ValueError(f"image {number} has no pixels: its shape is {image.shape}")
        if probs and self._source:
            raise ValueError(
                "the model is an index of regions, which gives no probabilities; ask for masks "
                "alone, or train a network (train_segmenter.retrieval: null)"
            )
        allowed = allowed_in_each(
            tags, len(images), self.class_names, has_background=self.has_background
        )
        settings = self.settings if crf else self.settings.model_copy(update={"crf": None})
        found: list[Predicted | None] = [None] * len(images)
        for group in self._groups(images):
            those = [images[number] for number in group]
            samples = [_sample(number, images[number]) for number in group]
            present = self._present(samples, those, [allowed[number] for number in group])
            if self._source:
                of_group = self._by_regions(samples, those, present)
            else:
                predictor = Predictor(self._network, settings, self._fabric, present)
                if self._is_large(those[0]):
                    of_group = [self._in_windows(predictor, samples[0], those[0], probs)]
                else:
                    of_group = _whole(predictor, samples, those, probs)
            for number, predicted in zip(group, of_group, strict=True):
                found[number] = predicted
        return [predicted for predicted in found if predicted is not None]

    def _is_large(self, image: np.ndarray) -> bool:
        limit = self.settings.window or float("inf")
        return bool(max(image.shape[:2]) > limit)

    def _groups(self, images: Sequence[np.ndarray]) -> Iterator[list[int]]:
        """Images of one size that run together; one that is cut into windows runs alone."""
        for group in size_groups([image.shape[:2] for image in images], self.settings.batch_size):
            if self._is_large(images[group[0]]):
                yield from ([number] for number in group)
            else:
                yield group

    def _present(
        self,
        samples: Sequence[Sample],
        images: Sequence[np.ndarray],
        allowed: Sequence[np.ndarray | None],
    ) -> dict[str, np.ndarray] | None:
        """By name of the image what it may show: by its tags, or else by the classifier."""
        if self._filter is not None and any(row is None for row in allowed):
            present = self._filter.present(samples, _pixels(images))
        elif all(row is None for row in allowed):
            return None
        else:
            everything = np.ones(len(self.class_names) + 1, bool)
            present = {sample.name: everything for sample in samples}
        tagged = zip(samples, allowed, strict=True)
        return present | {sample.name: row for sample, row in tagged if row is not None}

    def _in_windows(
        self, predictor: Predictor, sample: Sample, image: np.ndarray, probs: bool
    ) -> Predicted:
        shape = (len(self.class_names) + 1, *image.shape[:2])
        of_classes = np.empty(shape, np.float32) if probs else None
        return Predicted(predictor.in_windows(sample, image, of_classes), of_classes)

    def _by_regions(
        self,
        samples: Sequence[Sample],
        images: Sequence[np.ndarray],
        present: dict[str, np.ndarray] | None,
    ) -> list[Predicted]:
        """Find mask proposals, put them where the predictor reads them, and let it decide."""
        with TemporaryDirectory(prefix="wsss-") as folder:
            for sample, image in zip(samples, images, strict=True):
                proposals: Proposals = self._source(image)
                name = f"{self._network.settings.proposals}/{sample.name}.npz"
                write_proposals(Path(folder, name), proposals)
            predictor = RetrievalPredictor(self._network, Path(folder), self._fabric, present)
            return [Predicted(mask) for mask in predictor.whole(samples, _pixels(images))]


class _Filter:
    """Leaves out the classes that a classifier denies."""

    def __init__(self, of: ModelFiles, files: FilterFiles, fabric: Any) -> None:
        model, self._loss = load_classifier(files.classifier)
        self._model, self._fabric = fabric.to_device(model), fabric
        self._has_background = of.has_background
        self._long_side, self._thresholds = files.long_side, np.array(files.thresholds)

    def present(self, samples: Sequence[Sample], pixels: Tensor) -> dict[str, np.ndarray]:
        """As of `ClassFilter.present`, of images of one size."""
        height, width = with_long_side((pixels.shape[2], pixels.shape[3]), self._long_side)
        if (height, width) != pixels.shape[2:]:
            images = [Image.fromarray(image) for image in pixels.permute(0, 2, 3, 1).numpy()]
            size = (width, height)
            pixels = _pixels(
                [np.asarray(image.resize(size, Image.Resampling.BILINEAR)) for image in images]
            )
        probs = class_probs(self._model, self._loss, self._fabric, pixels)
        return {
            sample.name: kept_classes(row, self._thresholds, has_background=self._has_background)
            for sample, row in zip(samples, probs, strict=True)
        }


def _whole(
    predictor: Predictor, samples: Sequence[Sample], images: Sequence[np.ndarray], probs: bool
) -> list[Predicted]:
    """Of images of one size."""
    of_classes = predictor.probs(samples, _pixels(images))
    masks = most_probable(of_classes)
    if not probs:
        return [Predicted(mask) for mask in masks]
    rows = of_classes.float().cpu().numpy()
    return [Predicted(mask, row) for mask, row in zip(masks, rows, strict=True)]


def _sample(number: int, image: np.ndarray) -> Sample:
    height, width = image.shape[:2]
    return Sample(str(number), "", (height, width), ())


def _pixels(images: Sequence[np.ndarray]) -> Tensor:
    """(B, 3, H, W) uint8 of images of one size."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
