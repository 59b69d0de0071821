"""Segment images with the trained network, or the index of regions, without their tags.

By choice the classifier says which classes an image may have, and a CRF follows colours.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

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
    from wsss.segment.retrieval.model import is_retrieval

    settings, machine, paths = job.params.predict_masks, job.params.machine, job.paths
    manifest = Manifest.read(paths.splits)
    fabric = make_fabric(machine, settings.precision)
    retrieval = is_retrieval(paths.segmenter)
    predictor_for = (_retrieval if retrieval else _network)(job, manifest, fabric)
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
            predictor = predictor_for(present)
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
    if retrieval:
        _, shown = job.panel_columns()
        present = class_filter.present(shown) if class_filter else None
        if job.is_first:
            _show_neighbours(job, manifest, predictor_for(present), shown)
    job.report({"num_images": sum(len(manifest.splits[split]) for split in splits)})
    job.rate(count, seconds)


Present = Mapping[str, np.ndarray] | None
"""By name of an image the classes that it may have; see `Predictor`."""


def _network(job: Job, manifest: Manifest, fabric: Any) -> Callable[[Present], Any]:
    """Makes predictors of a trained network."""
    from wsss.segment.network import load_segmenter
    from wsss.segment.predictor import Predictor

    folder, settings = job.paths.segmenter, job.params.predict_masks
    model = load_segmenter(folder)
    manifest.check_classes(model.spec.class_names, f"the network in {folder}")
    return partial(Predictor, model, settings, fabric)


def _retrieval(job: Job, manifest: Manifest, fabric: Any) -> Callable[[Present], Any]:
    """Makes predictors of an index of regions."""
    from wsss.segment.retrieval import load_retrieval
    from wsss.segment.retrieval.predictor import RetrievalPredictor

    folder = job.paths.segmenter
    model = load_retrieval(folder)
    manifest.check_classes(model.class_names, f"the index in {folder}")
    return partial(RetrievalPredictor, model, job.paths.proposals, fabric)


def _show_neighbours(
    job: Job, manifest: Manifest, predictor: Any, samples: Sequence[Sample]
) -> None:
    """Write reports/predict_masks/neighbours.png and record it, of the images of the panel."""
    from wsss.report.neighbours import draw_neighbours
    from wsss.segment.retrieval.evidence import evidence

    out = job.paths.report("predict_masks/neighbours", ".png")
    draw_neighbours(out, evidence(predictor, manifest, job.paths.images, samples))
    job.tracker.artifact(out)


def _exists(folder: Path, sample: Sample) -> bool:
    return (folder / f"{sample.name}.png").exists()


STAGE = Stage(
    "predict_masks",
    run,
    settings=("predict_masks",),
    reads=(
        "data/images",
        "data/proposals",
        "data/splits",
        "models/classifier",
        "models/segmenter",
    ),
    makes=("data/predictions",),
    code=("densecrf", "loading", "models", "segment", "stages/_warnings", "windows.py"),
    picture=Picture("prediction", "mask", split=True),
    devices=True,
)
