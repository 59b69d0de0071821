"""Class activation maps of all images, whole or in windows: what the two CAM stages share."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from wsss.artifacts import Manifest, Sample, ScoreMap, read_image, write_score_map
from wsss.cam.comparable import ComparableCamMethod
from wsss.cam.learning import LearningCamMethod
from wsss.cam.multiscale import multiscale_cams, whole_cells, windowed_cams
from wsss.cam.scaled_image import ScaledImage
from wsss.cam.sliding_window import SlidingWindow
from wsss.checks import full_key
from wsss.config.sections import GenerateCamsSettings
from wsss.loading.devices import gather, make_fabric, num_workers
from wsss.loading.same_size import same_size_batches
from wsss.models.classifier import Classifier, load_classifier
from wsss.models.fusion import fuse_batchnorm
from wsss.pipeline import Job
from wsss.progress import track
from wsss.registry import CAM_METHODS
from wsss.stages._warnings.tally import map_tally, map_values
from wsss.windows import window_starts

__all__ = ["write_cams"]

CPU_PIXELS = 640_000  # two images of 480 x 640: their features fit a CPU's cache


FOUND = 0.5
"""The probability from which the classifier is believed that a class is there of which nobody
knows."""


def write_cams(
    job: Job, settings: GenerateCamsSettings, classifier: Path, folder: Path, source: str = ""
) -> dict[str, Any]:
    """Write folder/<name>.npz for every image that has none yet, for the classes of its tags.

    Of the classes that nobody knows of, those have a map that the classifier finds in the image.
    Maps of a named source have all of them, as they go with maps of another classifier.

    Many maps that say nothing are warned of.

    Images larger than `settings.window` are decoded one at a time and cut into windows: memory
    that grows with the image is the decoder's, 3 bytes per pixel of what it gives, and the maps of
    `windowed_cams`. The others run whole, in batches of equal size.

    Args:
        job: the stage that needs them.
        settings: of the maps.
        classifier: the folder of the classifier that makes them.
        folder: where they go; what a killed run left there is kept.
        source: the name of the maps, where the stage makes several kinds.

    Returns:
        What the first process reports of the maps.
    """
    model, loss = load_classifier(classifier)
    manifest = Manifest.read(job.paths.splits)
    manifest.check_classes(model.class_names, f"the classifier in {classifier}")
    fabric = make_fabric(job.params.machine, settings.precision)
    method = CAM_METHODS.build(settings.method)
    if not method.needs_gradients:  # such a method may look at any layer, which has to be there
        stride = model.backbone.output_stride
        model = fuse_batchnorm(model, torch.rand(1, 3, 4 * stride, 4 * stride))
    maker = _Maker(fabric.to_device(model), method, settings, fabric, job.paths.images)
    maker.learn(manifest, job.params.base.rng_seed)
    limit = settings.window or float("inf")
    samples = manifest.all_samples()
    wanted = [sample for sample in samples if _possible(sample)]
    small = [sample for sample in wanted if max(sample.size) <= limit]
    large = job.share([sample for sample in wanted if max(sample.size) > limit])

    def done(sample: Sample) -> bool:
        return (folder / f"{sample.name}.npz").exists()

    tally = map_tally()
    asked = set(wanted)
    for sample in job.share([sample for sample in samples if sample not in asked]):
        if not done(sample):  # nobody asks what the classifier sees there
            nothing = maker.nothing(sample)
            write_score_map(folder / f"{sample.name}.npz", nothing)
            tally.note(sample, nothing)
    count, started = 0, time.perf_counter()
    for batch, cams, logits in chain(
        maker.in_windows([sample for sample in large if not done(sample)]),
        maker.whole(small, num_workers(job.params.machine), done),
    ):
        probs = logits.sigmoid() if loss == "multi_label" else logits.softmax(dim=1)
        for sample, cam, prob in zip(batch, cams, probs.cpu().numpy(), strict=True):
            score_map = _score_map(sample, cam.cpu().numpy(), prob, found_alone=not source)
            write_score_map(folder / f"{sample.name}.npz", score_map)
            tally.note(sample, score_map)
        count += len(batch)
    job.rate(count, time.perf_counter() - started, source)
    tally.add(gather(tally.found))
    if not job.is_first:
        return {}
    tally.complete(samples, folder)
    advice = (
        "the classifier has not learned where they are; see its average precision in the report "
        "of its training, raise its epochs, or show small objects larger "
        f"({full_key('scales')}, train_classifier.augment.long_side)"
    )
    return {"num_images": len(samples)} | map_values(job, tally, manifest, advice)


def _possible(sample: Sample) -> tuple[int, ...]:
    """The classes of an image's tags and those that nobody knows of, ascending."""
    return tuple(sorted({*sample.class_ids, *sample.unknown_ids}))


def _score_map(
    sample: Sample, cam: np.ndarray, probs: np.ndarray, *, found_alone: bool
) -> ScoreMap:
    """The map of the classes that an image is taken to have.

    Args:
        sample: the image.
        cam: (P, h, w) float32, of its `_possible` classes.
        probs: (K,) float32, of all classes.
        found_alone: of classes that nobody knows of, keep those alone that the classifier finds.
    """
    ids = np.array(_possible(sample), np.uint8)
    of_ids = probs[ids.astype(int) - 1]
    kept = np.isin(ids, sample.class_ids) | (of_ids >= (FOUND if found_alone else 0))
    return ScoreMap(ids[kept], cam[kept], sample.size, of_ids[kept])


@dataclass(frozen=True)
class _Maker:
    """Yields samples, the (P, h, w) maps of each, and (B, K) logits."""

    model: Classifier
    method: Any
    settings: GenerateCamsSettings
    fabric: Fabric
    images: Path

    def learn(self, manifest: Manifest, rng_seed: int) -> None:
        """Show the method the training images without a tag, if it wants to see them."""
        if not isinstance(self.method, LearningCamMethod):
            return
        train = manifest.splits["train"]
        good = [sample for sample in train if not sample.class_ids and not sample.uncertain]
        with torch.inference_mode(), self.fabric.autocast():
            views = map(self._shown, track(good, "good images") if good else ())
            self.method.learn(self.model, views, len(good), rng_seed)

    def _shown(self, sample: Sample) -> Iterator[Tensor]:
        """An image at each scale, in windows where it is larger than one."""
        settings, stride = self.settings, self.model.backbone.output_stride
        image = read_image(self.images / sample.image)
        for scale in settings.scales:
            size = whole_cells(sample.size, scale, stride, settings.align_corners)
            scaled = ScaledImage(
                image, self._prepare, size,
                align_corners=settings.align_corners, antialias=scale < 1,
            )  # fmt: skip
            sides = [min(side, settings.window or side) for side in size]
            starts = [window_starts(*axis, 0) for axis in zip(size, sides, strict=True)]
            for top in starts[0]:
                yield from (scaled.window(top, left, *sides) for left in starts[1])

    def nothing(self, sample: Sample) -> ScoreMap:
        """The maps of an image without any class."""
        maps = np.zeros((0, *self._views(*sample.size)["grid"]), np.float32)
        return ScoreMap(np.zeros(0, np.uint8), maps, sample.size, np.zeros(0, np.float32))

    def whole(
        self, samples: list[Sample], n_workers: int, done: Callable[[Sample], bool]
    ) -> Iterator[tuple[list[Sample], Sequence[Tensor], Tensor]]:
        """Run images that are resized whole, in batches."""
        settings, stride = self.settings, self.model.backbone.output_stride
        # an image that is no larger than a window can be at a larger scale
        method = self._sliding() if settings.window else self.method
        for batch, pixels in same_size_batches(
            samples,
            self.images,
            batch_size=settings.batch_size,
            num_workers=n_workers,
            size_for=lambda size: whole_cells(size, 1, stride, settings.align_corners),
            done=done,
            shared=True,
            description="CAMs",
        ):
            images = self._prepare(pixels)
            ids = [_possible(sample) for sample in batch]
            with torch.inference_mode(not method.needs_gradients), self.fabric.autocast():
                cams, logits = multiscale_cams(
                    self.model,
                    method,
                    images,
                    ids,
                    max_pixels=self._max_pixels(),
                    **self._views(*pixels.shape[2:]),
                )
            yield batch, cams, logits

    def in_windows(
        self, samples: list[Sample]
    ) -> Iterator[tuple[list[Sample], Sequence[Tensor], Tensor]]:
        """Run images that are never resized whole, one by one."""
        if not samples:
            return
        method = self._sliding()
        for sample in track(samples, "CAMs of large images"):
            with torch.inference_mode(not method.needs_gradients), self.fabric.autocast():
                cam, logits = windowed_cams(
                    self.model,
                    method,
                    read_image(self.images / sample.image),
                    _possible(sample),
                    normalise=self._prepare,
                    **self._views(*sample.size),
                )
            yield [sample], [cam], logits[None]

    def _sliding(self) -> SlidingWindow:
        """The method in windows."""
        settings, at_once = self.settings, self.settings.batch_size
        if max_pixels := self._max_pixels():
            at_once = max_pixels // settings.window**2
        return SlidingWindow(self.method, settings.window, settings.window_overlap, at_once)

    def _max_pixels(self) -> int | None:
        return CPU_PIXELS if self.fabric.device.type == "cpu" else None

    def _prepare(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 to float32, normalised, on the device."""
        return self.model.backbone.normalisation(self.fabric.to_device(pixels))

    def _views(self, height: int, width: int) -> dict[str, Any]:
        stride = self.settings.grid_stride
        grid = -(-height // stride), -(-width // stride)
        return (
            {"grid": grid}
            | self.settings.model_dump(include={"scales", "flip", "align_corners"})
            | {"stretch": not isinstance(self.method, ComparableCamMethod)}
        )
