"""Prepare data: check and copy every image, hold out a selection split, write the manifests."""

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from wsss.artifacts import SPLITS, Manifest, Sample, single_label_fault
from wsss.checks import full_key, naming, printable
from wsss.config.params import Params
from wsss.data import Problem, RawDataset, RawSample
from wsss.data.images import PixelRules
from wsss.data.listing import list_images
from wsss.data.splits import hold_out, subset
from wsss.pipeline import Job, Stage
from wsss.registry import DATASETS
from wsss.settings import ConfigError, expand_path
from wsss.stages._annotating import Annotating, annotation_lines, takes_masks
from wsss.stages._data_checks import (
    check_class_names,
    check_space,
    check_writable,
    class_lines,
    class_warnings,
    listed_problems,
    without_unwritable,
)
from wsss.stages._mask_checks import MANY, MaskReview
from wsss.stages._preparation import Preparation
from wsss.stages._scored_sets import ScoredSet, check_not_learned, collect_scored_set
from wsss.stages._shrinking import shrink_all

log = logging.getLogger(__name__)

_BACKGROUND = "background"


def run(job: Job) -> None:
    """Write data/images, data/masks, data/splits, data/annotations and the report.

    Raises:
        ValueError: nothing usable is left, too much had to be skipped, tags do not suit the
            loss, masks or annotations contradict the tags, or the disk is too small; always before
            or instead of the outs.
    """
    params, paths, settings = job.params, job.paths, job.params.prepare_data
    scratch = paths.root / "data/.prepare_data.scratch"
    check_writable(paths)
    background = _background(job)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        raw = DATASETS.build(settings.dataset).collect(scratch, params.base.rng_seed)
        check_class_names(raw.class_names, params)
        sets = [
            collect_scored_set(
                name, item, raw.class_names, _scratch_of(name, scratch), params.base.rng_seed
            )
            for name, item in settings.scored_sets.items()
        ]
        raw.splits.update({split: raw.splits.get(split, []) for split in SPLITS})
        beside = {item.name: item.samples for item in sets}
        kept, unwritable = without_unwritable(raw.splits | background | beside, scratch)
        raw = replace(raw, splits={split: kept[split] for split in SPLITS})
        background = {split: kept[split] for split in background}
        beside = {split: kept[split] for split in beside}
        raw.problems.extend(unwritable)
        for item in sets:
            raw.problems.extend(item.problems)
        splits = _with_selection(raw, params)
        lists = splits | background | beside
        _check_names(lists)
        _check_files(splits, background)
        learned = (splits["train"], splits["selection"], *background.values())
        check_not_learned(sets, chain.from_iterable(learned))
        _check_before(splits, params)
        check_space(lists, paths.root)
        rules = PixelRules.of(settings.pixel_range, settings.bands)
        annotating = Annotating(splits, raw, params, rules)
        with ExitStack() as stack:
            images, masks, listing, given, partial = (
                stack.enter_context(job.staging(at)) for at in range(len(STAGE.makes))
            )
            work = Preparation(
                len(raw.class_names),
                images.path,
                masks.path,
                resumed=masks.resumed and images.resumed,
                rules=rules,
                turned_masks=settings.turned_masks,
            )
            prepared = work.all(splits | background)
            works = {name: work.alike() for name in beside}
            for name, samples in beside.items():
                prepared |= works[name].all({name: samples})
                work.conversions.update(works[name].conversions)
            problems = [*raw.problems, *work.problems]
            problems += [problem for each in works.values() for problem in each.problems]
            review = MaskReview(work.drawn, raw.class_names)
            contradictions = [] if raw.tags_from_masks else _check_masks(review, params)
            for item in sets:
                contradictions += _review_of(item, works[item.name], raw.class_names, params)
            _check_after(problems, prepared, params, work.range_of_all())
            if _selects_threshold(params) and not review.shows_any("selection"):
                raise ConfigError(
                    "make_pseudo_masks.threshold is 'selected', but no mask of the selection split "
                    "shows any class to choose it on; set a number such as 0.3, or raise "
                    "prepare_data.selection_share"
                )
            prepared, shrunk = shrink_all(prepared, images.path, masks.path, settings.long_side_max)
            if shrunk:
                work.conversions["shrunk"] = shrunk
            prepared = annotating.place(
                prepared, work.turning, masks.path, given.path, partial.path
            )
            manifest = Manifest(
                raw.class_names,
                {split: tuple(prepared[split]) for split in (*SPLITS, *beside)},
                tuple(prepared.get(_BACKGROUND, ())),
                raw.has_background,
            )
            manifest.write(listing.path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report = _report(manifest, problems, work.conversions) | annotating.report(manifest)
    for line in (*class_lines(report), *annotation_lines(report)):
        log.info("%s", line)
    warnings = [
        *raw.warnings,
        *(text for item in sets for text in item.warnings),
        *class_warnings(report["splits"], background=bool(manifest.background)),
        *contradictions,
        *([] if raw.tags_from_masks else review.warnings()),
        *work.warnings(),
        *(f"{name}: {text}" for name, each in works.items() for text in each.warnings()),
        *annotating.warnings,
    ]
    if problems:
        warnings.append(f"skipped images: {len(problems)}{listed_problems(problems)}")
    for text in warnings:
        job.warn(text)
    job.report(report)


def _scratch_of(name: str, scratch: Path) -> Path:
    """An empty folder for files that a scored set makes."""
    folder = scratch / f".{name}"
    folder.mkdir()
    return folder


def _review_of(
    item: ScoredSet, work: Preparation, class_names: Sequence[str], params: Params
) -> list[str]:
    """What the masks of a scored set have against its tags; what is an error of val is one here."""
    if item.tags_from_masks:
        return []
    review = MaskReview(work.drawn, class_names)
    with naming(f"scored_sets.{item.name}"):
        found = [*_check_masks(review, params, settable=item.settable), *review.warnings()]
    return [f"{item.name}: {text}" for text in found]


def _background(job: Job) -> dict[str, list[RawSample]]:
    """The list of images of anything but the classes; no list where no folder is named."""
    settings = job.params.prepare_data
    if settings.background_images is None:
        return {}
    key = "background_images"
    listing = list_images(expand_path(settings.background_images, key), full_key(key))
    for text in listing.warnings:
        job.warn(text)
    samples = [RawSample(f"{_BACKGROUND}/{name}", path, ()) for name, path in listing.files.items()]
    maximum = settings.background_max or len(samples)
    return {_BACKGROUND: subset(samples, maximum, job.params.base.rng_seed)}


def _with_selection(raw: RawDataset, params: Params) -> dict[str, list[RawSample]]:
    splits = {name: list(raw.splits.get(name, [])) for name in SPLITS}
    for name in ("train", "val"):
        if not splits[name]:
            raise ValueError(f"no usable image for the {name} split{listed_problems(raw.problems)}")
    if not splits["selection"]:
        settings = params.prepare_data
        splits["train"], splits["selection"] = hold_out(
            splits["train"],
            settings.selection_share,
            settings.selection_max,
            params.base.rng_seed,
            spare_masks=takes_masks(settings, raw),
        )
    return splits


def _check_names(lists: dict[str, list[RawSample]]) -> None:
    owner: dict[str, str] = {}
    for split, samples in lists.items():
        for sample in samples:
            if sample.name in owner:
                way_out = (
                    "splits must not share images: remove it from one of the lists"
                    if split in SPLITS
                    else f"rename the folder '{split}' of the data set's own images"
                )
                raise ValueError(
                    f"the name '{sample.name}' occurs twice, in {owner[sample.name]} and in "
                    f"{split}; {way_out}"
                )
            owner[sample.name] = split


def _check_files(
    splits: dict[str, list[RawSample]], background: dict[str, list[RawSample]]
) -> None:
    """Images without any class are the data set's own, or background images, but not both."""
    if not background:
        return
    resolved = cache(Path.resolve)
    own = {
        (resolved(sample.image.parent), sample.image.name)
        for samples in splits.values()
        for sample in samples
    }
    both = [
        sample.image
        for sample in background[_BACKGROUND]
        if (resolved(sample.image.parent), sample.image.name) in own
    ]
    if both:
        raise ConfigError(
            f"{full_key('background_images')} has {len(both)} images that the data set has as its "
            f"own, such as {both[0]}; images of a sub-folder or with a tag that "
            f"{full_key('dataset.empty_tag')} names are known to show no class: leave "
            "background_images out, or name a folder of other images"
        )


def _check_before(splits: dict[str, list[RawSample]], params: Params) -> None:
    """What can be known before any image is read."""
    tags = Counter(tag for sample in splits["train"] for tag in sample.class_ids)
    if not tags:
        raise ValueError(
            f"none of the {len(splits['train'])} training images has a tag, so there is nothing to "
            "learn; check the data set's tags, or how its images are split"
        )
    if _selects_threshold(params) and not any(sample.mask for sample in splits["selection"]):
        raise ConfigError(
            "make_pseudo_masks.threshold is 'selected', but no selection image has a mask to "
            "choose it on; set a number such as 0.3, or add masks for some training images"
        )
    if params.train_classifier.loss == "single_label":
        samples = [item for split in splits.values() for item in split]
        if wrong := single_label_fault(samples, "train_classifier.loss"):
            raise ConfigError(wrong)


def _selects_threshold(params: Params) -> bool:
    pseudo = params.make_pseudo_masks
    return pseudo.background == "constant" and pseudo.threshold == "selected"


def _check_masks(review: MaskReview, params: Params, *, settable: bool | None = None) -> list[str]:
    """Raise ConfigError where masks contradict the tags; where that is wanted, say so instead.

    Args:
        review: of a data set.
        params: of the project.
        settable: whether it has a setting mask_values; None asks that of the project.
    """
    settings = params.prepare_data
    found = review.contradictions(max(settings.max_skipped_share, MANY))
    if not found:
        return []
    shown = found[:5] + ([f"and {len(found) - 5} more"] if len(found) > 5 else [])
    if settings.contradicting_masks == "warn":
        return [f"masks contradict the tags: {'; '.join(shown)}"]
    if settable is None:
        settable = "mask_values" in type(settings.dataset).model_fields
    raise ConfigError(
        "\n".join(
            [
                "masks contradict the tags, so that scores would mean nothing:",
                *(f"  {line}" for line in shown),
                *review.advice(settable=settable),
                "where it is the tags that are wrong: prepare_data.contradicting_masks: warn",
            ]
        )
    )


def _check_after(
    problems: list[Problem], prepared: dict[str, list[Sample]], params: Params, hint: str
) -> None:
    settings = params.prepare_data
    kept = sum(map(len, prepared.values()))
    for split, samples in prepared.items():
        if not samples:
            raise ValueError(
                f"no usable image is left for the {split} split{listed_problems(problems)}{hint}"
            )
    if not any(sample.class_ids for sample in prepared["train"]):
        raise ValueError(
            f"no usable training image with a tag is left{listed_problems(problems)}{hint}"
        )
    share = len(problems) / (kept + len(problems))
    if problems and settings.on_bad_image == "error":
        raise ValueError(
            f"unusable images: {len(problems)}{listed_problems(problems)}{hint}\n"
            "mend them, or set prepare_data.on_bad_image to skip"
        )
    if share > settings.max_skipped_share:
        raise ValueError(
            f"{len(problems)} of {kept + len(problems)} images cannot be used, which is more than "
            f"prepare_data.max_skipped_share = {settings.max_skipped_share}"
            f"{listed_problems(problems)}{hint}\nmend them, or raise that share"
        )


def _report(
    manifest: Manifest, problems: list[Problem], conversions: Counter[str]
) -> dict[str, Any]:
    splits = {}
    for split, samples in manifest.splits.items():
        counts = manifest.labels(samples).sum(0).astype(int).tolist()
        splits[split] = {
            "images": len(samples),
            "with_mask": sum(sample.mask is not None for sample in samples),
            "without_tag": sum(not (sample.class_ids or sample.uncertain) for sample in samples),
            "images_per_class": dict(zip(manifest.class_names, counts, strict=True)),
            **_doubts(manifest, samples),
        }
    extra = {"background_images": len(manifest.background)} if manifest.background else {}
    return {
        "splits": splits,
        **extra,
        "conversions": dict(sorted(conversions.items())),
        "num_skipped": len(problems),
        "skipped": [
            {"name": printable(problem.name), "reason": printable(problem.reason)}
            for problem in problems
        ],
    }


def _doubts(manifest: Manifest, samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """Of how many images each class is unknown, or has a probability; nothing where all is sure."""
    found: dict[str, Counter[str]] = {"unknown": Counter(), "uncertain": Counter()}
    for sample in samples:
        for class_id, prob in sample.uncertain:
            name = manifest.class_names[class_id - 1]
            found["unknown" if prob is None else "uncertain"][name] += 1
    return {
        f"{kind}_per_class": {name: counts[name] for name in manifest.class_names if counts[name]}
        for kind, counts in found.items()
        if counts
    }


STAGE = Stage(
    "prepare_data",
    run,
    settings=("base.rng_seed", "prepare_data"),
    makes=(
        "data/images",
        "data/masks",
        "data/splits",
        "data/annotations/masks",
        "data/annotations/partial",
    ),
    code=(
        "data",
        "evaluate",
        "stages/_annotating.py",
        "stages/_annotation_checks.py",
        "stages/_annotation_parts.py",
        "stages/_annotations.py",
        *(f"stages/_{name}.py" for name in ("data_checks", "mask_checks", "mask_meanings")),
        "stages/_preparation.py",
        "stages/_scored_sets.py",
        "stages/_shrinking.py",
    ),
)
