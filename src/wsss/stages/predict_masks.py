"""Segment images with the trained network, without their tags."""

import logging
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    Staging,
    fingerprint,
    read_image,
    source_fingerprint,
    write_json,
    write_label_png,
)
from wsss.config.params import Params
from wsss.progress import track
from wsss.report import write_panel
from wsss.segment.network import load_segmenter
from wsss.segment.predict import predict_mask_in_windows, predict_probs
from wsss.stages._base import execute
from wsss.tracking import Tracker
from wsss.training.loading import num_workers
from wsss.training.loop import make_fabric
from wsss.training.same_size import normalise, same_size_batches

log = logging.getLogger(__name__)


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Read the segmenter and the images; write data/predictions/<split>/<name>.png.

    Images larger than `predict_masks.window` are decoded one at a time and cut into windows; see
    `predict_mask_in_windows` for the memory that they take.
    """
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
    views = settings.model_dump(include={"scales", "flip"})
    limit = settings.window or float("inf")

    def prepare(pixels: Tensor) -> Tensor:
        return normalise(fabric.to_device(pixels), model.spec.mean, model.spec.std)

    count, seconds = 0, 0.0
    with Staging(paths.predictions, key) as staging:
        for split in settings.splits:
            folder = staging.path / split
            started = time.perf_counter()
            samples = manifest.splits[split]
            large = [one for one in samples if max(one.size) > limit and not _exists(folder, one)]
            for sample in track(large, f"predict large images of {split}") if large else ():
                with torch.inference_mode(), fabric.autocast():
                    mask = predict_mask_in_windows(
                        model,
                        read_image(paths.images / sample.image),
                        normalise=prepare,
                        window=settings.window,
                        overlap=settings.window_overlap,
                        together=settings.batch_size,
                        **views,
                    )
                write_label_png(folder / f"{sample.name}.png", mask)
                count += 1
            for batch, pixels in same_size_batches(
                [one for one in samples if max(one.size) <= limit],
                paths.images,
                batch_size=settings.batch_size,
                num_workers=num_workers(params.machine),
                done=partial(_exists, folder),
                description=f"predict {split}",
            ):
                images = prepare(pixels)
                with torch.inference_mode(), fabric.autocast():
                    probs = predict_probs(model, images, **views)
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
