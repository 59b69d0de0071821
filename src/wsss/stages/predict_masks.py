"""Segment images with the trained network, without their tags."""

import logging
import time
from functools import partial
from pathlib import Path

import torch

from wsss.artifacts import (
    Manifest,
    Sample,
    Staging,
    fingerprint,
    source_fingerprint,
    write_json,
    write_label_png,
)
from wsss.config.params import Params
from wsss.report import write_panel
from wsss.segment.network import load_segmenter
from wsss.segment.predict import predict_probs
from wsss.stages._base import Paths, execute
from wsss.tracking import Tracker
from wsss.training.loading import num_workers
from wsss.training.loop import make_fabric
from wsss.training.same_size import normalise, same_size_batches

log = logging.getLogger(__name__)


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Read the segmenter and the images; write data/predictions/<split>/<name>.png."""
    settings = params.predict_masks
    manifest = Manifest.read(paths.splits)
    model = load_segmenter(paths.segmenter)
    fabric = make_fabric(params.machine, settings.precision)
    model = fabric.to_device(model)
    key = fingerprint(
        settings.model_dump(mode="json"),
        source_fingerprint(),
        files=[paths.segmenter, paths.splits],
    )
    count, seconds = 0, 0.0
    with Staging(paths.predictions, key) as staging:
        for split in settings.splits:
            folder = staging.path / split
            started = time.perf_counter()
            for batch, pixels in same_size_batches(
                manifest.splits[split],
                paths.images,
                batch_size=settings.batch_size,
                num_workers=num_workers(params.machine),
                done=partial(_exists, folder),
                description=f"predict {split}",
            ):
                images = normalise(fabric.to_device(pixels), model.spec.mean, model.spec.std)
                with torch.inference_mode(), fabric.autocast():
                    probs = predict_probs(model, images, scales=settings.scales, flip=settings.flip)
                masks = probs.argmax(dim=1).to(torch.uint8).cpu().numpy()
                for sample, mask in zip(batch, masks, strict=True):
                    write_label_png(folder / f"{sample.name}.png", mask)
                count += len(batch)
            seconds += time.perf_counter() - started
    write_json(
        paths.report("predict_masks"),
        {"num_images": sum(len(manifest.splits[split]) for split in settings.splits)},
    )
    if count:
        log.info("segmented %d images at %.1f images/s", count, count / seconds)
        tracker.metrics({"images_per_second": count / seconds})
    chain = params.make_pseudo_masks.chain
    tracker.artifact(write_panel(paths, manifest, "predict_masks", chain=chain))


def _exists(folder: Path, sample: Sample) -> bool:
    return (folder / f"{sample.name}.png").exists()


if __name__ == "__main__":
    execute("predict_masks", run, upstream=("data/images", "data/splits", "models/segmenter"))
