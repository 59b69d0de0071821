"""Pixel-adaptive averages: scores become means over neighbours of like colour.

The arithmetic of PAMR (Araslanov and Roth, CVPR 2020), which the training method single_stage
applies to the masks that it learns from, and the refiner `pamr` to finished maps on a GPU; on a CPU
that takes the compiled `wsss.densecrf.pixel_adaptive`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["average", "neighbour_weights", "on_grid", "pixel_adaptive_mean"]


def pixel_adaptive_mean(
    images: Tensor,
    scores: Tensor,
    dilations: Sequence[int],
    n_iters: int,
    *,
    squared: bool = False,
) -> Tensor:
    """Scores averaged over neighbours that look alike, on the grid that they come on.

    Args:
        images: (B, 3, H, W) float32, resized to that grid so that corner pixels lie on corner
            cells. Each channel in any unit: normalised or not, the weights are the same.
        scores: (B, P, h, w) float32.
        dilations: distances of neighbours in cells of the grid.
        n_iters: how often the average is taken.
        squared: see `neighbour_weights`.

    Returns:
        (B, P, h, w) float32, within the range of the scores up to rounding.
    """
    grid = (scores.shape[2], scores.shape[3])
    images = on_grid(images, grid)
    # a neighbour farther away than the image is large is the edge, as one just as far
    near = [min(distance, max(grid)) for distance in dilations]
    weights = neighbour_weights(images.contiguous(), near, squared=squared)
    return average(scores, weights, near, n_iters)


def on_grid(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) float32 images to (B, 3, h, w), so that corner pixels lie on corner cells."""
    if images.shape[2:] == grid:
        return images
    return functional.interpolate(images, grid, mode="bilinear", align_corners=True)


def neighbour_weights(image: Tensor, dilations: Sequence[int], *, squared: bool = False) -> Tensor:
    """What each neighbour counts in the average of a pixel.

    Colours are compared in units of their standard deviation over the pixel's windows, one of
    3x3 per dilation; beyond the edge the image repeats it.

    Args:
        image: (3, h, w) or (B, 3, h, w) float32; its scale does not matter.
        dilations: distances in pixels.
        squared: weights of the paper's text, exp(-(difference / sigma)^2), in place of those of
            its code, exp(-|difference| / (0.1 sigma)).

    Returns:
        (8 * len(dilations), h, w) or (8 * len(dilations), B, h, w) float32, summing to 1 over the
        first axis: neighbours row by row from the top left, dilation after dilation.

    Example:
        >>> neighbour_weights(torch.zeros(3, 1, 2), [1, 5])[:, 0, 0].tolist() == [1 / 16] * 16
        True
    """
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
    channels = image.shape[-3]
    rate = -1 / (channels * ((sigma + 1e-8) ** 2 if squared else 0.1 * sigma + 1e-8))

    weights = torch.zeros(len(neighbours), *image.select(-3, 0).shape, device=image.device)
    whole = torch.zeros_like(weights[0])
    for weight, neighbour in zip(weights, neighbours, strict=True):
        torch.sub(neighbour, image, out=difference)
        difference.square_() if squared else difference.abs_()
        for plane, rate_of_plane in zip(difference.unbind(-3), rate.unbind(-3), strict=True):
            weight.addcmul_(plane, rate_of_plane)
        # The mean difference is at most 3.2 sigma, so some exponent is at least -32: no maximum
        # has to be taken out, and a pixel's sum is never 0.
        whole += weight.exp_()
    return weights.div_(whole)


def average(scores: Tensor, weights: Tensor, dilations: Sequence[int], n_iters: int) -> Tensor:
    """Replace scores by the weighted mean of their neighbours' `n_iters` times.

    Args:
        scores: (P, h, w) or (B, P, h, w) float32.
        weights: of `neighbour_weights`, for an image or for B of them.
        dilations: as the weights were made with.
        n_iters: how often.

    Returns:
        As the scores, within their range up to rounding.
    """
    padded = _padded(scores, dilations)
    neighbours = _neighbours(padded, dilations)
    for _ in range(n_iters):
        scores = torch.zeros_like(scores)
        for weight, neighbour in zip(weights, neighbours, strict=True):
            scores.addcmul_(weight.unsqueeze(-3), neighbour)
        padded.copy_(_padded(scores, dilations))
    return scores


def _neighbours(padded: Tensor, dilations: Sequence[int]) -> list[Tensor]:
    """Views of (..., h + 2m, w + 2m) at each neighbour, all (..., h, w); m the largest dilation."""
    margin = max(dilations)
    height, width = (side - 2 * margin for side in padded.shape[-2:])
    return [
        padded[..., margin + y :, margin + x :][..., :height, :width]
        for step in dilations
        for y in (-step, 0, step)
        for x in (-step, 0, step)
        if y or x
    ]


def _padded(planes: Tensor, dilations: Sequence[int]) -> Tensor:
    """(..., h, w) with its edge repeated as far as neighbours reach."""
    return functional.pad(planes, [max(dilations)] * 4, mode="replicate")
