"""The road from data to a segmenter, and what is measured along it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import Manifest, Paths, Sample, fingerprint, read_image, read_json
from wsss.config.params import Params
from wsss.config.segmentation import PER_CLASS
from wsss.evaluate import read_ground_truth

__all__ = ["ROAD", "TAGS", "Mile", "measured", "target_of"]

SEEN = 100
"""Images of a split whose pixels are looked at, evenly spread over all."""

TAGS = "tags"
"""The hash of names, sizes and tags of all images, which is the same or is not."""


@dataclass(frozen=True)
class Mile:
    """A part of the road.

    Attributes:
        name: what it is called.
        target: the stage whose report tells how it went; {chain} is that of make_pseudo_masks.
        scores: paths in that report, such as "val/mean_iou".
        look_at: what to see where the run leaves the road there.
        slack: what a score may differ by whatever its spread, as machines round differently.
    """

    name: str
    target: str
    scores: tuple[str, ...]
    look_at: str
    slack: float = 0.005


ROAD = (
    Mile(
        "data",
        "prepare_data",
        (),
        "reports/prepare_data.json and `wsss data check`: which images, tags and masks there are, "
        "and that they are the set and the version that the recipe names",
        slack=0,
    ),
    Mile(
        "classifier",
        "train_classifier",
        ("val_map", "selection_map"),
        "reports/train_classifier_curve.csv: whether its loss falls, whether the weights that it "
        "starts from are those of the recipe, and what train_classifier warns of",
    ),
    Mile(
        "maps",
        "evaluate_cams",
        ("val/mean_iou", "val/average_precision"),
        "reports/evaluate_cams/panel.png, and what generate_cams and evaluate_cams warn of",
    ),
    Mile(
        "refinement",
        "evaluate_refined@{chain}",
        ("val/mean_iou", "val/average_precision"),
        "reports/refine_cams_{chain}/panel.png, which has the maps before and after, and what "
        "refine_cams warns of",
    ),
    Mile(
        "pseudo masks",
        "evaluate_pseudo_masks",
        ("val/mean_iou", "val/coverage"),
        "reports/make_pseudo_masks/panel.png, the threshold in reports/make_pseudo_masks.json, and "
        "what that stage warns of",
    ),
    Mile(
        "segmenter",
        "evaluate_segmenter",
        ("val/mean_iou", "val/pixel_accuracy"),
        "reports/train_segmenter_curve.csv: whether its loss falls; "
        "reports/predict_masks/panel.png",
    ),
)
"""In the order in which a run goes; a fault of one part shows in all that come after it."""


def target_of(mile: Mile, params: Params) -> str:
    """The full name of the stage whose report tells of a part of the road."""
    chain = params.make_pseudo_masks.chain
    if chain == PER_CLASS:
        return mile.target.replace("@{chain}", f"_{PER_CLASS}")
    return mile.target.replace("{chain}", chain)


def measured(root: Path, mile: Mile, params: Params) -> dict[str, float | str] | None:
    """What a run has of a part of the road.

    Args:
        root: the project, or a folder with its `reports` and, of the data, `data`.
        mile: the part.
        params: of the run.

    Returns:
        Numbers by name, and of the data also the hash of their tags; None where the stage has not
        reported.
    """
    path = Paths(root).report(target_of(mile, params).replace("@", "_"))
    if not path.exists():
        return None
    report = read_json(path)
    if mile.name == "data":
        return dict(_of_data(Paths(root), report))
    found: dict[str, float | str] = {}
    for score in mile.scores:
        value = _at(report, score)
        if value is not None:
            found[score] = value
    return found


def _of_data(paths: Paths, report: Mapping[str, Any]) -> Iterator[tuple[str, float | str]]:
    """How many images each split has, and of what; how bright they are, and what masks show."""
    manifest = Manifest.read(paths.splits)
    for split, counts in sorted(report["splits"].items()):
        yield f"{split}/images", counts["images"]
        yield f"{split}/with_mask", counts.get("with_mask", 0)
        for name, number in sorted(counts.get("images_per_class", {}).items()):
            yield f"{split}/images_per_class/{name}", number
        some = _some(manifest.splits.get(split, ()))
        if some:
            bright = [float(read_image(paths.images / sample.image).mean()) for sample in some]
            yield f"{split}/brightness", round(float(np.mean(bright)), 3)
    drawn = [sample for sample in manifest.splits["val"] if sample.mask is not None]
    shares = np.zeros(manifest.num_fg_classes + 1)
    for sample in (some := _some(drawn)):
        mask = read_ground_truth(
            paths.masks / str(sample.mask), sample.size, manifest.num_fg_classes
        )
        shares += [float((mask == value).mean()) for value in range(len(shares))]
    if some:
        for name, share in zip(("background", *manifest.class_names), shares, strict=True):
            yield f"val/drawn/{name}", round(float(share) / len(some), 6)
    yield (
        TAGS,
        fingerprint(
            manifest.class_names,
            {
                split: [[sample.name, sample.size, sample.class_ids] for sample in samples]
                for split, samples in manifest.splits.items()
            },
        )[:16],
    )


def _some(samples: Sequence[Sample]) -> list[Sample]:
    """At most `SEEN` of the samples, evenly spread over all."""
    if len(samples) <= SEEN:
        return list(samples)
    return [samples[at] for at in np.linspace(0, len(samples) - 1, SEEN).round().astype(int)]


def _at(report: Mapping[str, Any], path: str) -> float | None:
    """The number at a path of a report; None where there is none."""
    value: Any = report
    for part in path.split("/"):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return float(value)
