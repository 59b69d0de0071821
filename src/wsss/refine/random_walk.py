"""Random walks of scores over the grid of an image (AffinityNet, CVPR 2018, and IRN, CVPR 2019).

A cell and those near it form pairs. A pair stands at one of its two cells, and an offset of a
half-plane leads to the other one, so that every pair is met once. Maps of pairs are (K, h, w) for K
offsets: [k, y, x] is of the cells (y, x) and (y, x) + offsets[k]. Where the second one lies outside
of the grid there is no pair.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat

from wsss.checks import check_range, check_shape
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "WalkSettings",
    "cells_with_partner",
    "moved",
    "pair_offsets",
    "path_affinities",
    "random_walk",
]

Cells = tuple[slice, slice]
"""Rows and columns of a grid."""

TOLERANCE = 1e-9
"""The share of a walk that may be left out."""


class WalkSettings(Named):
    """Which trained network tells affinities, and how far scores walk."""

    network: str = Field(min_length=1)
    """A name in train_affinities."""
    beta: PositiveFloat
    """Power of the affinities: a larger one keeps scores nearer to where they are."""
    steps: NonNegativeInt = 256
    """How many steps the walk has."""
    radius: int = Field(default=5, ge=2)
    """A step leads to cells nearer than this, in cells."""


def pair_offsets(radius: int) -> np.ndarray:
    """Where the cells nearer than `radius` lie: right of a cell, and below it.

    Args:
        radius: in cells, from 2; 5 in AffinityNet and IRN, which gives 34.

    Returns:
        (K, 2) int64 of (dy, dx), ascending.

    Raises:
        ValueError: there is no such cell.

    Example:
        >>> pair_offsets(2).tolist()
        [[0, 1], [1, -1], [1, 0], [1, 1]]
    """
    if radius < 2:
        raise ValueError(f"radius must be at least 2 cells, but is {radius}; 5 is usual")
    offsets = [
        (dy, dx)
        for dy in range(radius)
        for dx in range(1 - radius, radius)
        if (dy, dx) > (0, 0) and dy * dy + dx * dx < radius * radius
    ]
    return np.array(offsets)


def cells_with_partner(dy: int, dx: int, height: int, width: int) -> Cells:
    """Those cells of a grid from which an offset, dy not below 0, leads to a cell of it."""
    columns = slice(min(max(-dx, 0), width), max(width - max(dx, 0), 0))
    return slice(0, max(height - dy, 0)), columns


def moved(cells: Cells, dy: int, dx: int) -> Cells:
    """Where an offset leads from cells; it must not lead out of the grid."""
    rows, columns = cells
    return (
        slice(rows.start + dy, rows.stop + dy),
        slice(columns.start + dx, columns.stop + dx),
    )


def path_affinities(boundary: "Tensor", offsets: np.ndarray) -> "Tensor":
    """IRN's affinities: 1 - the highest boundary on the way from one cell to the other.

    On the way are the cells nearer than 1 to the segment between the two, which are among them.

    Args:
        boundary: (..., h, w) in [0, 1]. Gradients flow back to it.
        offsets: (K, 2) of (dy, dx), as `pair_offsets` has them.

    Returns:
        (..., K, h, w) in [0, 1]; 0 where there is no pair, as if all were boundary out there.

    References:
        Ahn, Cho & Kwak, Weakly Supervised Learning of Instance Segmentation with Inter-pixel
        Relations, CVPR 2019.

    Example:
        >>> import torch
        >>> boundary = torch.tensor([[0.0, 0.25, 0.0, 0.0]])
        >>> path_affinities(boundary, np.array([[0, 2]]))
        tensor([[[0.7500, 0.7500, 0.0000, 0.0000]]])
    """
    import torch
    from torch.nn import functional

    height, width = boundary.shape[-2:]
    affinities = []
    for dy, dx in offsets.tolist():
        cells = cells_with_partner(dy, dx, height, width)
        highest = boundary[..., *cells]
        for y, x in _cells_between(dy, dx):
            highest = torch.maximum(highest, boundary[..., *moved(cells, y, x)])
        rows, columns = cells
        around = (columns.start, width - columns.stop, 0, height - rows.stop)
        affinities.append(functional.pad(1 - highest, around))
    return torch.stack(affinities, dim=-3)


def _cells_between(dy: int, dx: int) -> list[tuple[int, int]]:
    """The cells nearer than 1 to the segment from (0, 0), which is left out, to (dy, dx).

    None of them lies outside of the rectangle that the two span.
    """
    sign = -1 if dx < 0 else 1
    return [
        (y, sign * x)
        for y in range(dy + 1)
        for x in range(abs(dx) + 1)
        if (y or x) and (dy * x - abs(dx) * y) ** 2 < dy * dy + dx * dx
    ]


def random_walk(
    scores: "Tensor",
    affinities: "Tensor",
    offsets: np.ndarray,
    *,
    beta: float,
    steps: int = 256,
) -> "Tensor":
    """Let scores walk to cells of high affinity: scores · T^steps.

    T is A^beta with its columns divided by their sums; A is symmetric with 1 on its diagonal, the
    affinities of pairs beside it and 0 elsewhere. Each score that comes out is a weighted mean of
    those of its class, so a constant map stays as it is.

    T is never written down. A step adds up 2 K shifted copies of the maps, and a polynomial stands
    for the power: x^n is the mean of the Chebyshev polynomials T_|k|(x), where k is where n steps
    of a fair walk on the integers end, and few end beyond several √n. With less than 1e-9 of them
    left out, 98 steps are as good as 256. The eigenvalues of T lie in [-1, 1], so that this changes
    a score by less than 1e-9 √(h·w·(2 K + 1)) of the range of its map. All is computed in
    float64: where affinities are weak, the same rounding at every step adds up to nearly 1e-3 in
    float32.

    Beside its input it holds (K + 6 C) h w numbers of 8 bytes: for 3 classes and 34 offsets 16 MB
    on a grid of 160 x 240, 64 MB on one of 320 x 480. The same input gives the same bytes on one
    kind of device, and a class does not see the others.

    Args:
        scores: (C, h, w).
        affinities: (K, h, w) in [0, 1] on the scores' device; what is not of a pair is ignored.
        offsets: (K, 2) of (dy, dx), as `pair_offsets` has them.
        beta: power of the affinities, above 0; 8 in AffinityNet, 10 in IRN. A higher one keeps
            scores nearer to where they are.
        steps: of the walk; 0 changes nothing.

    Returns:
        (C, h, w) float32, or float64 for scores of it, without a gradient.

    Raises:
        ValueError: a shape or a number is not as above.

    References:
        Ahn & Kwak, Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
        Supervised Semantic Segmentation, CVPR 2018. The polynomial: Sachdeva & Vishnoi, Faster
        Algorithms via Approximation Theory, 2014.

    Example:
        >>> import torch
        >>> scores, affinities = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.0]]])
        >>> random_walk(scores, affinities, np.array([[0, 1]]), beta=8)
        tensor([[[0.5677, 0.4323]]])
    """
    import torch

    check_shape("scores", scores.shape, ("C", "h", "w"))
    classes, height, width = scores.shape
    check_shape("affinities", affinities.shape, (len(offsets), height, width))
    if not (beta > 0 and steps >= 0):
        raise ValueError(
            f"beta must be above 0 and steps not below it, but they are {beta} and {steps}"
        )
    with torch.no_grad():
        # Apple's GPUs have no float64
        device = "cpu" if scores.device.type == "mps" else scores.device
        maps = scores.to(device, torch.float64)
        weights = maps.new_zeros(affinities.shape)
        shifts = []  # of cells in reading order
        for index, (dy, dx) in enumerate(offsets.tolist()):
            if dy < 0 or (dy == 0 and dx <= 0):
                raise ValueError(
                    f"offsets must lead to the right or down, but offsets[{index}] is "
                    f"({dy}, {dx}); take the opposite one, which is of the same pairs"
                )
            cells = cells_with_partner(dy, dx, height, width)
            weights[index, *cells] = affinities[index, *cells].to(weights)
            if dy < height and abs(dx) < width:
                shifts.append((index, dy * width + dx))
        for extreme in torch.aminmax(weights):
            check_range("affinities", extreme.item(), 0, 1)
        weights.pow_(beta)
        pairs = [(shift, weights[index].flatten()[:-shift]) for index, shift in shifts]
        maps = maps.flatten(1)
        sums = _add_neighbours(maps.new_ones(1, height * width), pairs)

        walked = torch.zeros_like(maps)
        before = now = maps
        for degree, share in enumerate(_shares(steps)):
            if degree == 1:
                now = _add_neighbours(maps, pairs).div_(sums)
            elif degree > 1:
                before, now = now, _add_neighbours(now, pairs).div_(sums).mul_(2).sub_(before)
            walked.add_(now, alpha=share)
        # what was left out must not lead out of what a mean can be
        walked = torch.clamp(walked, maps.amin(1, keepdim=True), maps.amax(1, keepdim=True))
        dtype = torch.promote_types(scores.dtype, torch.float32)
        return walked.view(classes, height, width).to(scores.device, dtype)


def _add_neighbours(maps: "Tensor", pairs: "list[tuple[int, Tensor]]") -> "Tensor":
    """maps · A^beta for maps (C, h·w): every cell's own score and those of its neighbours.

    Flat cells make a shift one long slice; pairs across the left and right border have weight 0.
    """
    total = maps.clone()
    for shift, weights in pairs:
        total[:, :-shift].addcmul_(maps[:, shift:], weights)
        total[:, shift:].addcmul_(maps[:, :-shift], weights)
    return total


def _shares(steps: int) -> list[float]:
    """How often a fair walk on the integers ends 0, 1, 2... away from its start; they sum to 1."""
    shares: list[float] = []
    while math.fsum(shares) < 1 - TOLERANCE:
        distance = len(shares)
        ends = math.comb(steps, (steps - distance) // 2) if (steps - distance) % 2 == 0 else 0
        shares.append((1 if distance == 0 else 2) * ends / 2**steps)
    return [share / math.fsum(shares) for share in shares]
