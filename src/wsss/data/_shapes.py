"""What people draw around and along things, to pixels: polygons, ellipses, lines, run lengths.

A pixel belongs to a polygon or an ellipse that holds its centre; coordinates count pixels from the
upper left corner of the image, so that the first pixel's centre is at 0.5, 0.5.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wsss.data._run_lengths import filled_runs, packed_alpha, unpacked_counts

__all__ = [
    "Brush",
    "Corners",
    "Line",
    "Patch",
    "Polygons",
    "Runs",
    "Shape",
    "ellipse",
    "turned_rectangle",
]

Size = tuple[int, int]
"""(height, width) in pixels."""

Corners = tuple[float, float, float, float]
"""Left, top, right and bottom, of which the last two lie outside."""

Patch = tuple[tuple[slice, slice], np.ndarray]
"""The rows and columns of a part of an image, and which pixels of it something covers, bool."""

_BEYOND = 1.0  # pixels by which a shape may leave its image, as tools round
_SIDES = 64  # of the polygon that stands for an ellipse


class Shape(Protocol):
    """Something drawn."""

    def pixels(self, size: Size) -> Patch:
        """The pixels of it. Raises ValueError where it does not fit the image."""

    def bounds(self, size: Size) -> Corners:
        """The box around it; likewise."""


@dataclass(frozen=True)
class Polygons:
    """The parts of a region, each with its corners in order; (N, 2) x and y of at least 3."""

    parts: tuple[np.ndarray, ...]

    def pixels(self, size: Size) -> Patch:
        """See `Shape`; what parts share belongs to the region, too."""
        left, top, right, bottom = self.bounds(size)
        rows, columns = _span(top, bottom, size[0]), _span(left, right, size[1])
        corner = columns.start, rows.start
        inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
        for part in self.parts:
            inside |= _filled(part - corner, inside.shape)
        return (rows, columns), inside

    def bounds(self, size: Size) -> Corners:
        """See `Shape`."""
        points = np.concatenate(self.parts)
        _check_inside(points, size)
        return _corners(points)


@dataclass(frozen=True)
class Line:
    """A stroke of one pixel's width along its points, (N, 2) x and y of at least 1."""

    points: np.ndarray

    def pixels(self, size: Size) -> Patch:
        """See `Shape`; all pixels that the line runs through, nearly."""
        _check_inside(self.points, size)
        drawn = np.zeros(size, bool)
        starts, ends = self.points, np.concatenate([self.points[1:], self.points[-1:]])
        for start, end in zip(starts, ends, strict=True):
            steps = 2 * math.ceil(np.abs(end - start).max()) + 1
            xy = np.linspace(start, end, steps).astype(np.int64)
            drawn[xy[:, 1].clip(0, size[0] - 1), xy[:, 0].clip(0, size[1] - 1)] = True
        return _whole(size), drawn

    def bounds(self, size: Size) -> Corners:
        """See `Shape`."""
        _check_inside(self.points, size)
        return _corners(self.points)


@dataclass(frozen=True)
class Runs:
    """Lengths of runs outside and inside in turn, within a part of the image.

    Attributes:
        counts: the lengths, or COCO's text of them.
        size: of the part.
        corner: its left and top in the image; None where it must be the whole image.
        by_columns: whether runs go down the columns, and not along the rows.
    """

    counts: Sequence[int] | str
    size: Size
    corner: tuple[int, int] | None = None
    by_columns: bool = False

    def pixels(self, size: Size) -> Patch:
        """See `Shape`."""
        left, top = self.corner or (0, 0)
        height, width = self.size
        whole = self.corner is None and self.size != size
        if whole or min(left, top) < 0 or left + width > size[1] or top + height > size[0]:
            raise ValueError(
                f"its run lengths are of {width} x {height} pixels at {left}, {top}, but its image "
                f"has {size[1]} x {size[0]} (width x height); export it again"
            )
        counts = unpacked_counts(self.counts) if isinstance(self.counts, str) else self.counts
        filled = filled_runs(counts, height * width)
        part = filled.reshape(width, height).T if self.by_columns else filled.reshape(height, width)
        return (slice(top, top + height), slice(left, left + width)), part

    def bounds(self, size: Size) -> Corners:
        """See `Shape`; raises ValueError where nothing is inside, too."""
        return _bounds_of_pixels(*self.pixels(size))


@dataclass(frozen=True)
class Brush:
    """What Label Studio's brush painted: its packed pixels, of which half opaque ones count."""

    data: Sequence[int]

    def pixels(self, size: Size) -> Patch:
        """See `Shape`."""
        return _whole(size), packed_alpha(self.data, size[0] * size[1]).reshape(size) >= 128

    def bounds(self, size: Size) -> Corners:
        """See `Shape`; raises ValueError where nothing is painted, too."""
        return _bounds_of_pixels(*self.pixels(size))


def ellipse(x: float, y: float, radii: tuple[float, float], degrees: float = 0) -> Polygons:
    """An ellipse as a polygon.

    Args:
        x: of its centre.
        y: likewise.
        radii: along the first and the second axis.
        degrees: by which it is turned clockwise about its centre.
    """
    angles = np.linspace(0, 2 * math.pi, _SIDES, endpoint=False)
    points = np.stack([radii[0] * np.cos(angles), radii[1] * np.sin(angles)], axis=1)
    return Polygons((_turned(points, degrees) + np.array([x, y]),))


def turned_rectangle(corners: Corners, degrees: float, about: tuple[float, float]) -> Corners:
    """The box around a rectangle that was turned clockwise.

    Args:
        corners: of the rectangle.
        degrees: by which it was turned.
        about: x and y of the point that stayed in its place.

    Example:
        >>> turned_rectangle((2, 2, 6, 4), 90, (2, 2))
        (0.0, 2.0, 2.0, 6.0)
    """
    left, top, right, bottom = corners
    points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)
    found = _corners(_turned(points - about, degrees) + about)
    return (round(found[0], 6), round(found[1], 6), round(found[2], 6), round(found[3], 6))


def _turned(points: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned: np.ndarray = points @ np.array([[cos, sin], [-sin, cos]])
    return turned


def _corners(points: np.ndarray) -> Corners:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _bounds_of_pixels(at: tuple[slice, slice], inside: np.ndarray) -> Corners:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        raise ValueError("it has no pixel; draw it again, or remove it")
    top, left = at[0].start, at[1].start
    first, last = (left + columns[0], top + rows[0]), (left + columns[-1], top + rows[-1])
    return float(first[0]), float(first[1]), float(last[0] + 1), float(last[1] + 1)


def _whole(size: Size) -> tuple[slice, slice]:
    return slice(0, size[0]), slice(0, size[1])


def _span(low: float, high: float, length: int) -> slice:
    """The pixels along a side that something reaches."""
    start = min(max(math.floor(low), 0), length)
    return slice(start, max(start, min(math.ceil(high), length)))


def _check_inside(points: np.ndarray, size: Size) -> None:
    """Raise ValueError unless all points lie in an image, or next to it."""
    wrong = ~np.isfinite(points) | (points < -_BEYOND) | (points > np.array(size[::-1]) + _BEYOND)
    if wrong.any():
        x, y = points[wrong.any(axis=1)][0]
        raise ValueError(
            f"its point x {x:g}, y {y:g} lies outside of its image of {size[1]} x {size[0]} pixels "
            "(width x height); mend it, or remove it"
        )


def _filled(points: np.ndarray, size: Size) -> np.ndarray:
    """The pixels whose centre lies in a polygon, (H, W) bool.

    Along a row, they begin and end where an edge crosses the height of the centres.
    """
    ends = np.roll(points, -1, axis=0)
    low, high = np.minimum(points[:, 1], ends[:, 1]), np.maximum(points[:, 1], ends[:, 1])
    first = np.ceil(low - 0.5).clip(0, size[0]).astype(np.int64)
    counts = np.ceil(high - 0.5).clip(0, size[0]).astype(np.int64) - first
    edges = np.repeat(np.arange(len(points)), counts)
    within = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = first[edges] + within
    (x0, y0), (x1, y1) = points[edges].T, ends[edges].T
    x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    columns = np.ceil(x - 0.5).clip(0, size[1]).astype(np.int64)
    changes = np.zeros((size[0], size[1] + 1), np.uint8)
    np.add.at(changes, (rows, columns), 1)
    crossed = np.add.accumulate(changes[:, :-1], axis=1)  # modulo 256, of which the parity counts
    inside: np.ndarray = (crossed & 1).astype(bool)
    return inside
