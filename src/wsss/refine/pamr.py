"""Pixel-adaptive mask refinement: neighbours of like colour average (Araslanov, Roth, CVPR 2020).

A score becomes the weighted mean of those at the eight neighbours at each of a few distances, again
and again. The weights of a pixel sum to 1, so every class goes on its own, and a background of
one score everywhere stays as it is: scores above a threshold are what wins against it.
"""

from dataclasses import replace
from typing import ClassVar, Literal

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
    leads_from: ClassVar[float | None] = None
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
        scores = score_map.full_scores() if self.settings.grid == "image" else score_map.scores
        averaged = self._compiled if self.device.type == "cpu" else self._in_torch
        refined = averaged(image.transpose(2, 0, 1), np.ascontiguousarray(scores))
        return replace(score_map, scores=refined.clip(0, 1))

    def _compiled(self, image: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """(P, h, w) float32, of a (3, H, W) image and scores on the grid."""
        import torch

        from wsss.densecrf.pixel_adaptive import pixel_adaptive_mean
        from wsss.models.pamr import on_grid

        settings, grid = self.settings, scores.shape[1:]
        if image.shape[1:] != grid:
            pixels = torch.tensor(np.ascontiguousarray(image)).float()
            image = on_grid(pixels[None], (grid[0], grid[1]))[0].numpy()
        return pixel_adaptive_mean(
            image, scores, settings.dilations, settings.n_iters, squared=settings.squared
        )

    def _in_torch(self, image: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """As `_compiled`."""
        import torch

        from wsss.models.pamr import pixel_adaptive_mean

        settings = self.settings
        with torch.inference_mode():
            refined: np.ndarray = (
                pixel_adaptive_mean(
                    torch.tensor(np.ascontiguousarray(image), device=self.device).float()[None],
                    torch.tensor(scores, device=self.device)[None],
                    settings.dilations,
                    settings.n_iters,
                    squared=settings.squared,
                )[0]
                .cpu()
                .numpy()
            )
        return refined
