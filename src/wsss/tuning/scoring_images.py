"""The images of the selection split that trials are scored on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wsss.artifacts import Manifest, Paths, Sample, has_file
from wsss.commands import run_command
from wsss.config.params import Params
from wsss.seeding import generator

__all__ = ["check_cams", "narrowed", "selection_samples"]


def selection_samples(params: Params, paths: Paths, limit: int) -> tuple[Manifest, list[Sample]]:
    """The images that score: of the selection split, with a mask.

    Args:
        params: whose rng_seed draws where there are more.
        paths: of the project.
        limit: at most so many.

    Raises:
        ValueError: there are none.
    """
    if not paths.splits.is_dir():
        command = run_command(paths.root, "prepare_data")
        raise ValueError(f"{paths.splits} is not there; run `{command}` first")
    manifest = Manifest.read(paths.splits)
    samples = [sample for sample in manifest.splits["selection"] if sample.mask is not None]
    if not samples:
        raise ValueError(
            "no image of the selection split has a mask, so settings cannot be scored; give "
            "the data set masks for some of them (masks of train images are never used)"
        )
    if len(samples) > limit:
        rng = generator(params.base.rng_seed, "tune", "crf")
        drawn = np.sort(rng.choice(len(samples), limit, replace=False))
        samples = [samples[index] for index in drawn.tolist()]
    return manifest, samples


def check_cams(samples: Sequence[Sample], paths: Paths) -> None:
    """Raise ValueError if the project has no CAM of one of the images that score."""
    missing = [sample.name for sample in samples if not has_file(paths.cams / f"{sample.name}.npz")]
    if missing:
        raise ValueError(
            f"{paths.cams} lacks the CAMs of {len(missing)} of {len(samples)} images "
            f"('{missing[0]}'); run `{run_command(paths.root, 'generate_cams')}` first"
        )


def narrowed(whole: Manifest, kept: frozenset[str]) -> Manifest:
    """The same manifest with the images that score alone; `kept` are their names."""
    scoring = tuple(sample for sample in whole.splits["selection"] if sample.name in kept)
    splits: dict[str, tuple[Sample, ...]] = dict.fromkeys(whole.splits, ())
    return replace(whole, splits=splits | {"selection": scoring})
