"""Score maps turned into masks to train a segmenter on."""

import numpy as np

from wsss.artifacts import IGNORE_INDEX, ScoreMap
from wsss.artifacts.background import background_scores
from wsss.checks import check_range
from wsss.config.sections import PseudoMaskSettings

__all__ = ["centred", "pseudo_mask"]


def pseudo_mask(
    score_map: ScoreMap,
    settings: PseudoMaskSettings,
    threshold: float,
    objects: ScoreMap | None = None,
) -> np.ndarray:
    """The winning class per pixel, with doubtful pixels ignored.

    Args:
        score_map: of the classes present.
        settings: background form, margin and smallest area.
        threshold: of the constant background, in [0, 1].
        objects: of the object background, the map of its source.

    Returns:
        (H, W) uint8: 0, a value of score_map.class_ids, or 255.

    Raises:
        ValueError: the threshold leaves its range, or the background has no object map.

    Example:
        >>> ids = np.array([3], np.uint8)
        >>> scores = np.array([[[0.9, 0.31, 0.0]]], np.float32)
        >>> score_map = ScoreMap(ids, scores, (1, 3), np.ones(1, np.float32))
        >>> pseudo_mask(score_map, PseudoMaskSettings(ignore_margin=0.1), 0.3)
        array([[  3, 255,   0]], dtype=uint8)
    """
    check_range("threshold", threshold, 0, 1)
    mask = np.zeros(score_map.size, np.uint8)
    if not len(score_map.class_ids):
        return mask
    ids = np.array([0, *score_map.class_ids], np.uint8)
    for start, stop in score_map.row_blocks():
        of_objects = None if objects is None else objects.rows(start, stop)
        scores = score_map.rows(start, stop)
        mask[start:stop] = _labels(scores, ids, settings, threshold, of_objects)
    if settings.min_area_share:
        for class_id in score_map.class_ids:
            pixels = mask == class_id
            if pixels.mean() < settings.min_area_share:
                mask[pixels] = IGNORE_INDEX
    return mask


def _labels(
    scores: np.ndarray,
    ids: np.ndarray,
    settings: PseudoMaskSettings,
    threshold: float,
    objects: np.ndarray | None,
) -> np.ndarray:
    """(H, W) uint8: of `ids`, background first, that of the winner of (P, H, W) scores, or 255."""
    if settings.background == "constant":
        scores, threshold = centred(scores, threshold), 0.5
    stack = np.concatenate([background_scores(scores, settings, threshold, objects), scores])
    labels: np.ndarray = ids[stack.argmax(axis=0)]
    if settings.ignore_margin:
        runner_up, winner = np.partition(stack, -2, axis=0)[-2:]
        labels[winner - runner_up < settings.ignore_margin] = IGNORE_INDEX
    if settings.ignore_below:
        shares = np.concatenate([1 - scores.max(axis=0, keepdims=True), scores])
        labels[shares.max(axis=0) < settings.ignore_below * shares.sum(axis=0)] = IGNORE_INDEX
    return labels


def centred(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Scores whose odds are divided by those of the threshold, so that it becomes 0.5.

    A refiner may leave scores near 0 and 1 and its best threshold at 0.95; a margin around that
    would leave nothing above it. Seen as odds there is as much room on either side.

    Example:
        >>> centred(np.array([0.0, 0.9, 0.95, 1.0]), 0.9).round(3)
        array([0.   , 0.5  , 0.679, 1.   ])
    """
    theta = np.clip(np.float32(threshold), 1e-3, 1 - 1e-3)
    above = scores * (1 - theta)
    return np.asarray(above / (above + (1 - scores) * theta))
