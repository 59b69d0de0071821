"""The settings of a refine chain, scored in memory."""

import time
from collections.abc import Callable, Sequence

from wsss.artifacts import Manifest, Paths, Sample, as_stored, read_image, read_score_map
from wsss.config.params import Params
from wsss.evaluate import ThresholdCurve, best_threshold, read_ground_truth, score_histogram
from wsss.stages.refine_cams import make_chain
from wsss.tuning.base import Score

__all__ = ["chain_scorer"]

BATCH_SIZE = 16  # images whose full-resolution scores are in memory together


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
        samples: the images that score; see `wsss.tuning.scoring_images`.

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
        started = time.perf_counter()
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
        seconds = (time.perf_counter() - started) / len(samples)
        return Score(best[1], float(curve.thresholds[best[0]]), seconds)

    return score
