"""Turn the chosen chain's score maps into masks to train a segmenter on."""

from wsss.artifacts import (
    Manifest,
    Paths,
    read_further_map,
    read_json,
    read_score_map,
    write_label_png,
)
from wsss.config.segmentation import PseudoMaskSettings
from wsss.pipeline import Job, Picture, Stage
from wsss.progress import track
from wsss.segment.pseudo_masks import pseudo_mask
from wsss.stages._warnings.tally import mask_tally, pseudo_mask_warnings


def run(job: Job) -> None:
    """Write data/pseudo_masks/<name>.png for every image."""
    settings, paths = job.params.make_pseudo_masks, job.paths
    manifest, tally = Manifest.read(paths.splits), mask_tally()
    samples = manifest.all_samples()
    threshold = chosen_threshold(settings, paths)
    folder = paths.refined(settings.chain)
    source = None
    if settings.background == "object":
        source = paths.further_cams / settings.object_source
    with job.staging() as staging:
        for sample in track(samples, "pseudo masks"):
            path = staging.path / f"{sample.name}.png"
            if not path.exists():
                score_map = read_score_map(folder / f"{sample.name}.npz")
                objects = read_further_map(source, sample.name, score_map) if source else None
                mask = pseudo_mask(score_map, settings, threshold, objects)
                write_label_png(path, mask)
                tally.note(sample, mask)
        tally.complete(samples, staging.path)
    pseudo_mask_warnings(job, tally, manifest)
    report = {"chain": settings.chain, "num_images": len(samples)}
    job.tracker.tags({"chain": settings.chain})
    if settings.background == "constant":
        report["threshold"] = threshold
    job.report(report)


def chosen_threshold(settings: PseudoMaskSettings, paths: Paths) -> float:
    """The number in the settings, or the one evaluation found best on the selection split.

    Other backgrounds than the constant one have none, and get 0.

    Raises:
        ValueError: the evaluation chose none, or has not run.
    """
    if settings.background != "constant":
        return 0.0
    if not isinstance(settings.threshold, str):
        return settings.threshold
    report = paths.report(f"evaluate_refined_{settings.chain}")
    if not report.exists():
        raise ValueError(
            f"make_pseudo_masks.threshold is 'selected', but {report} is not there; run "
            f"`dvc repro evaluate_refined@{settings.chain}`, or set a number such as 0.3"
        )
    found = read_json(report)
    if "threshold" not in found:
        reason = found.get("protocol", {}).get("threshold", "none")
        raise ValueError(
            f"make_pseudo_masks.threshold is 'selected', but {report} chose {reason}; set a number "
            "such as 0.3, or give the selection split masks that hold the classes"
        )
    return float(found["threshold"])


STAGE = Stage(
    "make_pseudo_masks",
    run,
    settings=("make_pseudo_masks",),
    reads=(
        "data/further_cams",
        "data/refined/{make_pseudo_masks.chain}",
        "data/splits",
        "reports/evaluate_refined_{make_pseudo_masks.chain}.json",
    ),
    makes=("data/pseudo_masks",),
    code=("segment", "stages/_warnings"),
    picture=Picture("pseudo mask", "mask"),
)
