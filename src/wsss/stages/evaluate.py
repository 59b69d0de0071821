"""Score CAMs, refined score maps, pseudo masks or predictions against ground truth.

The threshold of score maps is chosen on the selection split and reported on all; the best
of each split itself is reported too, under "oracle".
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import Manifest, Paths, file_names, has_file, write_json
from wsss.commands import run_command
from wsss.evaluate import (
    ChainScores,
    ThresholdCurve,
    count_false_alarms,
    curve_columns,
    evaluate_labels,
    evaluate_score_maps,
    group_ids,
    label_report,
    score_map_report,
    threshold_grid,
)
from wsss.pipeline import Curve, Job, Stage
from wsss.stages._warnings.evaluation import (
    headline,
    warnings_of_classes,
    warnings_of_false_alarms,
    warnings_of_threshold,
)

_SEE_MAPS = "see what train_classifier and the maps warn of, and raise train_classifier.epochs"
_SEE_SEGMENTER = "see what train_segmenter warns of, and the scores of its pseudo masks"

log = logging.getLogger(__name__)


def score_maps(job: Job) -> None:
    """Score maps at every threshold, whose best on the selection split is chosen.

    Every split, and every scored set, is scored of which both results and masks are there (train
    too, as papers report it). Without any mask the report says so, and the stage succeeds.
    """
    manifest, step = _manifest(job), job.params.evaluate.threshold_step
    curves = scored_curves(job, manifest, _scored(job), step)
    report_curves(job, manifest, curves, step)


def refined_maps(job: Job) -> None:
    """The same, and what the chain is worth on the selection split, class by class, for a choice
    among chains."""
    manifest, step = _manifest(job), job.params.evaluate.threshold_step
    folder = _scored(job)
    curves = scored_curves(job, manifest, folder, step)
    report = report_curves(job, manifest, curves, step)
    settings = job.params.evaluate
    splits = {split: report.get(split, {}).get(settings.select_by) for split in curves}
    values: dict[str, Any] = {"maps": job.inputs[folder], "splits": _rounded(splits)}
    curve = curves.get("selection")
    scores = curve and ChainScores.of(
        curve, manifest.class_names, settings.class_groups, settings.select_by
    )
    if scores:
        values["selection"] = scores.values()
    with job.staging() as staging:
        write_json(staging.path / job.paths.chain_scores(job.entry).name, values)


def scored_curves(
    job: Job, manifest: Manifest, folder: str, step: float
) -> dict[str, ThresholdCurve]:
    """By split, and by scored set, the curve of those that have both results and masks.

    Args:
        job: of an evaluation.
        manifest: the samples.
        folder: of the score maps, relative to the project.
        step: distance of the thresholds.
    """
    curves = {
        split: evaluate_score_maps(
            manifest.splits[split],
            job.paths.root / folder,
            job.paths.masks,
            manifest.num_fg_classes,
            step,
            has_background=manifest.has_background,
        )
        for split in manifest.splits
        if _scorable(manifest, split, job.paths.root / folder, ".npz")
    }
    _check_results(job, manifest, curves, folder)
    return curves


def report_curves(
    job: Job,
    manifest: Manifest,
    curves: Mapping[str, ThresholdCurve],
    step: float,
    further: Mapping[str, Any] | None = None,
    *,
    fixed: float | None = None,
) -> dict[str, Any]:
    """Write the report, the curve and the warnings of score maps; the report.

    Args:
        job: of an evaluation.
        manifest: the samples.
        curves: as of `scored_curves`.
        step: distance of their thresholds.
        further: what the report says besides.
        fixed: a threshold, in place of the best one on the selection split.
    """
    settings, classes = job.params.evaluate, manifest.class_names
    report = score_map_report(curves, classes, settings.class_groups, settings.select_by, fixed)
    thresholds = threshold_grid(step)
    columns = curve_columns(curves, classes, settings.class_groups)
    table = {"threshold": thresholds} | columns
    rows = [
        {name: float(values[at]) for name, values in table.items() if not np.isnan(values[at])}
        for at in range(len(thresholds))
    ]
    job.curve(rows, list(table))
    report = _rounded({**report, **(further or {})})
    of_threshold = warnings_of_threshold(report, step, settings.select_by)
    for text in (
        *(of_threshold if manifest.has_background else ()),
        *warnings_of_classes(report, _with_masks(manifest), _SEE_MAPS),
    ):
        job.warn(text)
    _record(job, report)
    return dict(report)


def label_maps(job: Job) -> None:
    """Masks of each split of which both results and ground truth are there.

    Of pseudo masks those are left out, and counted as "given", that annotators drew: they are
    ground truth themselves. Predictions, which do not know the tags, are also counted where nothing
    is to be found: in images without a tag, with ground truth or not.
    """
    manifest, settings = _manifest(job), job.params.evaluate
    folder = job.paths.root / _scored(job)
    from_tags = folder == job.paths.pseudo_masks  # predictions have a folder per split
    given: dict[str, int] = {}
    if from_tags:
        manifest, given = _without_given(manifest, job.paths)
    folders = {split: folder if from_tags else folder / split for split in manifest.splits}
    scores = {
        split: evaluate_labels(
            manifest.splits[split],
            folders[split],
            job.paths.masks,
            manifest.num_fg_classes,
            has_background=manifest.has_background,
        )
        for split in manifest.splits
        if _scorable(manifest, split, folders[split], ".png")
    }
    _check_results(job, manifest, scores, _scored(job))
    classes = manifest.class_names
    report = label_report(scores, classes, settings.class_groups, from_tags=from_tags)
    for split, found in scores.items():
        if manifest.has_background:  # objects are found in front of it
            report[split]["objects"] = found.objects.report()
    for split, count in given.items():
        report.setdefault(split, {})["given"] = count
    if not from_tags and manifest.has_background:
        for split, samples in manifest.splits.items():
            alarms = count_false_alarms(
                samples, folders[split], job.paths.masks, manifest.num_fg_classes
            )
            if alarms:
                report.setdefault(split, {})["false_alarms"] = alarms.report()
    report = _rounded(report)
    advice = _SEE_SEGMENTER
    if from_tags:
        key, _ = job.params.make_pseudo_masks.towards(background=False)
        also = {key: None, "make_pseudo_masks.chain": None}
        advice = f"see what make_pseudo_masks warns of, and change {' or '.join(also)}"
    for text in (
        *warnings_of_classes(report, _with_masks(manifest), advice),
        *warnings_of_false_alarms(report),
    ):
        job.warn(text)
    _record(job, report)


def _manifest(job: Job) -> Manifest:
    """The samples; a group of a class that is not there fails before the work."""
    manifest = Manifest.read(job.paths.splits)
    group_ids(job.params.evaluate.class_groups, manifest.class_names)
    return manifest


def _without_given(manifest: Manifest, paths: Paths) -> tuple[Manifest, dict[str, int]]:
    """The samples whose pseudo masks were made, and by split how many have a given one."""
    given_masks = file_names(paths.annotations / "masks")
    names = {name.removesuffix(".png") for name in given_masks}
    left = {
        split: tuple(sample for sample in samples if sample.name not in names)
        for split, samples in manifest.splits.items()
    }
    given = {split: len(manifest.splits[split]) - len(samples) for split, samples in left.items()}
    found = {split: count for split, count in given.items() if count}
    return replace(manifest, splits=left), found


def _with_masks(manifest: Manifest) -> Manifest:
    """The samples that can be scored."""
    splits = {
        split: tuple(sample for sample in samples if sample.mask is not None)
        for split, samples in manifest.splits.items()
    }
    return replace(manifest, splits=splits)


def _scored(job: Job) -> str:
    """The folder that is scored: what the stage reads besides masks and splits."""
    inputs = job.target.inputs(job.params)
    (path,) = set(inputs) - {"data/annotations/masks", "data/masks", "data/splits"}
    return path


def _check_results(job: Job, manifest: Manifest, scored: Collection[str], path: str) -> None:
    """Raise ValueError if there are masks, but no result of any image that has one."""
    masked = _with_masks(manifest).all_samples()
    if masked and not scored:
        source, root = job.pipeline.source(path, job.params), job.paths.root
        name = source.name if source else job.target.name
        raise ValueError(
            f"{root / path} holds nothing of the {len(masked)} images that have a mask, "
            f"such as '{masked[0].name}'; run `{run_command(root, name)}`, and "
            f"`{run_command(root, name, alone=True)}` where it is taken for done"
        )


def _record(job: Job, report: Mapping[str, Any]) -> None:
    """Write the report, and log the scores."""
    job.report(report)
    log.info("%s: %s", job.target.name, headline(report))


def _scorable(manifest: Manifest, split: str, folder: Path, suffix: str) -> bool:
    """Whether an image of the split has both a mask and a result; then all masks need one."""
    return any(
        sample.mask is not None and has_file(folder / f"{sample.name}{suffix}")
        for sample in manifest.splits[split]
    )


def _rounded(value: Any) -> Any:
    """The same tree with floats of six digits, and without NaN and what is empty."""
    if isinstance(value, Mapping):
        tree = {key: _rounded(item) for key, item in value.items()}
        return {key: item for key, item in tree.items() if item is not None and item != {}}
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 6)
    return value


_CODE = ("evaluate", "stages/_warnings")

CAMS = Stage(
    "evaluate_cams",
    score_maps,
    settings=("evaluate",),
    reads=("data/cams", "data/masks", "data/splits"),
    code=_CODE,
    curve=Curve("threshold", "val_mean_iou"),
    images=lambda _: "scored",
)
REFINED = Stage(
    "evaluate_refined",
    refined_maps,
    settings=("evaluate",),
    reads=("data/masks", "data/refined/{entry}", "data/splits"),
    makes=("data/chain_scores/{entry}",),
    code=_CODE,
    foreach="refine.chains",
    curve=Curve("threshold", "val_mean_iou"),
    images=lambda _: "scored",
)
PSEUDO_MASKS = Stage(
    "evaluate_pseudo_masks",
    label_maps,
    settings=("evaluate",),
    reads=("data/annotations/masks", "data/masks", "data/pseudo_masks", "data/splits"),
    code=_CODE,
)
SEGMENTER = Stage(
    "evaluate_segmenter",
    label_maps,
    settings=("evaluate",),
    reads=("data/masks", "data/predictions", "data/splits"),
    code=_CODE,
)
