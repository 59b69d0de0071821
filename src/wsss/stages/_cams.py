"""Class activation maps of all images, whole or in windows: what the two CAM stages share."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
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
from wsss.cam.making import FOUND, CamMaker, looks_alike, shares_pass
from wsss.checks import full_key
from wsss.config.sections import FurtherCamsSettings, GenerateCamsSettings
from wsss.loading.devices import gather, num_workers
from wsss.loading.same_size import same_size_batches
from wsss.models.classifier import Classifier, load_classifier
from wsss.pipeline import Job
from wsss.progress import track
from wsss.stages._warnings.tally import Tally, map_tally, map_values

__all__ = ["write_cams"]

Made: TypeAlias = tuple[list[Sample], list[tuple[list[Tensor], Tensor]]]
"""Samples, and of each kind of maps the (P, h, w) maps of each sample and (B, K) logits."""

_NO_IDS = np.zeros(0, np.uint8)


def write_cams(
    job: Job, settings: GenerateCamsSettings, classifier: Path, folder: Path, source: str = ""
) -> dict[str, Any]:
    """Write folder/<name>.npz for every image that has none yet, for the classes of its tags.

    Of the classes that nobody knows of, those have a map that the classifier finds in the image.
    Maps of a named source have all of them, as they go with maps of another classifier.

    Maps without a name are made with those of further_cams that come from the same forward pass,
    or from a classifier that begins with the same layers, for the stage that makes these to find.

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
    fabric = job.fabric(settings.precision, folder, source)
    beside = () if source else _beside(job, model, loss, settings)
    with ExitStack() as stack:
        kinds, further = [_Kind(folder, loss, found_alone=not source)], []
        for entry, other, other_loss, others in beside:
            if begun := stack.enter_context(entry):
                kinds.append(_Kind(begun, other_loss, found_alone=False))
                further.append((other, others))
        maker = CamMaker(model, settings, fabric, further)
        tally = _write(job, settings.batch_size, maker, manifest, kinds, source)
    samples = manifest.all_samples()
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


@dataclass(frozen=True)
class _Kind:
    """One kind of maps.

    Attributes:
        folder: where they go.
        loss: that their classifier was trained with.
        found_alone: as of `_score_map`.
    """

    folder: Path
    loss: str
    found_alone: bool

    def score_maps(
        self, samples: Sequence[Sample], cams: Sequence[Tensor], logits: Tensor
    ) -> Iterator[ScoreMap]:
        """What is written of each sample.

        Args:
            samples: of a batch.
            cams: (P, h, w) of each.
            logits: (B, K) of the classifier.
        """
        probs = logits.sigmoid() if self.loss == "multi_label" else logits.softmax(dim=1)
        for sample, cam, prob in zip(samples, cams, probs.cpu().numpy(), strict=True):
            yield _score_map(sample, cam.cpu().numpy(), prob, found_alone=self.found_alone)


def _beside(
    job: Job, model: Classifier, loss: str, settings: GenerateCamsSettings
) -> Iterator[tuple[AbstractContextManager[Path | None], Classifier, str, FurtherCamsSettings]]:
    """Further maps that are not made yet and cost less when made with these.

    Yields:
        What gives the folder where they go, as of `Job.to_begin`, their classifier, its loss, and
        their settings.
    """
    known = {"": (model, loss)}
    for name, others in job.params.further_cams.items():
        teacher = others.classifier
        folder = job.paths.teachers / teacher
        if not looks_alike(settings, others) or (teacher not in known and not folder.is_dir()):
            continue
        if entry := job.to_begin("generate_further_cams", name):
            if teacher not in known:
                known[teacher] = load_classifier(folder)
            if shares_pass(model, settings, known[teacher][0], others):
                yield entry, *known[teacher], others


def _write(
    job: Job,
    batch_size: int,
    maker: CamMaker,
    manifest: Manifest,
    kinds: Sequence[_Kind],
    source: str,
) -> Tally[ScoreMap]:
    """Fill the folders of all kinds of maps that a maker makes.

    Args:
        job: as of `write_cams`, as the rest.
        batch_size: of images.
        maker: of all maps.
        manifest: the images.
        kinds: of the maps.
        source: the name of the first kind.

    Returns:
        What the maps of this process of the first kind say.
    """
    images, samples = job.paths.images, manifest.all_samples()
    fillings = [
        Filling(kind.folder, len(samples), packed=manifest.packed, share=job.share)
        for kind in kinds
    ]
    filling, tally, n_workers = fillings[0], map_tally(), num_workers(job.params.machine)

    def done(sample: Sample) -> bool:
        return all(has_file(kind.folder / f"{sample.name}.npz") for kind in kinds)

    def write(sample: Sample, score_maps: Sequence[ScoreMap]) -> None:
        for kind, score_map in zip(kinds, score_maps, strict=True):
            write_score_map(kind.folder / f"{sample.name}.npz", score_map)
        tally.note(sample, score_maps[0])

    if not all(done(sample) for sample in samples if _possible(sample)):
        _learn(maker, manifest, images, job.params.base.rng_seed)
    count, started = 0, time.perf_counter()
    filled = [
        each.parts(samples, lambda sample: f"{sample.name}.npz", "" if at else "CAMs")
        for at, each in enumerate(fillings)
    ]
    for part, *_ in zip(*filled, strict=True):
        wanted = [sample for sample in part if _possible(sample)]
        small = [sample for sample in wanted if not maker.is_large(sample.size)]
        large = filling.share([sample for sample in wanted if maker.is_large(sample.size)])
        for sample in filling.share([sample for sample in part if not _possible(sample)]):
            if not done(sample):  # nobody asks what the classifier sees there
                maps = maker.nothing(sample.size)
                nothing = ScoreMap(_NO_IDS, maps, sample.size, np.zeros(0, np.float32))
                write(sample, [nothing] * len(kinds))
        for batch, made in chain(
            _in_windows(maker, [sample for sample in large if not done(sample)], images),
            _whole(maker, small, images, batch_size, n_workers, filling, done),
        ):
            of_kinds = (
                kind.score_maps(batch, *maps) for kind, maps in zip(kinds, made, strict=True)
            )
            for sample, *score_maps in zip(batch, *of_kinds, strict=True):
                write(sample, score_maps)
            count += len(batch)
    job.rate(count, time.perf_counter() - started, source)
    return tally


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
        yield batch, maker.whole_each(pixels, [_possible(sample) for sample in batch])


def _in_windows(maker: CamMaker, samples: list[Sample], images: Path) -> Iterator[Made]:
    """Run images that are never resized whole, one by one."""
    for sample in track(samples, "CAMs of large images") if samples else ():
        cam, logits = maker.in_windows(read_image(images / sample.image), _possible(sample))
        yield [sample], [([cam], logits[None])]
