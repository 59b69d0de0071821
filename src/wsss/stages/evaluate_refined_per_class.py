"""Take each class from the chain that finds it best, and score the maps that this gives.

Runs where make_pseudo_masks.chain is per_class, after all chains and their evaluations.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wsss.artifacts import (
    Filling,
    Manifest,
    Sample,
    ScoreMap,
    has_file,
    read_json,
    read_score_map,
    write_score_map,
)
from wsss.config.segmentation import PER_CLASS
from wsss.evaluate import (
    ChainScores,
    ChosenChain,
    best_chain,
    choose_chains,
    evaluate_score_maps,
)
from wsss.pipeline import Curve, Job, Picture, Stage
from wsss.progress import track
from wsss.segment.combining import COMMON_THRESHOLD, combine
from wsss.stages.evaluate import report_curves, scored_curves


def run(job: Job) -> None:
    """Write data/refined/per_class/<name>.npz for every image, and score them at 0.5.

    Which chain won each class, by how much, and how far few images were trusted, is in the report,
    with what the best chain alone scores on each split.
    """
    manifest, settings = Manifest.read(job.paths.splits), job.params.make_pseudo_masks.per_class
    if not manifest.has_background:
        raise ValueError(
            f"make_pseudo_masks.chain is {PER_CLASS}, which lets chains compete by the thresholds "
            "that tell their classes from the background, and these data have none; name one of "
            "refine.chains"
        )
    scores = _scores(job, manifest)
    chosen = choose_chains(scores, manifest.class_names, settings.shrinkage)
    best = best_chain(scores)
    taken = {
        manifest.class_names.index(name) + 1: (one.chain, one.threshold)
        for name, one in chosen.items()
    }
    samples, doing = manifest.all_samples(), "classes of several chains"
    with job.staging() as staging:
        filling = Filling(staging.path, len(samples), packed=manifest.packed, share=job.share)
        for part in filling.parts(samples, lambda sample: f"{sample.name}.npz", doing):
            for sample in track(filling.share(part), doing):
                path = staging.path / f"{sample.name}.npz"
                if not has_file(path):
                    write_score_map(path, combine(_maps(job, sample, taken, best), taken))
    # the common threshold is among those that are tried
    step = COMMON_THRESHOLD / math.ceil(COMMON_THRESHOLD / job.params.evaluate.threshold_step)
    curves = scored_curves(job, manifest, STAGE.makes[0], step)
    chains: dict[str, Any] = {
        "chosen_on": settings.chosen_on,
        "shrinkage": settings.shrinkage,
        "best_chain": best,
        "of_best_chain": read_json(job.paths.chain_scores(best))["splits"],
        "score": {chain: own.score for chain, own in scores.items()},
        "threshold": {chain: own.threshold for chain, own in scores.items()},
        "classes": {name: _values(one, best) for name, one in chosen.items()},
    }
    alone = {f"best_chain/{split}": value for split, value in chains["of_best_chain"].items()}
    job.tracker.metrics(alone)
    job.tracker.tags({f"chain.{name}": one.chain for name, one in chosen.items()})
    report_curves(job, manifest, curves, step, {"chains": chains}, fixed=COMMON_THRESHOLD)


def _scores(job: Job, manifest: Manifest) -> dict[str, ChainScores]:
    """By chain, what it scores on the images that chains are chosen on."""
    where = job.params.make_pseudo_masks.per_class.chosen_on
    found = {}
    for chain in job.params.refine.chains:
        if where == "given":
            scores = _of_given(job, manifest, chain)
        else:
            values = read_json(job.paths.chain_scores(chain)).get(where)
            scores = ChainScores.parse(values) if values else None
        if scores is None:
            missing = {
                "selection": "no mask of the selection split holds a class that counts; give "
                "masks to some training images, or set make_pseudo_masks.per_class.chosen_on to "
                "given where annotators gave masks to learn from",
                "given": "no annotator gave a mask of train or selection that holds a class that "
                "counts; correct some masks, or set prepare_data.pixel_labels",
            }
            raise ValueError(
                f"make_pseudo_masks.chain is {PER_CLASS}, but {missing[where]}; or name one of "
                "refine.chains"
            )
        found[chain] = scores
    return found


def _of_given(job: Job, manifest: Manifest, chain: str) -> ChainScores | None:
    """What a chain scores on the masks that annotators gave: no map has learned from these."""
    given, folder = job.paths.annotations / "masks", job.paths.refined(chain)
    drawn = [
        replace(sample, mask=f"{sample.name}.png")
        for sample in manifest.all_samples()
        if has_file(given / f"{sample.name}.png") and has_file(folder / f"{sample.name}.npz")
    ]
    settings = job.params.evaluate
    curve = evaluate_score_maps(
        drawn,
        folder,
        given,
        manifest.num_fg_classes,
        settings.threshold_step,
        has_background=manifest.has_background,
    )
    return ChainScores.of(curve, manifest.class_names, settings.class_groups, settings.select_by)


def _maps(
    job: Job, sample: Sample, taken: Mapping[int, tuple[str, float]], best: str
) -> dict[str, ScoreMap]:
    """The maps of an image by those chains that one of its classes is taken from."""

    def read(chain: str) -> ScoreMap:
        return read_score_map(job.paths.refined(chain) / f"{sample.name}.npz")

    first = taken[sample.class_ids[0]][0] if sample.class_ids else best
    maps = {first: read(first)}
    wanted = {taken[class_id][0] for class_id in maps[first].class_ids.tolist()}
    return maps | {chain: read(chain) for chain in sorted(wanted - {first})}


def _values(one: ChosenChain, best: str) -> dict[str, Any]:
    """What the report says of a class."""
    values = {
        "chain": one.chain,
        "images": one.images,
        "own_share": one.own_share,
        "lead": one.lead,
        "next": one.next,
        "iou": one.iou,
    }
    if one.iou:
        values["above_best_chain"] = one.iou[one.chain] - one.iou[best]
    return values


STAGE = Stage(
    "evaluate_refined_per_class",
    run,
    settings=(
        "evaluate",
        "make_pseudo_masks.chain",
        "make_pseudo_masks.per_class",
        "refine.chains",
    ),
    # the scores of a chain name the contents of its maps, so that DVC knows when these change
    reads=(
        "data/annotations/masks",
        "data/chain_scores/{*refine.chains}",
        "data/masks",
        "data/refined/{*refine.chains}",
        "data/splits",
    ),
    makes=(f"data/refined/{PER_CLASS}",),
    code=("evaluate", "segment", "stages/_warnings", "stages/evaluate.py"),
    curve=Curve("threshold", "val_mean_iou"),
    picture=Picture("the best chain of each class", "scores"),
    images=lambda _: "scored",
    unwanted=lambda params: params.make_pseudo_masks.chain != PER_CLASS,
)
