"""Class activation maps of every image, for the classes it is tagged with."""

import logging
import time
from pathlib import Path

import torch

from wsss.artifacts import (
    Manifest,
    ScoreMap,
    Staging,
    fingerprint,
    source_fingerprint,
    write_json,
    write_score_map,
)
from wsss.cam.multiscale import multiscale_cams, whole_cells
from wsss.cam.sliding_window import SlidingWindow
from wsss.config.params import GenerateCamsSettings, MachineSettings, Params
from wsss.models.classifier import load_classifier
from wsss.models.fusion import fuse_batchnorm
from wsss.registry import CAM_METHODS
from wsss.report import write_panel
from wsss.stages._base import Paths, execute
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
    values = settings.model_dump(mode="json"), source_fingerprint()
    return fingerprint(*values, files=[classifier, paths.splits])


def write_cams(
    settings: GenerateCamsSettings,
    classifier: Path,
    out: Path,
    manifest: Manifest,
    machine: MachineSettings,
    paths: Paths,
) -> float:
    """Write out/<name>.npz for every image of the manifest that has none yet.

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
    stride = model.backbone.output_stride
    max_pixels = CPU_PIXELS if fabric.device.type == "cpu" else None
    method = CAM_METHODS.build(settings.method)
    if not method.needs_gradients:  # such a method may look at any layer, which has to be there
        model = fuse_batchnorm(model, torch.rand(1, 3, 4 * stride, 4 * stride))
    model = fabric.to_device(model)
    if settings.window:
        together = max_pixels // settings.window**2 if max_pixels else settings.batch_size
        method = SlidingWindow(method, settings.window, settings.window_overlap, together)
    with Staging(out, cams_key(settings, classifier, paths)) as staging:
        count, started = 0, time.perf_counter()
        for batch, pixels in same_size_batches(
            manifest.all_samples(),
            paths.images,
            batch_size=settings.batch_size,
            num_workers=num_workers(machine),
            size_for=lambda size: whole_cells(size, 1, stride, settings.align_corners),
            done=lambda one: (staging.path / f"{one.name}.npz").exists(),
            description="CAMs",
        ):
            height, width = pixels.shape[2:]
            images = normalise(fabric.to_device(pixels), model.backbone.mean, model.backbone.std)
            with torch.inference_mode(not method.needs_gradients), fabric.autocast():
                cams, logits = multiscale_cams(
                    model,
                    method,
                    images,
                    [one.class_ids for one in batch],
                    grid=(-(-height // settings.grid_stride), -(-width // settings.grid_stride)),
                    scales=settings.scales,
                    flip=settings.flip,
                    align_corners=settings.align_corners,
                    max_pixels=max_pixels,
                )
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


if __name__ == "__main__":
    execute("generate_cams", run, upstream=("data/images", "data/splits", "models/classifier"))
