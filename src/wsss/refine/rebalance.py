"""Rebalancing: no class of an image is swallowed by another one whose map is higher everywhere.

Optimal transport gives each class with a map the same share of an image's cells, those that suit it
best, and a class's scores fall where the cells went to another one. Cells without scores, as the
background has them, cost every class the same, and are what a small object's class takes.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from wsss.artifacts import ScoreMap
from wsss.checks import check_values
from wsss.refine._base import Context, OneByOne
from wsss.registry import REFINERS
from wsss.settings import Named

__all__ = ["Rebalance", "RebalanceSettings", "prices", "transport_plan"]


class RebalanceSettings(Named):
    """The transport, and the grid that it is made on."""

    name: Literal["rebalance"] = "rebalance"
    epsilon: float = Field(default=0.1, ge=0.02, le=10)
    """Blurs the transport: a score that is higher by it is e times as attractive."""
    rounds: PositiveInt = 100
    """Of Sinkhorn's algorithm."""
    long_side: PositiveInt = 64
    """Cells along the longer side of the grid on which it runs; a coarser map keeps its own."""


def prices(scores: np.ndarray, epsilon: float, rounds: int) -> np.ndarray:
    """What each class has to add to its scores so that all get the same share of the cells.

    Args:
        scores: (P, h, w) in [0, 1].
        epsilon: blur, in units of scores.
        rounds: of Sinkhorn's algorithm.

    Returns:
        (P,) float64 in units of scores, with a mean of 0.

    Raises:
        ValueError: scores leave their range.

    Example:
        >>> high, low = np.full((2, 3), 0.9), np.full((2, 3), 0.4)
        >>> prices(np.stack([high, low]), 0.1, 100).round(3)
        array([-0.25,  0.25])
    """
    check_values("scores", scores, 0, 1)
    columns = scores.reshape(len(scores), -1).astype(np.float64)  # (P, N)
    # exp(-(1 - score) / epsilon) but for a factor of each cell, which its own scaling absorbs
    kernel = np.exp((columns - columns.max(axis=0)) / epsilon)
    own = columns.shape[1] / len(columns)  # cells of each class
    of_class = np.ones((len(columns), 1))
    for _ in range(rounds):
        of_cell = 1 / (kernel * of_class).sum(axis=0)
        of_class = own / (kernel * of_cell).sum(axis=1, keepdims=True)
    found = epsilon * np.log(of_class[:, 0])
    settled: np.ndarray = found - found.mean()
    return settled


def transport_plan(scores: np.ndarray, epsilon: float, rounds: int) -> np.ndarray:
    """How the cells of an image are shared among its classes.

    Args:
        scores: (P, h, w) in [0, 1].
        epsilon: see `prices`.
        rounds: see `prices`.

    Returns:
        (P, h, w) float64: shares of each cell, which sum to 1 over classes, and, once the rounds
        suffice, to h w / P over cells.

    References:
        Sinkhorn distances (Cuturi, NeurIPS 2013), with a cost of 1 - score; DHR (Jo et al., ECCV
        2024) multiplies maps with the plan.
    """
    odds = _odds(scores, prices(scores, epsilon, rounds), epsilon)
    plan: np.ndarray = odds / odds.sum(axis=0)
    return plan


def _odds(scores: np.ndarray, added: np.ndarray, epsilon: float) -> np.ndarray:
    """(P, h, w) float64 in (0, 1]: shares of each cell, in those of the class with the most."""
    raised = (scores + added[:, None, None]) / epsilon
    odds: np.ndarray = np.exp(raised - raised.max(axis=0))
    return odds


@REFINERS.register(RebalanceSettings)
class Rebalance(OneByOne):
    """Scores times the shares of the transport plan, in those of the class with the most.

    So the class that gets a cell keeps its score there, and what is foreground changes little. A
    single class stays as it is, and a class without any score takes no part.

    References:
        DHR (Jo et al., ECCV 2024).
    """

    windowed = False  # shares are those of the whole image

    def __init__(self, settings: RebalanceSettings, context: Context) -> None:
        del context
        self.settings = settings

    def refined(self, image: np.ndarray, score_map: ScoreMap) -> ScoreMap:
        """Scores on their own grid."""
        del image
        settings, scores = self.settings, score_map.scores
        shown = scores.max(axis=(1, 2), initial=0) > 0
        if shown.sum() < 2:
            return score_map
        height, width = scores.shape[1:]
        scale = min(1, settings.long_side / max(height, width))
        grid = (max(1, round(height * scale)), max(1, round(width * scale)))
        added = prices(score_map.on_grid(grid)[shown], settings.epsilon, settings.rounds)
        balanced = scores.copy()
        balanced[shown] *= _odds(scores[shown], added, settings.epsilon).astype(np.float32)
        return replace(score_map, scores=balanced)
