"""Class activation maps of all images, whole or in windows: what the two CAM stages share."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from wsss.artifacts import (
    Filling,
    Manifest,
    Sample,
    ScoreMap,
    has_file,
    read_image,
    write_score_map,
)
from wsss.cam.making import FOUND, CamMaker
from wsss.checks import full_key
from wsss.config.sections import GenerateCamsSettings
from wsss.loading.devices import gather, num_workers
from wsss.loading.same_size import same_size_batches
from wsss.models.classifier import load_classifier
from wsss.pipeline import Job
from wsss.progress import track
from wsss.stages._warnings.tally import map_tally, map_values

__all__ = ["write_cams"]

Made: TypeAlias = tuple[list[Sample], Sequence[Tensor], Tensor]
"""Samples, the (P, h, w) maps of each, and (B, K) logits."""

_NO_IDS = np.zeros(0, np.uint8)


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
    fabric = job.fabric(settings.precision, source)
    maker, images = CamMaker(model, settings, fabric), job.paths.images
    samples = manifest.all_samples()
    filling = Filling(folder, len(samples), packed=manifest.packed, share=job.share)

    def done(sample: Sample) -> bool:
        return has_file(folder / f"{sample.name}.npz")

    if not all(done(sample) for sample in samples if _possible(sample)):
        _learn(maker, manifest, images, job.params.base.rng_seed)
    tally, n_workers = map_tally(), num_workers(job.params.machine)
    count, started = 0, time.perf_counter()
    for part in filling.parts(samples, lambda sample: f"{sample.name}.npz", "CAMs"):
        wanted = [sample for sample in part if _possible(sample)]
        small = [sample for sample in wanted if not maker.is_large(sample.size)]
        large = filling.share([sample for sample in wanted if maker.is_large(sample.size)])
        for sample in filling.share([sample for sample in part if not _possible(sample)]):
            if not done(sample):  # nobody asks what the classifier sees there
                maps = maker.nothing(sample.size)
                nothing = ScoreMap(_NO_IDS, maps, sample.size, np.zeros(0, np.float32))
                write_score_map(folder / f"{sample.name}.npz", nothing)
                tally.note(sample, nothing)
        for batch, cams, logits in chain(
            _in_windows(maker, [sample for sample in large if not done(sample)], images),
            _whole(maker, small, images, settings.batch_size, n_workers, filling, done),
        ):
            probs = logits.sigmoid() if loss == "multi_label" else logits.softmax(dim=1)
            for sample, cam, prob in zip(batch, cams, probs.cpu().numpy(), strict=True):
                score_map = _score_map(sample, cam.cpu().numpy(), prob, found_alone=not source)
                write_score_map(folder / f"{sample.name}.npz", score_map)
                tally.note(sample, score_map)
            count += len(batch)
    job.rate(count, time.perf_counter() - started, source)
    tally.add(gather((tally.seen, tally.found)))
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


def _learn(maker: CamMaker, manifest: Manifest, images: Path, rng_seed: int) -> None:
    """Show the method the training images without a tag, if it wants to see them."""
    if not maker.learns:
        return
    train = manifest.splits["train"]
    good = [sample for sample in train if not sample.class_ids and not sample.uncertain]
    shown = track(good, "good images") if good else ()
    maker.learn((read_image(images / sample.image) for sample in shown), len(good), rng_seed)


def _whole(
    maker: CamMaker,
    samples: list[Sample],
    images: Path,
    batch_size: int,
    n_workers: int,
    filling: Filling,
    done: Callable[[Sample], bool],
) -> Iterator[Made]:
    """Run images that are resized whole, in batches."""
    for batch, pixels in same_size_batches(
        samples,
        images,
        batch_size=batch_size,
        num_workers=n_workers,
        size_for=maker.resized,
        part=filling.shard,
        done=done,
        dealt=filling.share,
        description="CAMs",
    ):
        yield batch, *maker.whole(pixels, [_possible(sample) for sample in batch])


def _in_windows(maker: CamMaker, samples: list[Sample], images: Path) -> Iterator[Made]:
    """Run images that are never resized whole, one by one."""
    for sample in track(samples, "CAMs of large images") if samples else ():
        cam, logits = maker.in_windows(read_image(images / sample.image), _possible(sample))
        yield [sample], [cam], logits[None]
