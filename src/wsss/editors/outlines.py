"""Outlines of regions along the borders of their pixels, and fewer points for those who draw."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Outline", "outlines", "simplified", "without_holes"]

_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up: (y, x)


@dataclass(frozen=True)
class Outline:
    """A connected part of a region; pixels that meet at a corner alone are two parts.

    Attributes:
        outer: (N, 2) float64 x and y of its corners, in pixels from the upper left corner of the
            image, clockwise as one sees it; the first is not repeated.
        holes: the same of its holes, counter-clockwise.
    """

    outer: np.ndarray
    holes: tuple[np.ndarray, ...] = ()


def outlines(inside: np.ndarray) -> list[Outline]:
    """The parts of a region, from top to bottom, without any loss.

    No ring touches itself, so that polygons are valid for those who ask for it.

    Args:
        inside: (H, W) bool.

    Example:
        >>> (part,) = outlines(np.array([[True, True]]))
        >>> part.outer.tolist()
        [[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]]
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    labels, _ = ndimage.label(inside)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        rings = _rings(labels[rows, columns] == number)
        corner = np.array([columns.start, rows.start], float)
        # the ring that is met first is the outer one: it holds the upper left pixel
        found.append(Outline(rings[0] + corner, tuple(ring + corner for ring in rings[1:])))
    return found


def without_holes(part: Outline) -> np.ndarray:
    """One ring around a part, which reaches each hole on a way there and the same way back.

    Where a program takes a pixel for inside by how often a line to it crosses the ring, the ways
    cancel, and nothing is lost.

    Returns:
        (N, 2) x and y, as `Outline.outer`.
    """
    ring = part.outer
    for hole in sorted(part.holes, key=lambda hole: hole[:, 0].min()):
        apart = np.abs(ring[:, None] - hole[None]).sum(axis=2)
        here, there = np.unravel_index(apart.argmin(), apart.shape)
        start, end = ring[here], hole[there]
        bend = np.array([[end[0], start[1]]])  # along the borders of pixels
        around = np.concatenate([hole[there:], hole[: there + 1]])
        way = [ring[: here + 1], bend, around, bend, ring[here:]]
        ring = np.concatenate(way)
    return ring


def simplified(part: Outline, tolerance: float) -> Outline:
    """A part with fewer corners, none of which was further from what is left than a distance.

    Args:
        part: the part.
        tolerance: in pixels; 0 leaves it as it is. Holes of a smaller extent are left out.

    References:
        Douglas and Peucker: Algorithms for the reduction of the number of points required to
        represent a digitized line (Cartographica 10(2), 1973).
    """
    if tolerance <= 0:
        return part
    holes = [hole for hole in part.holes if np.ptp(hole, axis=0).max() > tolerance]
    return Outline(_fewer(part.outer, tolerance), tuple(_fewer(hole, tolerance) for hole in holes))


def _fewer(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """A ring between its first corner and that furthest from it, each half by itself."""
    middle = int(np.abs(ring - ring[0]).sum(axis=1).argmax())
    closed = np.concatenate([ring, ring[:1]])
    kept = np.zeros(len(closed), bool)
    kept[[0, middle]] = True
    waiting = [(0, middle), (middle, len(ring))]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        start, along = closed[first], closed[last] - closed[first]
        off = closed[first + 1 : last] - start
        length = float(np.hypot(*along))
        if length:
            apart = np.abs(along[0] * off[:, 1] - along[1] * off[:, 0]) / length
        else:
            apart = np.hypot(off[:, 0], off[:, 1])
        if apart.max() > tolerance:
            at = first + 1 + int(apart.argmax())
            kept[at] = True
            waiting += [(first, at), (at, last)]
    fewer: np.ndarray = ring[kept[:-1]]
    return fewer if len(fewer) >= 3 else ring


def _rings(part: np.ndarray) -> list[np.ndarray]:
    """The rings around a part of 4-connected pixels, which lies to the right of each; (N, 2) x, y.

    The first is the outer one.
    """
    cells = np.pad(part, 1)
    # by direction, where an edge has the part on its right, and its first corner
    sides = (
        (cells[1:] & ~cells[:-1], 1, 0),
        (cells[:, :-1] & ~cells[:, 1:], 0, 1),
        (cells[:-1] & ~cells[1:], 1, 1),
        (cells[:, 1:] & ~cells[:, :-1], 1, 1),
    )
    edges: dict[tuple[int, int], list[int]] = {}
    for direction, (found, down, across) in enumerate(sides):
        for y, x in np.argwhere(found).tolist():
            edges.setdefault((y + down, x + across), []).append(direction)
    used: set[tuple[tuple[int, int], int]] = set()
    return [
        _ring(edges, corner, direction, used) - 1.0  # without the border
        for corner in sorted(edges)
        for direction in edges[corner]
        if (corner, direction) not in used
    ]


def _ring(
    edges: dict[tuple[int, int], list[int]],
    corner: tuple[int, int],
    direction: int,
    used: set[tuple[tuple[int, int], int]],
) -> np.ndarray:
    """Follow edges until they are back at the first."""
    points: list[tuple[int, int]] = []
    at, way, before = corner, direction, -1
    while (at, way) not in used:
        used.add((at, way))
        if way != before:
            points.append((at[1], at[0]))
        at, before = (at[0] + _STEPS[way][0], at[1] + _STEPS[way][1]), way
        # where two edges lead on, stay beside the same pixel outside: the one to the left
        way = next(
            turn for turn in ((before - 1) % 4, before, (before + 1) % 4) if turn in edges[at]
        )
    if before == direction:
        points.pop(0)  # the first edge goes on the last one
    return np.array(points, float)
