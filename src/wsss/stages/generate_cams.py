"""Class activation maps of every image, for the classes it is tagged with."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    Staging,
    fingerprint,
    read_image,
    source_fingerprint,
    write_json,
    write_score_map,
)
from wsss.cam.multiscale import multiscale_cams, whole_cells, windowed_cams
from wsss.cam.sliding_window import SlidingWindow
from wsss.config.params import GenerateCamsSettings, MachineSettings, Params
from wsss.models.classifier import Classifier, load_classifier
from wsss.models.fusion import fuse_batchnorm
from wsss.progress import track
from wsss.registry import CAM_METHODS
from wsss.report import write_panel
from wsss.stages._base import execute
from wsss.tracking import Tracker
from wsss.training.loading import num_workers
from wsss.training.loop import make_fabric
from wsss.training.same_size import normalise, same_size_batches

log = logging.getLogger(__name__)

CPU_PIXELS = 640_000  # two images of 480 x 640: their features fit a CPU's cache


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Read the classifier and the images; write data/cams/<name>.npz for every image."""
    manifest = Manifest.read(paths.splits)
    rate = write_cams(
        params.generate_cams, paths.classifier, paths.cams, manifest, params.machine, paths
    )
    write_json(paths.report("generate_cams"), {"num_images": len(manifest.all_samples())})
    if rate:
        tracker.metrics({"images_per_second": rate})
    tracker.artifact(write_panel(paths, manifest, "generate_cams"))


def cams_key(settings: GenerateCamsSettings, classifier: Path, paths: Paths) -> str:
    """A hash of all that maps depend on."""
    return fingerprint(settings, source_fingerprint(), files=[classifier, paths.splits])


def write_cams(
    settings: GenerateCamsSettings,
    classifier: Path,
    out: Path,
    manifest: Manifest,
    machine: MachineSettings,
    paths: Paths,
) -> float:
    """Write out/<name>.npz for every image of the manifest that has none yet.

    Images larger than `settings.window` are decoded one at a time and cut into windows: memory
    that grows with the image is the decoder's, 3 bytes per pixel of what it gives, and the maps of
    `windowed_cams`. The others run whole, in batches of equal size.

    Args:
        settings: of the maps.
        classifier: the folder of the classifier that makes them.
        out: the folder to fill; what a killed run with the same settings left is kept.
        manifest: the images.
        machine: where to run.
        paths: of the project.

    Returns:
        Images per second; 0 if there was nothing to do.
    """
    model, loss = load_classifier(classifier)
    fabric = make_fabric(machine, settings.precision)
    method = CAM_METHODS.build(settings.method)
    if not method.needs_gradients:  # such a method may look at any layer, which has to be there
        stride = model.backbone.output_stride
        model = fuse_batchnorm(model, torch.rand(1, 3, 4 * stride, 4 * stride))
    maker = _Maker(fabric.to_device(model), method, settings, fabric, paths.images)
    limit = settings.window or float("inf")
    small = [one for one in manifest.all_samples() if max(one.size) <= limit]
    large = [one for one in manifest.all_samples() if max(one.size) > limit]
    with Staging(out, cams_key(settings, classifier, paths)) as staging:

        def done(sample: Sample) -> bool:
            return (staging.path / f"{sample.name}.npz").exists()

        count, started = 0, time.perf_counter()
        for batch, cams, logits in chain(
            maker.in_windows([one for one in large if not done(one)]),
            maker.whole(small, num_workers(machine), done),
        ):
            probs = logits.sigmoid() if loss == "multi_label" else logits.softmax(dim=1)
            for sample, cam, prob in zip(batch, cams, probs.cpu().numpy(), strict=True):
                ids = torch.tensor(sample.class_ids, dtype=torch.uint8).numpy()
                score_map = ScoreMap(ids, cam.cpu().numpy(), sample.size, prob[ids.astype(int) - 1])
                write_score_map(staging.path / f"{sample.name}.npz", score_map)
            count += len(batch)
        seconds = time.perf_counter() - started
    if count:
        log.info("%d CAMs at %.1f images/s", count, count / seconds)
    return count / seconds


@dataclass(frozen=True)
class _Maker:
    """Yields samples, the (P, h, w) maps of each, and (B, K) logits."""

    model: Classifier
    method: Any
    settings: GenerateCamsSettings
    fabric: Fabric
    images: Path

    def whole(
        self, samples: list[Sample], n_workers: int, done: Callable[[Sample], bool]
    ) -> Iterator[tuple[list[Sample], Sequence[Tensor], Tensor]]:
        """Of images that are resized whole, in batches."""
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
            description="CAMs",
        ):
            images = self._prepare(pixels)
            ids = [one.class_ids for one in batch]
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
        """Of images that are never resized whole, one by one."""
        if not samples:
            return
        method = self._sliding()
        for sample in track(samples, "CAMs of large images"):
            with torch.inference_mode(not method.needs_gradients), self.fabric.autocast():
                cam, logits = windowed_cams(
                    self.model,
                    method,
                    read_image(self.images / sample.image),
                    sample.class_ids,
                    normalise=self._prepare,
                    **self._views(*sample.size),
                )
            yield [sample], [cam], logits[None]

    def _sliding(self) -> SlidingWindow:
        """The method in windows."""
        settings, together = self.settings, self.settings.batch_size
        if max_pixels := self._max_pixels():
            together = max_pixels // settings.window**2
        return SlidingWindow(self.method, settings.window, settings.window_overlap, together)

    def _max_pixels(self) -> int | None:
        return CPU_PIXELS if self.fabric.device.type == "cpu" else None

    def _prepare(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 to float32, normalised, on the device."""
        backbone = self.model.backbone
        return normalise(self.fabric.to_device(pixels), backbone.mean, backbone.std)

    def _views(self, height: int, width: int) -> dict[str, Any]:
        stride = self.settings.grid_stride
        grid = -(-height // stride), -(-width // stride)
        return {"grid": grid} | self.settings.model_dump(
            include={"scales", "flip", "align_corners"}
        )


if __name__ == "__main__":
    execute("generate_cams", run, upstream=("data/images", "data/splits", "models/classifier"))
