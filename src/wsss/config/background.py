"""The background as a score that competes with those of the classes."""

from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from wsss.config.settings import Settings

__all__ = ["BackgroundSettings", "background_scores"]


class BackgroundSettings(Settings):
    """A part of the settings of what needs a background; these have their own threshold."""

    background: Literal["constant", "power"] = "constant"
    """Background score: `threshold`, or (1 - max)^alpha of the scores."""
    alpha: PositiveFloat = 4
    """Of the power background: a larger one means less background."""


def background_scores(
    scores: np.ndarray, settings: BackgroundSettings, threshold: float
) -> np.ndarray:
    """What the background scores where the classes score so.

    Args:
        scores: (P, H, W) float32 in [0, 1], P at least 1.
        settings: the form of the background.
        threshold: of the constant background, in [0, 1].

    Returns:
        (1, H, W) float32 in [0, 1].

    Example:
        >>> settings = BackgroundSettings(background="power", alpha=4)
        >>> background_scores(np.array([[[0.1]], [[0.3]]], np.float32), settings, 0).round(4)
        array([[[0.2401]]], dtype=float32)
    """
    if settings.background == "constant":
        return np.full((1, *scores.shape[1:]), threshold, np.float32)
    left: np.ndarray = (1 - scores.max(axis=0, keepdims=True)) ** np.float32(settings.alpha)
    return left
