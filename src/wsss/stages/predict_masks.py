"""Segment images with the trained network, without their tags."""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wsss.artifacts import Manifest, Sample, read_image, write_label_png
from wsss.pipeline import Job, Picture, Stage
from wsss.progress import track
from wsss.stages._warnings.tally import mask_tally, prediction_warnings

if TYPE_CHECKING:
    from torch import Tensor


def run(job: Job) -> None:
    """Write data/predictions/<split>/<name>.png for the images of predict_masks.splits.

    Images larger than `predict_masks.window` are decoded one at a time and cut into windows; see
    `predict_mask_in_windows` for the memory that they take.
    """
    import torch

    from wsss.loading.devices import gather, make_fabric, num_workers
    from wsss.loading.same_size import same_size_batches
    from wsss.segment.network import load_segmenter
    from wsss.segment.predict import predict_mask_in_windows, predict_probs

    settings, machine, paths = job.params.predict_masks, job.params.machine, job.paths
    manifest = Manifest.read(paths.splits)
    fabric = make_fabric(machine, settings.precision)
    model = fabric.to_device(load_segmenter(paths.segmenter))
    manifest.check_classes(model.spec.class_names, f"the network in {paths.segmenter}")
    views = settings.model_dump(include={"scales", "flip"})
    limit = settings.window or float("inf")

    def prepare(pixels: "Tensor") -> "Tensor":
        normal: Tensor = model.normalisation(fabric.to_device(pixels))
        return normal

    tally = mask_tally()
    count, seconds = 0, 0.0
    with job.staging() as staging:
        for split in settings.splits:
            folder = staging.path / split
            started = time.perf_counter()
            samples = manifest.splits[split]
            large = [
                sample
                for sample in job.share([sample for sample in samples if max(sample.size) > limit])
                if not _exists(folder, sample)
            ]
            for sample in track(large, f"predict large images of {split}") if large else ():
                with torch.inference_mode(), fabric.autocast():
                    mask = predict_mask_in_windows(
                        model,
                        read_image(paths.images / sample.image),
                        normalise=prepare,
                        window=settings.window,
                        overlap=settings.window_overlap,
                        batch_size=settings.batch_size,
                        **views,
                    )
                write_label_png(folder / f"{sample.name}.png", mask)
                tally.note(sample, mask)
                count += 1
            for batch, pixels in same_size_batches(
                [sample for sample in samples if max(sample.size) <= limit],
                paths.images,
                batch_size=settings.batch_size,
                num_workers=num_workers(machine),
                done=partial(_exists, folder),
                shared=True,
                description=f"predict {split}",
            ):
                images = prepare(pixels)
                with torch.inference_mode(), fabric.autocast():
                    probs = predict_probs(model, images, **views)
                masks = probs.argmax(dim=1).to(torch.uint8).cpu().numpy()
                for sample, mask in zip(batch, masks, strict=True):
                    write_label_png(folder / f"{sample.name}.png", mask)
                    tally.note(sample, mask)
                count += len(batch)
            seconds += time.perf_counter() - started
        tally.add(gather(tally.found))
        if job.is_first:
            for split in settings.splits:
                tally.complete(manifest.splits[split], staging.path / split)
            prediction_warnings(job, tally, manifest, settings.splits)
    job.report({"num_images": sum(len(manifest.splits[split]) for split in settings.splits)})
    job.rate(count, seconds)


def _exists(folder: Path, sample: Sample) -> bool:
    return (folder / f"{sample.name}.png").exists()


STAGE = Stage(
    "predict_masks",
    run,
    settings=("predict_masks",),
    reads=("data/images", "data/splits", "models/segmenter"),
    makes=("data/predictions",),
    code=("loading", "models", "segment", "stages/_warnings", "windows.py"),
    picture=Picture("prediction", "mask", split=True),
    devices=True,
)
