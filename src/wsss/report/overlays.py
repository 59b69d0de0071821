"""What lies over an image: masks, score maps, the outline of the truth."""

import numpy as np

from wsss.artifacts import IGNORE_INDEX, ScoreMap, check_label_map, palette
from wsss.artifacts.background import labels_above
from wsss.checks import check_image, check_shape

__all__ = ["COLOURS", "mask_above", "outline", "overlay_mask", "overlay_scores"]

COLOURS = palette()


def overlay_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Lay the VOC colours over an image, whose own colour is faded.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 0 background, 1..K, 255 ignored (shown nearly white).

    Returns:
        (H, W, 3) uint8 RGB.
    """
    check_image("image", image)
    check_shape("mask", mask.shape, image.shape[:2])
    check_label_map("mask", mask)
    opacity = np.where(mask == 0, 0, 0.65)[..., None]
    return _rounded(_faded(image) * (1 - opacity) + COLOURS[mask] * opacity)


def overlay_scores(image: np.ndarray, score_map: ScoreMap) -> np.ndarray:
    """Lay each pixel's best score over an image, as that much of its class's VOC colour.

    Args:
        image: (H, W, 3) uint8 RGB.
        score_map: of the same image.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    check_image("image", image)
    if not len(score_map.class_ids):
        return _rounded(_faded(image))
    check_shape("score map", score_map.size, image.shape[:2])
    scores = score_map.full_scores()
    best = scores.max(axis=0)[..., None]
    colour = COLOURS[score_map.class_ids[scores.argmax(axis=0)]]
    return _rounded(_faded(image) * (1 - 0.85 * best) + colour * 0.85 * best)


def mask_above(score_map: ScoreMap, threshold: float) -> np.ndarray:
    """Take the class with the highest score where that exceeds the threshold, else 0.

    Args:
        score_map: of P classes.
        threshold: in [0, 1].

    Returns:
        (H, W) uint8, at the map's full size.
    """
    return labels_above(score_map.full_scores(), score_map.class_ids, threshold)


def outline(mask: np.ndarray) -> np.ndarray:
    """Mark foreground pixels beside another class; ignored counts as background.

    Args:
        mask: (H, W) uint8, 0 background, 1..K, 255 ignored.

    Returns:
        (H, W) bool.
    """
    check_label_map("mask", mask)
    padded = np.pad(np.where(mask == IGNORE_INDEX, 0, mask), 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    found: np.ndarray = (centre > 0) & np.any([side != centre for side in sides], axis=0)
    return found


def _faded(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32: most of the colour taken out, so that what lies over it stands out."""
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
    faded: np.ndarray = 0.3 * image + 0.7 * grey[..., None]
    return faded


def _rounded(values: np.ndarray) -> np.ndarray:
    pixels: np.ndarray = np.rint(values).astype(np.uint8)
    return pixels
