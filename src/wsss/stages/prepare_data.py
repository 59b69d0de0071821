"""Prepare data: check and copy every image, hold out a selection split, write the manifests."""

import logging
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsss.artifacts import (
    IGNORE_INDEX,
    SPLITS,
    Manifest,
    Paths,
    Sample,
)
from wsss.checks import full_key
from wsss.config.params import Params
from wsss.data import Problem, RawDataset, RawSample
from wsss.data.images import list_images
from wsss.data.splits import hold_out, subset
from wsss.pipeline import Job, Stage
from wsss.registry import DATASETS
from wsss.settings import ConfigError, expand_path
from wsss.stages._preparation import Preparation, file_bytes

log = logging.getLogger(__name__)

_BACKGROUND = "background"


def run(job: Job) -> None:
    """Write data/images, data/masks, data/splits and the report.

    Raises:
        ValueError: nothing usable is left, too much had to be skipped, tags do not suit the
            loss, or the disk is too small; always before or instead of the outs.
    """
    params, paths = job.params, job.paths
    scratch = paths.root / "data/.prepare_data.scratch"
    _check_writable(paths)
    background = _background(params)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        raw = DATASETS.build(params.prepare_data.dataset).collect(scratch, params.base.rng_seed)
        splits = _with_selection(raw, params)
        lists = splits | background
        _check_names(lists)
        _check_before(raw, splits, params)
        _check_space(lists, paths.root)
        with ExitStack() as stack:
            images, masks, listing = (
                stack.enter_context(job.staging(at)) for at in range(len(STAGE.makes))
            )
            work = Preparation(
                len(raw.class_names),
                images.path,
                masks.path,
                resumed=masks.resumed and images.resumed,
            )
            prepared = work.all(lists)
            problems = [*raw.problems, *work.problems]
            _check_after(problems, prepared, params)
            manifest = Manifest(
                raw.class_names,
                {split: tuple(prepared[split]) for split in SPLITS},
                tuple(prepared.get(_BACKGROUND, ())),
            )
            manifest.write(listing.path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report = _report(manifest, problems, work.conversions)
    if work.problems:  # what was skipped may have left a class with few
        _warn_of_rare(report["splits"]["train"]["images_per_class"])
    for text in raw.warnings:
        job.warn(text)
    job.report(report)
    _announce(report)


def _background(params: Params) -> dict[str, list[RawSample]]:
    """The list of images of anything but the classes; no list where no folder is named."""
    settings = params.prepare_data
    if settings.background_images is None:
        return {}
    key = "background_images"
    files = list_images(expand_path(settings.background_images, key), full_key(key))
    samples = [RawSample(f"{_BACKGROUND}/{name}", path, ()) for name, path in files.items()]
    maximum = settings.background_max or len(samples)
    return {_BACKGROUND: subset(samples, maximum, params.base.rng_seed)}


def _with_selection(raw: RawDataset, params: Params) -> dict[str, list[RawSample]]:
    splits = {name: list(raw.splits.get(name, [])) for name in SPLITS}
    for name in ("train", "val"):
        if not splits[name]:
            raise ValueError(f"no usable image for the {name} split{_first(raw.problems)}")
    if not splits["selection"]:
        settings = params.prepare_data
        splits["train"], splits["selection"] = hold_out(
            splits["train"], settings.selection_share, settings.selection_max, params.base.rng_seed
        )
    return splits


def _check_names(lists: dict[str, list[RawSample]]) -> None:
    owner: dict[str, str] = {}
    for split, samples in lists.items():
        for sample in samples:
            if sample.name in owner:
                way_out = (
                    f"rename the folder '{_BACKGROUND}' of the data set's own images"
                    if split == _BACKGROUND
                    else "splits must not share images: remove it from one of the lists"
                )
                raise ValueError(
                    f"the name '{sample.name}' occurs twice, in {owner[sample.name]} and in "
                    f"{split}; {way_out}"
                )
            owner[sample.name] = split


def _check_before(raw: RawDataset, splits: dict[str, list[RawSample]], params: Params) -> None:
    """What can be known before any image is read."""
    if len(raw.class_names) > IGNORE_INDEX - 1:
        raise ConfigError(
            f"the data has {len(raw.class_names)} classes, but masks of 8 bits hold at most "
            f"{IGNORE_INDEX - 1}; name the ones you need in prepare_data.dataset.classes"
        )
    tags = Counter(tag for sample in splits["train"] for tag in sample.class_ids)
    if not tags:
        raise ValueError(
            f"none of the {len(splits['train'])} training images has a tag, so there is nothing to "
            "learn; check the data set's tags, or how its images are split"
        )
    _warn_of_rare({name: tags[c] for c, name in enumerate(raw.class_names, 1)})
    pseudo = params.make_pseudo_masks
    needs_threshold = pseudo.background == "constant" and pseudo.threshold == "selected"
    if needs_threshold and not any(sample.mask for sample in splits["selection"]):
        raise ConfigError(
            "make_pseudo_masks.threshold is 'selected', but no selection image has a mask to "
            "choose it on; set a number such as 0.3, or add masks for some training images"
        )
    if params.train_classifier.loss == "single_label":
        samples = [item for split in splits.values() for item in split]
        wrong = [sample for sample in samples if len(sample.class_ids) != 1]
        if wrong:
            raise ConfigError(
                "train_classifier.loss is 'single_label', which needs exactly one tag per image, "
                f"but {len(wrong)} of {len(samples)} images have another number, such as "
                f"'{wrong[0].name}' with {len(wrong[0].class_ids)}; set it to multi_label"
            )


def _warn_of_rare(images_per_class: dict[str, int]) -> None:
    for name, count in images_per_class.items():
        if not count:
            log.warning("class '%s' has no training image: it cannot be learned", name)
        elif count == 1:
            log.warning("class '%s' has a single training image: too few to learn from", name)


def _check_after(
    problems: list[Problem], prepared: dict[str, list[Sample]], params: Params
) -> None:
    settings = params.prepare_data
    kept = sum(map(len, prepared.values()))
    for split, samples in prepared.items():
        if not samples:
            raise ValueError(f"no usable image is left for the {split} split{_first(problems)}")
    if not any(sample.class_ids for sample in prepared["train"]):
        raise ValueError(f"no usable training image with a tag is left{_first(problems)}")
    share = len(problems) / (kept + len(problems))
    if problems and settings.on_bad_image == "error":
        raise ValueError(
            f"unusable images: {len(problems)}{_first(problems)}\n"
            "mend them, or set prepare_data.on_bad_image to skip"
        )
    if share > settings.max_skipped_share:
        raise ValueError(
            f"{len(problems)} of {kept + len(problems)} images cannot be used, which is more than "
            f"prepare_data.max_skipped_share = {settings.max_skipped_share}{_first(problems)}\n"
            "mend them, or raise that share"
        )


def _first(problems: list[Problem], count: int = 10) -> str:
    if not problems:
        return ""
    lines = [f"  {problem.name}: {problem.reason}" for problem in problems[:count]]
    more = [f"  and {len(problems) - count} more"] if len(problems) > count else []
    return ":\n" + "\n".join(lines + more)


def _check_writable(paths: Paths) -> None:
    for folder in (paths.root / "data", paths.root / "reports"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ValueError(
                f"{folder.resolve()} cannot be written to ({error.strerror}); "
                "change its owner or mode, or free some space"
            ) from None


def _check_space(lists: dict[str, list[RawSample]], root: Path) -> None:
    """Converted images may grow and later stages write as much again: ask for some more."""
    files = [sample for samples in lists.values() for sample in samples]
    needed = sum(file_bytes(path) for sample in files for path in (sample.image, sample.mask))
    needed = int(1.1 * needed) + 2**24
    free = shutil.disk_usage(root).free
    if free < needed:
        raise ValueError(
            f"the disk of {root.resolve()} has {free / 2**20:.0f} MiB free, but copying the images "
            f"takes about {needed / 2**20:.0f} MiB; free some space, or move the project"
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
            "without_tag": sum(not sample.class_ids for sample in samples),
            "images_per_class": dict(zip(manifest.class_names, counts, strict=True)),
        }
    extra = {"background_images": len(manifest.background)} if manifest.background else {}
    return {
        "splits": splits,
        **extra,
        "conversions": dict(sorted(conversions.items())),
        "num_skipped": len(problems),
        "skipped": [asdict(problem) for problem in problems],
    }


def _announce(report: dict[str, Any]) -> None:
    for split, counts in report["splits"].items():
        log.info("%s: %d images, %d with a mask", split, counts["images"], counts["with_mask"])
    extra = report.get("background_images", 0)
    if extra:
        log.info("background: %d images", extra)
    if report["num_skipped"]:
        problems = [Problem(**item) for item in report["skipped"]]
        log.warning("skipped images: %d%s", len(problems), _first(problems))


STAGE = Stage(
    "prepare_data",
    run,
    settings=("base.rng_seed", "prepare_data"),
    makes=("data/images", "data/masks", "data/splits"),
    code=("data", "evaluate", "stages/_preparation.py"),
)
