"""What data and scores are called, in MLflow and on the page of the report alike."""

from collections.abc import Iterable, Mapping
from typing import Any

from wsss.artifacts import Manifest, Paths, Sample, fingerprint, report_splits
from wsss.config.params import Params
from wsss.pipeline.graph import Target

__all__ = ["OF_IMAGES", "data_digest", "named_scores", "score_label"]


OF_IMAGES = ("dataset", "scored_sets", "pixel_range", "bands", "long_side_max")
"""Settings of prepare_data that say which images there are, and how files become them."""


def data_digest(params: Params, paths: Paths) -> str:
    """Name the images that stages read, and their tags: 16 hexadecimal digits.

    Which training images chance holds out for selection is no part of it: runs that differ in
    base.rng_seed alone are of the same data, unless these are painted.
    """
    manifest = Manifest.read(paths.splits)
    held: dict[str, list[list[Any]]] = {"background": _rows(manifest.background)}
    for split, samples in manifest.splits.items():
        pool = "train" if split == "selection" else split
        held[pool] = sorted([*held.get(pool, ()), *_rows(samples)])
    classes = (manifest.class_names, manifest.has_background)
    settings = params.prepare_data.model_dump(mode="json", include=set(OF_IMAGES))
    return fingerprint(settings, classes, held)[:16]


def _rows(samples: Iterable[Sample]) -> list[list[Any]]:
    return sorted(
        [item.name, list(item.size), list(item.class_ids), str(item.uncertain)] for item in samples
    )


def score_label(target: Target) -> str:
    """What an evaluation is of, in names of scores: the entry, or what its stage is named after,
    such as "cam", "pseudo", "segmenter" and "per_class"."""
    name = target.stage.name.removeprefix("evaluate_").removeprefix("refined_")
    return target.entry or {"cams": "cam", "pseudo_masks": "pseudo"}.get(name, name)


def named_scores(reports: Iterable[tuple[Target, Mapping[str, Any]]]) -> dict[str, float]:
    """The scores of a whole experiment, by the names that MLflow and the report have for them.

    They are what all evaluations say on val: "cam.val_mean_iou" of evaluate_cams, "crf..." of the
    chain crf, "pseudo...", "segmenter..."; and on scored sets, "cam.smoke5k_mean_iou".

    Args:
        reports: of all stages; those that are no evaluation are passed over.
    """
    scores: dict[str, float] = {}
    for target, report in reports:
        if "protocol" not in report:
            continue
        for split in report_splits(report):
            if split in ("train", "selection"):
                continue
            for key, value in report[split].items():
                if key.startswith("mean_iou") and key != "mean_iou_foreground":
                    scores[f"{score_label(target)}.{split}_{key}"] = value
    return scores
