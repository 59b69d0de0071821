"""Prepare data: check and copy every image, hold out a selection split, write the manifests."""

import logging
import shutil
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain

from wsss.artifacts import SPLITS, Filling, Manifest
from wsss.data.images import PixelRules
from wsss.pipeline import Job, Stage
from wsss.registry import DATASETS
from wsss.stages._annotating import Annotating, annotation_lines
from wsss.stages._corrected import corrected_images
from wsss.stages._data_checks import (
    check_class_names,
    check_headers,
    check_space,
    check_writable,
    class_lines,
    class_warnings,
    without_unwritable,
)
from wsss.stages._data_report import data_report
from wsss.stages._lists import (
    BACKGROUND,
    background_list,
    check_any_tag,
    check_files,
    check_names,
    check_selection_masks,
    check_single_label,
    with_selection,
)
from wsss.stages._mask_checks import MaskReview
from wsss.stages._pixel_checks import (
    check_left,
    check_masks,
    check_threshold,
    pixel_warnings,
    skipped_warnings,
)
from wsss.stages._preparation import Preparation, settle
from wsss.stages._scored_sets import (
    check_not_learned,
    collect_scored_set,
    scored_contradictions,
)
from wsss.stages._shrinking import shrink_all

log = logging.getLogger(__name__)


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
    background, passed_over = background_list(params)
    for text in passed_over:
        job.warn(text)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        raw = DATASETS.build(settings.dataset).collect(scratch, params.base.rng_seed)
        check_class_names(raw.class_names, params)
        sets = [
            collect_scored_set(name, item, raw, scratch, params.base.rng_seed)
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
        splits = with_selection(raw, params)
        rules = PixelRules.of(settings.pixel_range, settings.bands)
        scored = [sample.name for samples in beside.values() for sample in samples]
        corrected = corrected_images(splits, raw, settings, rules, scored)
        splits = corrected.in_lists(splits)
        lists = splits | background | beside
        check_names(lists)
        check_files(splits, background)
        learned = (splits["train"], splits["selection"], *background.values())
        check_not_learned(sets, chain.from_iterable(learned))
        check_any_tag(splits)
        check_selection_masks(splits, params)
        check_single_label(splits, params)
        check_space(lists, paths.root)
        check_headers(lists, rules, settings)
        annotating = Annotating(splits, raw, params, rules, corrected)
        with ExitStack() as stack:
            images, masks, listing, given, partial = (
                stack.enter_context(job.staging(at)) for at in range(len(STAGE.makes))
            )
            number = sum(map(len, lists.values()))
            packed = number > settings.pack_above
            fillings = [Filling(out.path, number, packed=packed) for out in (images, masks)]
            work = Preparation(
                len(raw.class_names),
                images.path,
                masks.path,
                resumed=masks.resumed and images.resumed,
                rules=rules,
                turned_masks=settings.turned_masks,
                has_background=raw.has_background,
                fillings=fillings,
            )
            prepared = work.all(splits | background)
            works = {name: work.alike() for name in beside}
            for name, samples in beside.items():
                prepared |= works[name].all({name: samples})
                work.conversions.update(works[name].conversions)
            problems = [*raw.problems, *work.problems]
            problems += [problem for each in works.values() for problem in each.problems]
            review = MaskReview(work.drawn, raw.class_names)
            contradictions = [] if raw.tags_from_masks else check_masks(review, params)
            for item in sets:
                contradictions += scored_contradictions(item, works[item.name], raw, params)
            check_left(problems, prepared, params, work)
            check_threshold(review, params)
            prepared, shrunk = shrink_all(
                prepared, images.path, masks.path, settings.long_side_max, fillings
            )
            if shrunk:
                work.conversions["shrunk"] = shrunk
            settle(prepared, *fillings)
            prepared = annotating.place(
                prepared, work.turning, masks.path, given.path, partial.path, packed=packed
            )
            manifest = Manifest(
                raw.class_names,
                {split: tuple(prepared[split]) for split in (*SPLITS, *beside)},
                tuple(prepared.get(BACKGROUND, ())),
                raw.has_background,
                packed,
            )
            manifest.write(listing.path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report = data_report(manifest, problems, work.conversions) | annotating.report(manifest)
    for line in (*class_lines(report), *annotation_lines(report)):
        log.info("%s", line)
    warnings = [
        *raw.warnings,
        *(text for item in sets for text in item.warnings),
        *class_warnings(report["splits"], background=bool(manifest.background)),
        *contradictions,
        *([] if raw.tags_from_masks else review.warnings()),
        *pixel_warnings(work),
        *(f"{name}: {text}" for name, each in works.items() for text in pixel_warnings(each)),
        *annotating.warnings,
        *skipped_warnings(problems),
    ]
    for text in warnings:
        job.warn(text)
    job.report(report)


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
        "stages/_corrected.py",
        *(f"stages/_{name}.py" for name in ("data_checks", "data_report", "lists")),
        *(f"stages/_{name}.py" for name in ("mask_checks", "mask_meanings", "pixel_checks")),
        "stages/_preparation.py",
        "stages/_scored_sets.py",
        "stages/_shrinking.py",
    ),
)
