"""Score maps of several chains of refiners put together, each class from one of them.

Scores of different chains are on different scales: those of a dense CRF lie near 0 and 1, and its
best threshold may be 0.99, where that of CAMs is 0.4. What they have in common is the threshold of
each, the score at which a class and the background are equally likely to be right as far as masks
can tell. So the odds of a score are divided by those of its chain's threshold, as `centred` does:
then every chain's own decision is 0.5, and one threshold and one comparison hold for all. Where one
chain has all classes of an image, its background is that of the chain at its threshold, pixel by
pixel, and so are its classes but where two are closer than the steps of files: of these the lower
id wins.
"""

from collections.abc import Mapping

import numpy as np

from wsss.artifacts import ScoreMap
from wsss.checks import check_range
from wsss.segment.pseudo_masks import NEAR_END, centred

__all__ = ["COMMON_THRESHOLD", "combine"]

COMMON_THRESHOLD = 0.5
"""The threshold of maps that are put together."""

_STEP = 1 / 255  # files hold scores in steps of at most this; see `write_score_map`


def combine(maps: Mapping[str, ScoreMap], taken: Mapping[int, tuple[str, float]]) -> ScoreMap:
    """Put the maps of an image together.

    Args:
        maps: by chain, of the same image and the same classes; at least one.
        taken: by class id the chain that it is taken from, and the threshold of that chain. Of
            chains that no class of the image is taken from, none need be in `maps`.

    Returns:
        A map on the image's own grid, whose threshold is 0.5. No score is nearer to it than a
        step of the files, so that storing takes no pixel across.

    Raises:
        ValueError: the maps are of different images or classes, or a threshold leaves its range.

    Example:
        >>> ids, probs = np.array([1, 2], np.uint8), np.ones(2, np.float32)
        >>> crf = ScoreMap(ids, np.array([[[0.999, 0.5]], [[0, 0]]], np.float32), (1, 2), probs)
        >>> cam = ScoreMap(ids, np.array([[[0, 0]], [[0.3, 0.8]]], np.float32), (1, 2), probs)
        >>> found = combine({"crf": crf, "none": cam}, {1: ("crf", 0.99), 2: ("none", 0.4)})
        >>> found.scores.round(2)
        array([[[0.91, 0.01]],
        <BLANKLINE>
               [[0.39, 0.86]]], dtype=float32)
    """
    first_chain, first = next(iter(maps.items()))
    for chain, own in maps.items():
        same = np.array_equal(own.class_ids, first.class_ids) and own.size == first.size
        if not same:
            raise ValueError(
                f"the maps of the chains '{first_chain}' and '{chain}' are of "
                f"{first.class_ids.tolist()} in an image of {first.size} and of "
                f"{own.class_ids.tolist()} in one of {own.size}; run refine_cams again"
            )
    ids = first.class_ids.tolist()
    scores = np.zeros((len(ids), *first.size), np.float32)
    for at, class_id in enumerate(ids):
        chain, threshold = taken[class_id]
        check_range(f"threshold of '{chain}'", threshold, 0, 1)
        own = maps[chain]
        alone = ScoreMap(
            own.class_ids[at : at + 1],
            own.scores[at : at + 1],
            own.size,
            own.class_probs[at : at + 1],
        )
        for start, stop in alone.row_blocks():
            scores[at, start:stop] = _around_half(alone.rows(start, stop)[0], threshold)
    return ScoreMap(first.class_ids, scores, first.size, first.class_probs)


def _around_half(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Scores of a class with 0.5 as their threshold, kept on their side of it."""
    above = scores > np.float32(threshold)  # as `labels_above`
    # at a threshold of 0 or 1 odds know no order
    found = centred(scores, min(max(threshold, NEAR_END), 1 - NEAR_END))
    low, high = COMMON_THRESHOLD - _STEP, COMMON_THRESHOLD + _STEP
    kept: np.ndarray = np.where(above, np.maximum(found, high), np.minimum(found, low))
    return kept.astype(np.float32)
