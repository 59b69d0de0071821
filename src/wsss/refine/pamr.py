"""Pixel-adaptive mask refinement: neighbours of like colour average (Araslanov, Roth, CVPR 2020).

A score becomes the weighted mean of those at the eight neighbours at each of a few distances, again
and again. The weights of a pixel sum to 1, so every class goes on its own, and a background of
one score everywhere stays as it is: scores above a threshold are what wins against it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from wsss.artifacts import ScoreMap
from wsss.refine._base import Context, OneByOne
from wsss.registry import REFINERS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Pamr", "PamrSettings", "average", "neighbour_weights"]


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


def _neighbours(padded: "Tensor", dilations: Sequence[int]) -> "list[Tensor]":
    """Views of (C, h + 2m, w + 2m) at each neighbour, all (C, h, w); m is the largest dilation."""
    margin = max(dilations)
    height, width = (side - 2 * margin for side in padded.shape[1:])
    return [
        padded[:, margin + y :, margin + x :][:, :height, :width]
        for step in dilations
        for y in (-step, 0, step)
        for x in (-step, 0, step)
        if y or x
    ]


def _padded(planes: "Tensor", dilations: Sequence[int]) -> "Tensor":
    """(C, h, w) with its edge repeated as far as neighbours reach."""
    from torch.nn import functional

    return functional.pad(planes, [max(dilations)] * 4, mode="replicate")


def neighbour_weights(
    image: "Tensor", dilations: Sequence[int], *, squared: bool = False
) -> "Tensor":
    """What each neighbour counts in the average of a pixel.

    Colours are compared in units of their standard deviation over the pixel's windows, one of
    3x3 per dilation; beyond the edge the image repeats it.

    Args:
        image: (3, h, w) float32; its scale does not matter.
        dilations: distances in pixels.
        squared: see `PamrSettings`.

    Returns:
        (8 * len(dilations), h, w) float32, summing to 1 over the first axis: neighbours row by
        row from the top left, dilation after dilation.

    Example:
        >>> import torch
        >>> neighbour_weights(torch.zeros(3, 1, 2), [1, 5])[:, 0, 0].tolist() == [1 / 16] * 16
        True
    """
    import torch

    neighbours = _neighbours(_padded(image, dilations), dilations)
    difference, total, squares = torch.zeros(3, *image.shape, device=image.device)
    for neighbour in neighbours:
        torch.sub(neighbour, image, out=difference)
        total += difference
        squares.addcmul_(difference, difference)
    # From sums of differences to the pixel itself: it is a ninth of the samples, so the square of
    # the sum leaves at least a ninth of the squares, and nothing is lost to rounding.
    samples = 9 * len(dilations)
    sigma = squares.addcmul_(total, total, value=-1 / samples).div_(samples - 1).sqrt_()
    rate = -1 / (len(image) * ((sigma + 1e-8) ** 2 if squared else 0.1 * sigma + 1e-8))

    weights = torch.zeros(len(neighbours), *image.shape[1:], device=image.device)
    whole = torch.zeros_like(weights[0])
    for weight, neighbour in zip(weights, neighbours, strict=True):
        torch.sub(neighbour, image, out=difference)
        difference.square_() if squared else difference.abs_()
        for plane, rate_of_plane in zip(difference, rate, strict=True):
            weight.addcmul_(plane, rate_of_plane)
        # The mean difference is at most 3.2 sigma, so some exponent is at least -32: no maximum
        # has to be taken out, and a pixel's sum is never 0.
        whole += weight.exp_()
    return weights.div_(whole)


def average(
    scores: "Tensor", weights: "Tensor", dilations: Sequence[int], n_iters: int
) -> "Tensor":
    """Replace scores by the weighted mean of their neighbours' `n_iters` times.

    Args:
        scores: (P, h, w) float32.
        weights: (8 * len(dilations), h, w) float32 of `neighbour_weights`.
        dilations: as the weights were made with.
        n_iters: how often.

    Returns:
        (P, h, w) float32, within the range of the scores up to rounding.
    """
    import torch

    padded = _padded(scores, dilations)
    neighbours = _neighbours(padded, dilations)
    for _ in range(n_iters):
        scores = torch.zeros_like(scores)
        for weight, neighbour in zip(weights, neighbours, strict=True):
            scores.addcmul_(weight, neighbour)
        padded.copy_(_padded(scores, dilations))
    return scores


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
        from torch.nn import functional

        settings = self.settings
        full = settings.grid == "image"
        # copies, since an array may be read-only or mirrored
        scores = torch.tensor(
            np.ascontiguousarray(score_map.full_scores() if full else score_map.scores)
        )
        pixels = torch.tensor(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1).float()
        if pixels.shape[1:] != scores.shape[1:]:
            pixels = functional.interpolate(
                pixels[None], scores.shape[1:], mode="bilinear", align_corners=True
            )[0]
        # a neighbour farther away than the image is large is the edge, as one just as far
        dilations = [min(distance, max(scores.shape[1:])) for distance in settings.dilations]
        weights = neighbour_weights(pixels.contiguous(), dilations, squared=settings.squared)
        refined = average(scores.to(self.device), weights, dilations, settings.n_iters)
        out: np.ndarray = refined.clamp(0, 1).cpu().numpy()
        return out
