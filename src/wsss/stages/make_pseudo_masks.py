"""Turn the chosen chain's score maps into masks to train a segmenter on."""

from collections.abc import Sequence
from typing import Any

from wsss.artifacts import (
    Annotations,
    Box,
    Filling,
    Manifest,
    Paths,
    Sample,
    atomic_path,
    has_file,
    read_bytes,
    read_further_map,
    read_json,
    read_label_png,
    read_score_map,
    write_label_png,
)
from wsss.artifacts.background import usual_threshold
from wsss.commands import run_command
from wsss.config.segmentation import PER_CLASS, PseudoMaskSettings
from wsss.pipeline import Job, Picture, Stage
from wsss.progress import track
from wsss.segment.given import box_area, impose
from wsss.segment.pseudo_masks import expected_pixels, pseudo_mask
from wsss.settings import Settings
from wsss.stages._warnings.tally import mask_tally, pseudo_mask_warnings

MANY = 0.1  # share of the area of boxes that are filled, above which it is a warning


def run(job: Job) -> None:
    """Write data/pseudo_masks/<name>.png for every image; a mask that was given stays as it is.

    The other files say how many pixels of each class the maps expect; see `ExpectedPixels`.
    """
    settings, paths = job.params.make_pseudo_masks, job.paths
    manifest, tally = Manifest.read(paths.splits), mask_tally()
    samples = manifest.all_samples()
    given = Annotations.read(paths.annotations)
    if not manifest.has_background:
        settings = settings.without_background()
    threshold = chosen_threshold(settings, paths, job.params.refine.chains.get(settings.chain, ()))
    folder = paths.refined(settings.chain)
    source = None
    if settings.background == "object":
        source = paths.further_cams / settings.object_source
    filled: list[Box] = []
    with job.staging() as staging:
        filling = Filling(staging.path, len(samples), packed=manifest.packed, share=job.share)
        for part in filling.parts(samples, lambda sample: f"{sample.name}.png", "pseudo masks"):
            for sample in track(filling.share(part), "pseudo masks"):
                path, name = staging.path / f"{sample.name}.png", sample.name
                if name in given.masks:
                    with atomic_path(path) as temporary:
                        temporary.write_bytes(read_bytes(given.mask_path(name)))
                    tally.note(sample, read_label_png(path))
                elif not has_file(path) or name in given.boxes:  # whose filled ones are counted
                    score_map = read_score_map(folder / f"{name}.npz")
                    objects = read_further_map(source, name, score_map) if source else None
                    inside = given.inside(name, sample.size)
                    boxes = given.boxes.get(name, ())
                    rest = threshold, objects, inside
                    mask, found = pseudo_mask(score_map, settings, *rest), None
                    if boxes:
                        found = pseudo_mask(score_map, settings.without_doubt(), *rest)
                    mask, empty = impose(mask, boxes, given.seed_map(name), found)
                    filled += empty
                    expected = expected_pixels(score_map, mask, settings, threshold, objects)
                    write_label_png(path, mask, expected)
                    tally.note(sample, mask)
        if job.is_first:
            tally.complete(samples, staging.path)
    report: dict[str, Any] = {"chain": settings.chain, "num_images": len(samples)}
    if settings.background == "constant":
        report["threshold"] = threshold
    if settings.chain == PER_CLASS:
        report["chains"] = read_json(paths.report(f"evaluate_refined_{PER_CLASS}"))["chains"]
    if counts := _given_counts(given, samples):
        report["annotations"] = counts | {"boxes_filled": len(filled)}
        area = sum(box_area(box) for boxes in given.boxes.values() for box in boxes)
        share = sum(map(box_area, filled)) / max(area, 1)
        if share > MANY:
            key, how = settings.towards(background=False)
            job.warn(
                f"{len(filled)} of {counts['boxes']} boxes, {share:.0%} of their area, had no "
                "pixel of their class and were filled; see what the maps of refine_cams warn of, "
                f"or {how} {key}"
            )
    pseudo_mask_warnings(job, tally, manifest, settings)
    job.tracker.tags({"chain": settings.chain})
    job.report(report)


def _given_counts(given: Annotations, samples: list[Sample]) -> dict[str, int]:
    """What annotators gave of the samples; empty where they gave nothing."""
    names = {sample.name for sample in samples}
    boxes = {name: own for name, own in given.boxes.items() if name in names - given.masks}
    counts = {
        "masks": len(names & given.masks),
        "images_with_boxes": len(boxes),
        "boxes": sum(map(len, boxes.values())),
        "images_with_seeds": len((names & given.seeds) - given.masks),
    }
    return counts if any(counts.values()) else {}


def chosen_threshold(
    settings: PseudoMaskSettings, paths: Paths, refiners: Sequence[Settings] = ()
) -> float:
    """The number in the settings, or the one evaluation found best on the selection split.

    Other backgrounds than the constant one have none, and get 0.

    Args:
        settings: whose threshold it is.
        paths: of the project.
        refiners: of the chain, for the usual threshold.

    Raises:
        ValueError: the evaluation chose none, or has not run.
    """
    if settings.background != "constant":
        return 0.0
    if settings.threshold == "usual":
        return usual_threshold(refiners)
    if not isinstance(settings.threshold, str):
        return settings.threshold
    report = paths.report(f"evaluate_refined_{settings.chain}")
    if not report.exists():
        by_class = settings.chain == PER_CLASS
        stage = f"evaluate_refined{'_' if by_class else '@'}{settings.chain}"
        instead = "name one of refine.chains" if by_class else "set it to usual"
        raise ValueError(
            f"make_pseudo_masks.threshold is 'selected', but {report} is not there; run "
            f"`{run_command(paths.root, stage)}`, or {instead}"
        )
    found = read_json(report)
    if "threshold" not in found:
        reason = found.get("protocol", {}).get("threshold", "none")
        raise ValueError(
            f"make_pseudo_masks.threshold is 'selected', but {report} chose {reason}; set it to "
            "usual, or give the selection split masks that hold the classes"
        )
    return float(found["threshold"])


STAGE = Stage(
    "make_pseudo_masks",
    run,
    settings=("make_pseudo_masks",),
    reads=(
        "data/annotations/masks",
        "data/annotations/partial",
        "data/further_cams",
        "data/refined/{make_pseudo_masks.chain}",
        "data/splits",
        "reports/evaluate_refined_{make_pseudo_masks.chain}.json",
    ),
    makes=("data/pseudo_masks",),
    code=("segment", "stages/_warnings"),
    picture=Picture("pseudo mask", "mask"),
    spread=lambda _: "images",
)
