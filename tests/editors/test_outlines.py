"""Outlines lose nothing, whoever fills them, and are polygons by the rules of geometry."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from wsss.data.drawn_masks import filled_polygons
from wsss.editors.outlines import Outline, outlines, simplified, without_holes

regions = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))
RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)
"""A hole that meets the outside at a corner."""


def area(ring: np.ndarray) -> float:
    """By the shoelace formula; positive of one that is clockwise, as rows go down."""
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


@settings(max_examples=150)
@given(regions)
@example(RING)
@example(np.array([[1, 0], [0, 1]], bool))
def test_nothing_is_lost_and_rings_are_simple(inside: np.ndarray) -> None:
    parts = outlines(inside)
    assert len(parts) == ndimage.label(inside)[1]
    filled = np.zeros_like(inside)
    for part in parts:
        own = filled_polygons([part.outer], inside.shape)
        for hole in part.holes:
            own &= ~filled_polygons([hole], inside.shape)
            assert area(hole) < 0
        filled |= own
        for ring in (part.outer, *part.holes):
            assert len({tuple(point) for point in ring.tolist()}) == len(ring)
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all()  # along the borders of pixels
            assert (np.roll(steps, 1, axis=0) * steps == 0).all()  # and a corner at each point
    assert (filled == inside).all()
    total = sum(area(ring) for part in parts for ring in (part.outer, *part.holes))
    assert total == inside.sum()


@settings(max_examples=150)
@given(regions)
@example(RING)
def test_one_ring_with_ways_to_its_holes_loses_nothing_either(inside: np.ndarray) -> None:
    rings = [without_holes(part) for part in outlines(inside)]
    filled = filled_polygons(rings, inside.shape) if rings else np.zeros_like(inside)
    assert (filled == inside).all()


def test_shares_of_the_sides_lose_nothing() -> None:
    """As YOLO writes them: sides that no fraction of two divides."""
    inside = np.random.default_rng(0).random((37, 53)) < 0.6
    sides = np.array([53, 37], float)
    rings = [np.round(without_holes(part) / sides, 9) * sides for part in outlines(inside)]
    assert (filled_polygons(rings, inside.shape) == inside).all()


@pytest.mark.parametrize(("tolerance", "share"), [(0.8, 0.6), (2.0, 0.2)])
def test_fewer_corners_are_near_the_outline(tolerance: float, share: float) -> None:
    y, x = np.mgrid[:60, :80]
    inside = (np.hypot(y - 30, x - 40) < 25) & (np.hypot(y - 30, x - 40) > 8)
    (part,) = outlines(inside)
    fewer = simplified(part, tolerance)
    assert len(fewer.outer) < share * len(part.outer)
    assert len(fewer.holes) == 1
    filled = filled_polygons([without_holes(fewer)], inside.shape)
    near = ndimage.binary_dilation(inside, iterations=3) & ~ndimage.binary_erosion(
        inside, iterations=3
    )
    assert not ((filled != inside) & ~near).any()


def test_no_tolerance_changes_nothing_and_small_holes_go() -> None:
    part = Outline(
        np.array([[0, 0], [9, 0], [9, 9], [0, 9]], float),
        (np.array([[3, 3], [3, 4], [4, 4], [4, 3]], float),),
    )
    assert simplified(part, 0) is part
    assert simplified(part, 1).holes == ()
    assert (simplified(part, 1).outer == part.outer).all()
