"""The selection split as what scores the settings of a refine chain."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    as_stored,
    contents,
    fingerprint,
    read_image,
    read_score_map,
)
from wsss.config.params import Params
from wsss.evaluate import ThresholdCurve, best_threshold, read_ground_truth, score_histogram
from wsss.seeding import generator
from wsss.settings import Named
from wsss.stages import find_stages
from wsss.stages.refine_cams import make_chain
from wsss.tuning.base import Score

__all__ = ["chain_scorer", "scoring_key", "selection_samples"]

BATCH_SIZE = 16  # images whose full-resolution scores are in memory together


def selection_samples(params: Params, paths: Paths, limit: int) -> tuple[Manifest, list[Sample]]:
    """The images that score: of the selection split, with a mask and a CAM.

    Args:
        params: whose rng_seed draws where there are more.
        paths: of the project.
        limit: at most so many.

    Raises:
        ValueError: there are none, or a CAM is missing.
    """
    if not paths.splits.is_dir():
        raise ValueError(f"{paths.splits} is not there; run `dvc repro generate_cams` first")
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
    missing = [
        sample.name for sample in samples if not (paths.cams / f"{sample.name}.npz").exists()
    ]
    if missing:
        raise ValueError(
            f"{paths.cams} lacks the CAMs of {len(missing)} of {len(samples)} images "
            f"('{missing[0]}'); run `dvc repro generate_cams` first"
        )
    return manifest, samples


def scoring_key(
    settings: Named, rest: Any, params: Params, paths: Paths, chain: str, samples: Sequence[Sample]
) -> str:
    """A hash of all that decides a trial's score but the settings that are searched.

    Args:
        settings: of the search.
        rest: the chain's own settings without what is searched.
        params: of the project, whose other settings of refine_cams and evaluate_refined count.
        paths: of the project.
        chain: a name in refine.chains.
        samples: the images that score, whose masks count.
    """
    pipeline = find_stages()
    refine = pipeline.target(f"refine_cams@{chain}", params)
    evaluate = pipeline.target(f"evaluate_refined@{chain}", params)
    others = refine.settings(params) | evaluate.settings(params)
    return fingerprint(
        settings,
        others | {f"refine.chains.{chain}": rest},
        {path: contents(paths.root / path) for path in refine.inputs(params)},
        [contents(paths.masks / str(sample.mask)) for sample in samples],
        [target.stage.code_fingerprint() for target in (refine, evaluate)],
    )


def chain_scorer(
    params: Params,
    paths: Paths,
    chain: str,
    place: int,
    manifest: Manifest,
    samples: Sequence[Sample],
) -> Callable[[Params], Score]:
    """What scores a chain as refine_cams and evaluate_refined do, on maps kept in memory.

    Args:
        params: of the refiners that are not varied.
        paths: of the project.
        chain: a name in refine.chains.
        place: refiners before it run once, those from it on in every trial.
        manifest: of the project.
        samples: the images that score; see `selection_samples`.

    Returns:
        A function of a trial's settings. The threshold is no parameter: each trial takes the best
        of its curve.
    """
    num_classes = manifest.num_fg_classes + 1
    before = make_chain(params.refine.chains[chain][:place], params, paths)
    batches = []
    for at in range(0, len(samples), BATCH_SIZE):
        batch = samples[at : at + BATCH_SIZE]
        names = [sample.name for sample in batch]
        images = [read_image(paths.images / sample.image) for sample in batch]
        cams = [read_score_map(paths.cams / f"{name}.npz") for name in names]
        masks = [
            read_ground_truth(paths.masks / str(sample.mask), sample.size, num_classes - 1)
            for sample in batch
        ]
        batches.append((images, before(images, cams, names), names, masks))

    def score(trial_params: Params) -> Score:
        rest = make_chain(trial_params.refine.chains[chain][place:], trial_params, paths)
        evaluate = trial_params.evaluate
        curve = ThresholdCurve(
            num_classes, evaluate.threshold_step, has_background=manifest.has_background
        )
        for images, cams, names, masks in batches:
            for mask, refined in zip(masks, rest(images, cams, names), strict=True):
                stored = as_stored(refined)
                found = score_histogram(mask, stored, num_classes, curve.thresholds)
                curve.add(found, stored.class_ids)
        best = best_threshold(
            curve, manifest.class_names, evaluate.class_groups, evaluate.select_by
        )
        if best is None:
            raise ValueError(
                f"{evaluate.select_by} cannot be computed on the selection split: its masks "
                "hold none of the classes; mend the masks, or set evaluate.select_by to another "
                "metric"
            )
        return Score(best[1], float(curve.thresholds[best[0]]))

    return score
