"""Segment images with the trained network, without their tags.

By choice the classifier says which classes an image may have, and a CRF follows colours.
"""

import time
from functools import partial
from pathlib import Path

from wsss.artifacts import Manifest, Sample, read_image, write_label_png
from wsss.pipeline import Job, Picture, Stage
from wsss.progress import track
from wsss.stages._warnings.tally import mask_tally, prediction_warnings


def run(job: Job) -> None:
    """Write data/predictions/<split>/<name>.png for the images of predict_masks.splits.

    Those of scored sets are predicted, too.

    Images larger than `predict_masks.window` are decoded one at a time and cut into windows; see
    `predict_mask_in_windows` for the memory that they take.
    """
    from wsss.loading.devices import gather, make_fabric, num_workers
    from wsss.loading.same_size import same_size_batches
    from wsss.segment.filtering import ClassFilter
    from wsss.segment.network import load_segmenter
    from wsss.segment.predictor import Predictor

    settings, machine, paths = job.params.predict_masks, job.params.machine, job.paths
    manifest = Manifest.read(paths.splits)
    fabric = make_fabric(machine, settings.precision)
    model = load_segmenter(paths.segmenter)
    manifest.check_classes(model.spec.class_names, f"the network in {paths.segmenter}")
    splits = (*settings.splits, *manifest.scored_sets)
    limit = settings.window or float("inf")
    workers = num_workers(machine)
    class_filter = None
    if settings.filter_recall:
        class_filter = ClassFilter(
            paths.classifier,
            manifest,
            paths.images,
            fabric,
            recall=settings.filter_recall,
            long_side=settings.filter_long_side or manifest.median_side,
            batch_size=settings.batch_size,
            num_workers=workers,
        )
    tally = mask_tally()
    count, seconds = 0, 0.0
    with job.staging() as staging:
        for split in splits:
            folder = staging.path / split
            started = time.perf_counter()
            samples = manifest.splits[split]
            present = class_filter.present(samples) if class_filter else None
            predictor = Predictor(model, settings, fabric, present)
            large = [
                sample
                for sample in job.share([sample for sample in samples if max(sample.size) > limit])
                if not _exists(folder, sample)
            ]
            for sample in track(large, f"predict large images of {split}") if large else ():
                mask = predictor.in_windows(sample, read_image(paths.images / sample.image))
                write_label_png(folder / f"{sample.name}.png", mask)
                tally.note(sample, mask)
                count += 1
            for batch, pixels in same_size_batches(
                [sample for sample in samples if max(sample.size) <= limit],
                paths.images,
                batch_size=settings.batch_size,
                num_workers=workers,
                done=partial(_exists, folder),
                shared=True,
                description=f"predict {split}",
            ):
                masks = predictor.whole(batch, pixels)
                for sample, mask in zip(batch, masks, strict=True):
                    write_label_png(folder / f"{sample.name}.png", mask)
                    tally.note(sample, mask)
                count += len(batch)
            seconds += time.perf_counter() - started
        tally.add(gather(tally.found))
        if job.is_first:
            for split in splits:
                tally.complete(manifest.splits[split], staging.path / split)
            prediction_warnings(job, tally, manifest, splits)
    job.report({"num_images": sum(len(manifest.splits[split]) for split in splits)})
    job.rate(count, seconds)


def _exists(folder: Path, sample: Sample) -> bool:
    return (folder / f"{sample.name}.png").exists()


STAGE = Stage(
    "predict_masks",
    run,
    settings=("predict_masks",),
    reads=("data/images", "data/splits", "models/classifier", "models/segmenter"),
    makes=("data/predictions",),
    code=("densecrf", "loading", "models", "segment", "stages/_warnings", "windows.py"),
    picture=Picture("prediction", "mask", split=True),
    devices=True,
)
