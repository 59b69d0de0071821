"""Score maps turned into masks to train a segmenter on."""

from collections.abc import Mapping

import numpy as np

from wsss.artifacts import IGNORE_INDEX, ExpectedPixels, ScoreMap
from wsss.artifacts.background import background_scores, labels_above
from wsss.checks import check_range
from wsss.config.segmentation import PseudoMaskSettings

__all__ = ["centred", "expected_pixels", "pseudo_mask"]

NEAR_END = 1e-3
"""Classes are told apart as if the threshold were this far from 0 and 1 at least: at 0 the odds of
all of them are endless, and none would lead."""


def pseudo_mask(
    score_map: ScoreMap,
    settings: PseudoMaskSettings,
    threshold: float,
    objects: ScoreMap | None = None,
    inside: Mapping[int, np.ndarray] | None = None,
) -> np.ndarray:
    """The winning class per pixel, with doubtful pixels ignored.

    With the constant background and nothing ignored this is `labels_above` at the threshold, which
    evaluation scores, too. Without a background, pixels at which no class scores are ignored.

    Args:
        score_map: of the classes present.
        settings: background form, margin and smallest area.
        threshold: of the constant background, in [0, 1].
        objects: of the object background, the map of its source.
        inside: by class where it may be, as `inside_boxes` gives it; others may be anywhere.

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
    nothing = IGNORE_INDEX if settings.background == "none" else 0
    mask = np.full(score_map.size, nothing, np.uint8)
    if not len(score_map.class_ids):
        return mask
    ids = np.array([0, *score_map.class_ids], np.uint8)
    for start, stop in score_map.row_blocks():
        of_objects = None if objects is None else objects.rows(start, stop)
        scores = score_map.rows(start, stop)
        if inside:
            scores = scores.copy()
            for index, class_id in enumerate(score_map.class_ids.tolist()):
                if class_id in inside:
                    scores[index][~inside[class_id][start:stop]] = 0
        mask[start:stop] = _labels(scores, ids, settings, threshold, of_objects)
    unsure = score_map.class_probs < settings.ignore_below_prob
    mask[np.isin(mask, score_map.class_ids[unsure])] = IGNORE_INDEX
    if settings.min_area_share:
        for class_id in score_map.class_ids:
            pixels = mask == class_id
            if pixels.mean() < settings.min_area_share:
                mask[pixels] = IGNORE_INDEX
    return mask


def expected_pixels(
    score_map: ScoreMap,
    mask: np.ndarray,
    settings: PseudoMaskSettings,
    threshold: float,
    objects: ScoreMap | None = None,
) -> ExpectedPixels:
    """What a score map expects in the mask that was made from it.

    Scores are no probabilities, but order pixels as these would. A pixel's are the shares of its
    scores and that of the background; of the constant background the scores count as odds over
    those of the threshold.

    Args:
        score_map: of the classes present.
        mask: as `pseudo_mask` gives it; ignored pixels are left out.
        settings: as of `pseudo_mask`, likewise the others.
        threshold: likewise.
        objects: likewise.

    Example:
        >>> ids = np.array([3], np.uint8)
        >>> scores = np.repeat(np.array([[[0.75, 0.25]]], np.float32), 8, axis=1)
        >>> score_map = ScoreMap(ids, scores, (8, 2), np.ones(1, np.float32))
        >>> settings = PseudoMaskSettings(ignore_margin=0)
        >>> mask = pseudo_mask(score_map, settings, 0.5)
        >>> expected_pixels(score_map, mask, settings, 0.5)
        ExpectedPixels(shown={0: 8, 3: 8}, correct={0: 6, 3: 6})
    """
    ids = np.array([0, *score_map.class_ids], np.intp)
    shown, correct = np.zeros(ids[-1] + 1), np.zeros(ids[-1] + 1)
    if len(ids) == 1:
        shown[0] = correct[0] = (mask == 0).sum()
        return ExpectedPixels.of(shown, correct)
    for start, stop in score_map.row_blocks():
        scores = score_map.rows(start, stop)
        if settings.background == "constant":
            near = np.minimum(
                centred(scores, min(max(threshold, NEAR_END), 1 - NEAR_END)), 1 - 1e-6
            )
            stack = np.concatenate([np.ones_like(near[:1]), near / (1 - near)])
        else:
            of_objects = None if objects is None else objects.rows(start, stop)
            background = background_scores(scores, settings, threshold, of_objects)
            stack = np.concatenate([background, scores])
        probs = stack / np.maximum(stack.sum(axis=0), 1e-12)
        rows = mask[start:stop]
        probs[:, rows == IGNORE_INDEX] = 0
        for class_id, of_class in zip(ids, probs, strict=True):
            shown[class_id] += of_class.sum(dtype=np.float64)
            correct[class_id] += of_class[rows == class_id].sum(dtype=np.float64)
    return ExpectedPixels.of(shown, correct)


def _labels(
    scores: np.ndarray,
    ids: np.ndarray,
    settings: PseudoMaskSettings,
    threshold: float,
    objects: np.ndarray | None,
) -> np.ndarray:
    """(H, W) uint8: of `ids`, background first, that of the winner of (P, H, W) scores, or 255."""
    if settings.background == "constant":
        labels = labels_above(scores, ids[1:], threshold)
        best = scores.max(axis=0)
        scores = centred(scores, min(max(threshold, NEAR_END), 1 - NEAR_END))
        lead = np.abs(centred(best, threshold) - 0.5)
        if len(scores) > 1:
            first, second = np.partition(scores, -2, axis=0)[:-3:-1]
            lead = np.where(labels > 0, np.minimum(lead, first - second), lead)
    else:
        stack = np.concatenate([background_scores(scores, settings, threshold, objects), scores])
        labels = ids[stack.argmax(axis=0)]
        runner_up, winner = np.partition(stack, -2, axis=0)[-2:]
        lead = winner - runner_up
        if settings.background == "none":
            labels[labels == 0] = IGNORE_INDEX
    if settings.ignore_margin:
        labels[lead < settings.ignore_margin] = IGNORE_INDEX
    if settings.ignore_below:
        shares = np.concatenate([1 - scores.max(axis=0, keepdims=True), scores])
        labels[shares.max(axis=0) < settings.ignore_below * shares.sum(axis=0)] = IGNORE_INDEX
    return labels


def centred(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Scores whose odds are divided by those of the threshold, so that it becomes 0.5.

    A refiner may leave scores near 0 and 1 and its best threshold at 0.95; a margin around that
    would leave nothing above it. Seen as odds there is as much room on either side. At a threshold
    of 0 or 1 there is none on one side, and a score is 1 where it exceeds it and 0 where not.

    Example:
        >>> centred(np.array([0.0, 0.9, 0.95, 1.0]), 0.9).round(3)
        array([0.   , 0.5  , 0.679, 1.   ])
        >>> centred(np.array([0.0, 0.01, 1.0]), 0)
        array([0., 1., 1.])
    """
    theta = np.float32(threshold)
    if theta in (0, 1):
        return np.asarray(scores > theta).astype(scores.dtype)
    above = scores * (1 - theta)
    return np.asarray(above / (above + (1 - scores) * theta))
