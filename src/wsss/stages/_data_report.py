"""What prepare_data reports of the images that it has: counts per split and class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from wsss.artifacts import Manifest, Sample
from wsss.checks import printable
from wsss.data import Problem

__all__ = ["data_report"]


def data_report(
    manifest: Manifest, problems: Sequence[Problem], conversions: Mapping[str, int]
) -> dict[str, Any]:
    """The report of prepare_data, without annotations.

    Args:
        manifest: of what is left.
        problems: what was left out.
        conversions: how many images needed which conversion.
    """
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
