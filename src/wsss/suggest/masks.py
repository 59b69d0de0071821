"""Which images should get masks: where maps are undecided, and what many images look like."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from wsss.artifacts import Manifest, Paths, Sample, ScoreMap, has_file, read_json, read_score_map
from wsss.artifacts.background import usual_threshold
from wsss.checks import check_range, check_shape
from wsss.config.params import Params
from wsss.data import RawSample
from wsss.data.splits import stratified
from wsss.progress import track
from wsss.seeding import generator

__all__ = ["choose", "drawn", "read_undecided", "undecided"]

POOL = 4096
"""Images among which one is chosen, and images that it is to stand for; of more, some are drawn."""

DRAWS = 16  # at random, that a choice is compared with


def undecided(score_map: ScoreMap, threshold: float) -> dict[int, float]:
    """By class how undecided its map is, in [0, 1]: the mean over the pixels where it counts.

    A pixel is decided by how far its score lies from the threshold, as a share of how far it could
    lie on that side, and where it is above it also by its lead over the next class. A class counts
    where it is the first, or no class is.

    Args:
        score_map: of the classes present.
        threshold: in [0, 1], above which a pixel is of its class.

    Example:
        >>> ids, probs = np.array([2], np.uint8), np.ones(1, np.float32)
        >>> sure = ScoreMap(ids, np.array([[[0.0, 1.0]]], np.float32), (1, 2), probs)
        >>> undecided(sure, 0.5)
        {2: 0.0}
    """
    check_range("threshold", threshold, 0, 1)
    scores = score_map.scores
    if not len(scores):
        return {}
    side = np.where(scores < threshold, max(threshold, 1e-6), max(1 - threshold, 1e-6))
    sure = np.minimum(np.abs(scores - threshold) / side, 1)
    if len(scores) > 1:
        ordered = np.sort(scores, axis=0)
        lead = ordered[-1] - ordered[-2]
        sure = np.where(scores >= threshold, np.minimum(sure, lead), sure)
    first = scores.argmax(axis=0)
    found = {}
    for at, class_id in enumerate(score_map.class_ids.tolist()):
        counts = (first == at) | (scores[at] >= threshold)
        found[class_id] = float(1 - sure[at][counts].mean()) if counts.any() else 1.0
    return found


def read_undecided(
    params: Params, paths: Paths, samples: Sequence[Sample]
) -> dict[str, dict[int, float]]:
    """`undecided` of the maps that pseudo masks are made of, by image; nothing without maps.

    Args:
        params: of the project.
        paths: of the project.
        samples: whose maps are read.
    """
    chain = params.make_pseudo_masks.chain
    folder = paths.refined(chain) if isinstance(chain, str) else Path()
    if not isinstance(chain, str) or not folder.is_dir():
        return {}
    found = {}
    threshold = _threshold(params, paths)
    for sample in track(samples, "maps"):
        file = folder / f"{sample.name}.npz"
        if has_file(file):
            found[sample.name] = undecided(read_score_map(file), threshold)
    return found


def _threshold(params: Params, paths: Paths) -> float:
    """Of pseudo masks: what their stage says it took, or else the settings, or the usual one."""
    report, wanted = paths.report("make_pseudo_masks"), params.make_pseudo_masks
    known = read_json(report).get("threshold") if report.exists() else None
    if known is not None:
        return float(known)
    if isinstance(wanted.threshold, str):
        return usual_threshold(params.refine.chains.get(str(wanted.chain), ()))
    return wanted.threshold


def drawn(samples: Sequence[Sample], rng_seed: int) -> list[str]:
    """Names in an order of which every beginning has each class in its share; see `stratified`."""
    raw = [RawSample(sample.name, Path(sample.image), sample.class_ids) for sample in samples]
    return [sample.name for sample in stratified(raw, rng_seed)]


def choose(
    samples: Sequence[Sample],
    features: np.ndarray,
    weights: np.ndarray,
    count: int,
    rng_seed: int,
) -> tuple[list[str], float]:
    """Choose images that stand for as much as possible of what is undecided.

    An image stands for another by the cosine of their features, above the mean cosine of all, and
    each image counts by its weight: the choice that adds most to the sum over all images of the
    best likeness to one that is chosen comes next (facility location, greedily, which comes to
    within 1 - 1/e of the best choice; Nemhauser et al., 1978). So what is frequent and undecided
    comes first, and what is like a chosen image does not come again.

    Args:
        samples: N images.
        features: (N, D) float32 of them.
        weights: (N,) at least 0: what each counts.
        count: how many are chosen, at most N.
        rng_seed: of the images that are drawn: those of a pool, where there are more than `POOL`,
            and those that the choice is compared with.

    Returns:
        Names in the order of choice, and how many times as much they stand for as as many that
        are drawn at random.

    Raises:
        ValueError: shapes do not agree.
    """
    check_shape("features", features.shape, (len(samples), "D"))
    check_shape("weights", weights.shape, (len(samples),))
    places = np.arange(len(samples))
    if len(samples) > POOL:
        places = np.sort(generator(rng_seed, "masks").choice(len(samples), POOL, replace=False))
    rows = features[places] - features[places].mean(axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    likeness = np.maximum(rows @ rows.T, 0)  # centred, so 0 is the mean likeness
    likeness *= weights[places][:, None]
    best = np.zeros(len(places), np.float32)
    found: list[str] = []
    left = np.ones(len(places), bool)
    for _ in range(min(count, len(places))):
        added = np.maximum(likeness, best[:, None]).sum(axis=0) - best.sum()
        added[~left] = -1
        at = int(added.argmax())  # of equals the first
        left[at] = False
        best = np.maximum(best, likeness[:, at])
        found.append(samples[places[at]].name)
    rng = generator(rng_seed, "compared masks")
    random = [
        float(likeness[:, rng.choice(len(places), len(found), replace=False)].max(axis=1).sum())
        for _ in range(DRAWS)
        if found
    ]
    return found, float(best.sum()) / max(float(np.mean(random or [1.0])), 1e-12)


def weights_of(
    manifest: Manifest, samples: Sequence[Sample], known: Mapping[str, Mapping[int, float]]
) -> np.ndarray:
    """(N,) float32: what each image counts when masks are chosen, 1 on average.

    The sum over its classes of how undecided their maps are, each divided by how many images show
    the class: the mean IoU counts all classes the same. A square root keeps a class of few images,
    which are few in the scored images as well, from having all masks.
    """
    counts = np.maximum(manifest.labels(samples).sum(axis=0), 1)
    found = np.zeros(len(samples), np.float32)
    for at, sample in enumerate(samples):
        own = known.get(sample.name, {})
        found[at] = sum(own.get(c, 1.0) / counts[c - 1] ** 0.5 for c in sample.class_ids)
    mean = float(found.mean()) if len(found) else 0.0
    return found / mean if mean > 0 else np.ones(len(samples), np.float32)
