"""Pixel-adaptive mask refinement: neighbours of like colour average (Araslanov, Roth, CVPR 2020).

A score becomes the weighted mean of those at the eight neighbours at each of a few distances, again
and again. The weights of a pixel sum to 1, so every class goes on its own, and a background of
one score everywhere stays as it is: scores above a threshold are what wins against it.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from wsss.artifacts import ScoreMap
from wsss.refine._base import Context, OneByOne
from wsss.registry import REFINERS
from wsss.settings import Named

__all__ = ["Pamr", "PamrSettings"]


class PamrSettings(Named):
    """The neighbours, the grid, and how often the average is taken."""

    name: Literal["pamr"] = "pamr"
    dilations: tuple[PositiveInt, ...] = Field(default=(1, 2, 4, 8, 12, 24), min_length=1)
    """Distances of neighbours in cells of the grid; eight neighbours at each."""
    n_iters: NonNegativeInt = 10
    """How often the average is taken."""
    grid: Literal["scores", "image"] = "scores"
    """'scores': the grid that the scores come on, as published; 'image': every pixel."""
    squared: bool = False
    """Weights of the paper's text, exp(-(difference / sigma)^2). Its code, which made its numbers,
    has exp(-|difference| / (0.1 sigma))."""


@REFINERS.register(PamrSettings)
class Pamr(OneByOne):
    """One image alone keeps every core or a GPU busy."""

    def __init__(self, settings: PamrSettings, context: Context) -> None:
        self.settings = settings
        self.device = context.device()

    def refined(self, image: np.ndarray, score_map: ScoreMap) -> ScoreMap:
        """Scores on the settings' grid."""
        import torch

        with torch.inference_mode():
            return replace(score_map, scores=self._averaged(image, score_map))

    def _averaged(self, image: np.ndarray, score_map: ScoreMap) -> np.ndarray:
        """(P, h, w) float32."""
        import torch

        from wsss.models.pamr import pixel_adaptive_mean

        settings = self.settings
        # copies, since an array may be read-only or mirrored
        scores = torch.tensor(
            np.ascontiguousarray(
                score_map.full_scores() if settings.grid == "image" else score_map.scores
            )
        )
        pixels = torch.tensor(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1).float()
        refined = pixel_adaptive_mean(
            pixels[None],
            scores[None].to(self.device),
            settings.dilations,
            settings.n_iters,
            squared=settings.squared,
        )[0]
        out: np.ndarray = refined.clamp(0, 1).cpu().numpy()
        return out
