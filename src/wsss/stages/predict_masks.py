"""Segment images with the trained network, or the index of regions, without their tags.

By choice the classifier says which classes an image may have, and a CRF follows colours.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import Filling, Manifest, Sample, has_file, read_image, write_label_png
from wsss.cores import world_size
from wsss.pipeline import Job, Picture, Stage
from wsss.progress import track
from wsss.stages._warnings.tally import mask_tally, prediction_warnings


def run(job: Job) -> None:
    """Write data/predictions/<split>/<name>.png for the images of predict_masks.splits.

    Those of scored sets are predicted, too. Each file says how many pixels of each class the
    network expects, from which `wsss audit` draws images; see `ExpectedPixels`.

    Images larger than `predict_masks.window` are decoded one at a time and cut into windows; see
    `predict_mask_in_windows` for the memory that they take.
    """
    from wsss.loading.devices import gather, num_workers
    from wsss.loading.same_size import same_size_batches, size_groups
    from wsss.segment.filtering import ClassFilter
    from wsss.segment.retrieval.model import is_retrieval

    settings, machine, paths = job.params.predict_masks, job.params.machine, job.paths
    manifest = Manifest.read(paths.splits)
    retrieval = is_retrieval(paths.segmenter)
    splits = (*settings.splits, *manifest.scored_sets)
    limit, batch_size = settings.window or float("inf"), settings.batch_size
    workers = num_workers(machine)

    @cache
    def class_filter() -> ClassFilter:
        return ClassFilter(
            paths.classifier,
            manifest,
            paths.images,
            fabric,
            recall=settings.filter_recall,
            long_side=settings.filter_long_side or manifest.median_side,
            batch_size=settings.batch_size,
            num_workers=workers,
        )

    def present_in(samples: Sequence[Sample], wanted: Collection[Sample]) -> Present:
        """The classes of the images that are wanted; of several processes, all ask together."""
        if not settings.filter_recall or (not wanted and world_size() == 1):
            return None
        return class_filter().present(samples, wanted)

    tally = mask_tally()
    count, seconds = 0, 0.0
    with job.staging() as staging:
        fabric = job.fabric(settings.precision, staging.path)
        predictor_for = (_retrieval if retrieval else _network)(job, manifest, fabric)
        for split in splits:
            folder = staging.path / split
            started = time.perf_counter()
            samples = manifest.splits[split]
            filling = Filling(folder, len(samples), packed=manifest.packed, share=job.share)
            own = filling.own(samples)
            wide = filling.share([sample for sample in own if max(sample.size) > limit])
            small = [sample for sample in own if max(sample.size) <= limit]
            groups = size_groups(
                [sample.size for sample in small], batch_size, list(map(filling.shard, small))
            )
            batches = [[small[at] for at in group] for group in filling.share(groups)]
            # a batch that is done in part runs whole
            begun = [batch for batch in batches if not all(_exists(folder, one) for one in batch)]
            wanted = {sample for sample in wide if not _exists(folder, sample)}
            predictor = predictor_for(present_in(samples, wanted.union(*begun)))
            for part in filling.parts(
                samples, lambda sample: f"{sample.name}.png", f"predict {split}"
            ):
                wide = filling.share([sample for sample in part if max(sample.size) > limit])
                large = [sample for sample in wide if not _exists(folder, sample)]
                for sample in track(large, f"predict large images of {split}") if large else ():
                    image = read_image(paths.images / sample.image)
                    mask, expected = predictor.in_windows_with_expected(sample, image)
                    write_label_png(folder / f"{sample.name}.png", mask, expected)
                    tally.note(sample, mask)
                    count += 1
                for batch, pixels in same_size_batches(
                    [sample for sample in part if max(sample.size) <= limit],
                    paths.images,
                    batch_size=batch_size,
                    num_workers=workers,
                    part=filling.shard,
                    done=partial(_exists, folder),
                    dealt=filling.share,
                    description=f"predict {split}",
                ):
                    found = predictor.with_expected(batch, pixels)
                    for sample, (mask, expected) in zip(batch, found, strict=True):
                        write_label_png(folder / f"{sample.name}.png", mask, expected)
                        tally.note(sample, mask)
                    count += len(batch)
            seconds += time.perf_counter() - started
        tally.add(gather((tally.seen, tally.found)))
        if job.is_first:
            for split in splits:
                tally.complete(manifest.splits[split], staging.path / split)
            prediction_warnings(job, tally, manifest, splits)
    if retrieval:
        _, shown = job.panel_columns()
        present = present_in(shown, shown)
        if job.is_first:
            _show_neighbours(job, manifest, predictor_for(present), shown)
    job.report({"num_images": sum(len(manifest.splits[split]) for split in splits)})
    job.rate(count, seconds)


Present = Mapping[str, np.ndarray] | None
"""By name of an image the classes that it may have; see `Predictor`."""


def _network(job: Job, manifest: Manifest, fabric: Any) -> Callable[[Present], Any]:
    """Makes predictors of a trained network."""
    from wsss.segment.network import load_for_prediction
    from wsss.segment.predictor import Predictor

    folder, settings = job.paths.segmenter, job.params.predict_masks
    model = load_for_prediction(folder, fabric)
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
    return has_file(folder / f"{sample.name}.png")


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
    spread=lambda _: "images",
)
