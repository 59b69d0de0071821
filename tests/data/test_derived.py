"""Boxes, points and scribbles of masks against what a person would give of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from wsss.data.derived import boxes_of, points_of, scribbles_of

masks = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 1, 3, 255]),
)


@settings(deadline=None)  # the first one imports scipy
@given(masks)
def test_boxes_hold_all_of_a_class_and_their_edges_touch_it(mask):
    boxes = boxes_of(mask)
    for class_id in (1, 3):
        inside = np.zeros(mask.shape, bool)
        for box in (box for box in boxes if box.class_id == class_id):
            part = mask[box.top : box.bottom, box.left : box.right] == class_id
            inside[box.top : box.bottom, box.left : box.right] = True
            assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
        assert inside[mask == class_id].all()
    assert {box.class_id for box in boxes} == {*np.unique(mask).tolist()} - {0, 255}


@pytest.mark.parametrize("make", [points_of, scribbles_of])
@given(mask=masks)
def test_seeds_are_right_wherever_they_are_and_in_every_box(make, mask):
    seeds = make(mask)
    drawn = seeds != 255
    assert (seeds[drawn] == mask[drawn]).all()
    assert {*seeds[drawn].tolist()} == {*np.unique(mask).tolist()} - {255}
    for box in boxes_of(mask):
        assert (seeds[box.top : box.bottom, box.left : box.right] == box.class_id).any()
    np.testing.assert_array_equal(make(mask), seeds)


@given(mask=masks)
def test_a_point_is_one_of_each_part_and_lies_deepest(mask):
    points = points_of(mask)
    assert (points[points != 255] != 0).sum() == len(boxes_of(mask))
    assert (points == 0).sum() == (mask == 0).any()


def test_a_stroke_runs_along_the_middle():
    mask = np.zeros((15, 60), np.uint8)
    mask[3:12, 5:55] = 2
    strokes = scribbles_of(mask)
    ys, xs = np.nonzero(strokes == 2)
    assert set(ys) <= {6, 7, 8}
    assert xs.max() - xs.min() >= 36
    assert (strokes == 0).sum() > 10
