"""A refiner in windows, for images too large to be refined whole."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from wsss.artifacts import ScoreMap
from wsss.checks import check_share
from wsss.refine._base import Refiner
from wsss.windows import window_starts, window_weights

__all__ = ["Windowed", "peak_normalised"]

BATCH_PIXELS = 2**22
"""Pixels of the windows that run as one batch: 16 windows of 512 x 512."""

Span = tuple[float, float]
"""Where a part of an axis begins and ends."""


def peak_normalised(score_map: ScoreMap) -> ScoreMap:
    """A map's scores, divided by the greatest one of all classes; an empty map stays empty."""
    scores = score_map.scores
    greatest = np.maximum(scores.max(initial=0), np.float32(1e-12))
    return replace(score_map, scores=np.clip(scores / greatest, 0, 1))


class Windowed:
    """Another refiner's scores, window by window, averaged where windows overlap.

    Itself a `Refiner`. A window counts most in its middle and next to nothing at its border
    (`window_weights`), and what windows count in a cell sums to 1, so there is no seam. An image
    that is no larger than a window runs whole, in one batch with others.

    Windows keep the scores that they have: none is stretched to a range of its own, in which a
    faint trace of a class would peak like the class itself. Most refiners take means, or let
    classes compete with the background, and do the same to a score in any window. One that divides
    by the greatest score of its image has a method `unnormalised` besides, which does all but that;
    the division is then that of the whole image. A window without any score is left out.

    Corners of windows lie between cells of the score map where these begin on whole pixels.
    Otherwise, and where the refiner gives cells that do not fit between the windows' corners,
    scores are resized to where they lie, bilinear, by a fraction of a cell.

    Memory is that of the windows that run together, besides the score map and the result. This has
    the cells that the refiner gives its windows: one with a score per pixel makes a map of the
    image's size, (P, H, W) float32, but that alone.

    Args:
        refiner: run on each window; must not find artifacts by name.
        window: pixels of its side.
        overlap: share of a window that the next one covers again, in [0, 1).
    """

    windowed = False

    def __init__(self, refiner: Refiner, window: int, overlap: float) -> None:
        check_share("overlap", overlap)
        self.refiner, self.window, self.overlap = refiner, window, overlap

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        whole = [
            index
            for index, score_map in enumerate(score_maps)
            if max(score_map.size) <= self.window
        ]
        found = iter(
            self.refiner(
                [images[index] for index in whole],
                [score_maps[index] for index in whole],
                [names[index] for index in whole],
            )
        )
        return [
            next(found)
            if max(score_map.size) <= self.window
            else self._refined(image, score_map, name)
            for image, score_map, name in zip(images, score_maps, names, strict=True)
        ]

    def _refined(self, image: np.ndarray, score_map: ScoreMap, name: str) -> ScoreMap:
        """A large image."""
        unnormalised = getattr(self.refiner, "unnormalised", None)
        refine = unnormalised or self.refiner
        grid = score_map.scores.shape[1:]
        (high, tops), (wide, lefts) = (
            _windows(length, cells, self.window, self.overlap)
            for length, cells in zip(score_map.size, grid, strict=True)
        )
        corners = [(top, left) for top in tops for left in lefts]
        batch_size = max(1, BATCH_PIXELS // (high * wide))
        blend: _Blend | None = None
        for begin in range(0, len(corners), batch_size):
            batch = []
            for top, left in corners[begin : begin + batch_size]:
                part = _part(score_map, (top, top + high), (left, left + wide))
                if part.scores.any():
                    batch.append((top, left, part))
            results = refine(
                [np.ascontiguousarray(image[y : y + high, x : x + wide]) for y, x, _ in batch],
                [part for _, _, part in batch],
                [name] * len(batch),
            )
            for (top, left, _), result in zip(batch, results, strict=True):
                blend = blend or _Blend(
                    score_map.size, (high, wide), (tops, lefts), result.scores.shape
                )
                blend.add(top, left, result.scores)
        if blend is None:  # no score anywhere
            return score_map
        whole = replace(score_map, scores=np.clip(blend.scores, 0, 1, out=blend.scores))
        return peak_normalised(whole) if unnormalised else whole


class _Blend:
    """The mean of windows' scores, on a grid of the image whose cells are as large as theirs.

    Args:
        size: (height, width) of the image in pixels.
        sides: of a window, in pixels.
        starts: where windows begin along the two axes, in pixels.
        shape: (P, h, w) of a window's scores.
    """

    def __init__(
        self,
        size: tuple[int, int],
        sides: tuple[int, int],
        starts: tuple[list[int], list[int]],
        shape: tuple[int, ...],
    ) -> None:
        self.size, self.sides = size, sides
        # at least as fine as the windows' own, so that a window has a cell
        grid = [-(-a * n // b) for a, n, b in zip(size, shape[1:], sides, strict=True)]
        self.scores = np.zeros((shape[0], *grid), np.float32)
        # What a window counts in a cell is a product of what its rows and columns count, which sum
        # to 1 along their axes: there is nothing to divide by in the end.
        self.shares = [
            _shares(length, cells, side, begins)
            for length, cells, side, begins in zip(size, grid, sides, starts, strict=True)
        ]

    def add(self, top: int, left: int, scores: np.ndarray) -> None:
        """Scores of the window that begins at a pixel."""
        cells, spans, shares = [], [], []
        for axis, begin in enumerate((top, left)):
            first, share = self.shares[axis][begin]
            length, side = self.size[axis], self.sides[axis]
            own, count = scores.shape[axis + 1], self.scores.shape[axis + 1]
            low, high = (
                (cell * length / count - begin) * own / side for cell in (first, first + len(share))
            )
            cells.append(slice(first, first + len(share)))
            spans.append((low, high))
            shares.append(share)
        moved = _resized(scores, spans[0], spans[1], (len(shares[0]), len(shares[1])))
        moved *= np.outer(*shares)
        self.scores[:, *cells] += moved


def _windows(length: int, cells: int, window: int, overlap: float) -> tuple[int, list[int]]:
    """The side of windows along an axis, and where they begin, in pixels.

    Example:
        >>> _windows(40, 10, 33, 0.5)  # on whole cells of 4 pixels
        (32, [0, 8])
        >>> _windows(40, 11, 33, 0.5)
        (33, [0, 7])
    """
    unit = length // math.gcd(length, cells)  # the fewest pixels that are whole cells
    if 8 * unit > window:
        unit = 1
    side = min(length, window) // unit
    return side * unit, [unit * start for start in window_starts(length // unit, side, overlap)]


def _shares(
    length: int, cells: int, side: int, starts: list[int]
) -> dict[int, tuple[int, np.ndarray]]:
    """By where a window begins: its first cell, and what it counts in each of its cells.

    Its are the cells whose centres lie in it.

    Args:
        length: of an axis, in pixels.
        cells: of the result along it.
        side: of a window, in pixels.
        starts: where windows begin, in pixels.

    Example:
        >>> for start, (first, share) in _shares(6, 3, 4, [0, 2]).items():
        ...     print(start, first, share)
        0 0 [1.  0.5]
        2 1 [0.5 1. ]
    """
    total = np.zeros(cells)
    found = {}
    for start in starts:
        # the least k for which (k + 1/2) length / cells is not below a pixel
        first, last = (
            -(-(2 * cells * at - length) // (2 * length)) for at in (start, start + side)
        )
        found[start] = first, window_weights(1, last - first)[0]
        total[first:last] += found[start][1]
    return {
        start: (first, (share / total[first : first + len(share)]).astype(np.float32))
        for start, (first, share) in found.items()
    }


def _part(score_map: ScoreMap, rows: tuple[int, int], columns: tuple[int, int]) -> ScoreMap:
    """A window's part of a score map, on cells of like size; rows and columns are pixels."""
    spans, counts = [], []
    for axis, pixels in enumerate((rows, columns)):
        low, high = (at * score_map.scores.shape[axis + 1] / score_map.size[axis] for at in pixels)
        spans.append((low, high))
        counts.append(max(1, round(high - low)))
    scores = _resized(score_map.scores, spans[0], spans[1], (counts[0], counts[1]))
    return replace(score_map, scores=scores, size=(rows[1] - rows[0], columns[1] - columns[0]))


def _resized(scores: np.ndarray, rows: Span, columns: Span, grid: tuple[int, int]) -> np.ndarray:
    """(P, *grid) float32: what lies between rows and columns, bilinear; whole cells stay as is.

    Beyond its edge a map goes on with the scores of the edge.
    """
    # a resized cell reaches less than 2 cells beyond the span
    down, along = (
        np.arange(math.floor(low) - 2, math.ceil(high) + 2) for low, high in (rows, columns)
    )
    box = (columns[0] - along[0], rows[0] - down[0], columns[1] - along[0], rows[1] - down[0])
    inside = np.ix_(*(cells.clip(0, n - 1) for cells, n in zip((down, along), scores.shape[1:])))
    resized = np.empty((len(scores), *grid), np.float32)
    for index, plane in enumerate(scores):
        image = Image.fromarray(plane[inside])
        resized[index] = np.asarray(image.resize(grid[::-1], Image.Resampling.BILINEAR, box))
    return resized
