"""Boxes and seeds on pseudo masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss.artifacts import Box, ScoreMap, inside_boxes
from wsss.config.segmentation import PseudoMaskSettings
from wsss.segment.given import impose
from wsss.segment.pseudo_masks import pseudo_mask

SIZE = (8, 10)


def boxes_in(rng: np.random.Generator) -> list[Box]:
    found = []
    for _ in range(rng.integers(0, 5)):
        top, left = int(rng.integers(0, SIZE[0])), int(rng.integers(0, SIZE[1]))
        bottom, right = (
            int(rng.integers(a + 1, n + 1)) for a, n in zip((top, left), SIZE, strict=True)
        )
        found.append(Box(int(rng.choice([1, 3])), top, left, bottom, right))
    return found


@given(st.integers(0, 10**6), st.sampled_from(["constant", "power"]))
def test_a_mask_keeps_to_boxes_and_seeds_and_shows_every_box(seed, background):
    rng = np.random.default_rng(seed)
    scores = rng.random((2, 3, 4), np.float32) * rng.random((2, 1, 1), np.float32)
    maps = ScoreMap(np.array([1, 3], np.uint8), scores, SIZE, np.ones(2, np.float32))
    boxes = boxes_in(rng)
    inside = inside_boxes(boxes, SIZE)
    settings = PseudoMaskSettings(background=background, ignore_below=0.2, min_area_share=0.05)
    before = pseudo_mask(maps, settings, 0.3, None, inside)
    seeds = np.full(SIZE, 255, np.uint8)
    for _ in range(rng.integers(0, 3)):
        y, x = int(rng.integers(0, SIZE[0])), int(rng.integers(0, SIZE[1]))
        class_id = int(rng.choice([0, 1, 3]))
        if class_id == 0 or class_id not in inside or inside[class_id][y, x]:
            seeds[y, x] = class_id
    mask, filled = impose(before, boxes, seeds)
    for class_id, within in inside.items():
        assert not (mask == class_id)[~within].any()
    drawn = seeds != 255
    assert (mask[drawn] == seeds[drawn]).all()
    assert {*np.unique(mask).tolist()} <= {0, 1, 3, 255}
    empty = [
        box
        for box in boxes
        if not (
            np.where(drawn, seeds, before)[box.top : box.bottom, box.left : box.right]
            == box.class_id
        ).any()
    ]
    assert filled == empty
    if not empty:
        np.testing.assert_array_equal(mask, np.where(drawn, seeds, before))
    if not boxes and not drawn.any():
        np.testing.assert_array_equal(before, pseudo_mask(maps, settings, 0.3))


def test_a_filled_box_leaves_what_smaller_boxes_and_seeds_hold():
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 1], mask[2, 4] = 2, 3
    seeds = np.full((4, 6), 255, np.uint8)
    seeds[3, 5] = 0
    found, filled = impose(mask, [Box(1, 0, 0, 4, 6), Box(2, 1, 1, 2, 2)], seeds)
    assert filled == [Box(1, 0, 0, 4, 6)]
    assert (found == 1).sum() == 4 * 6 - 2
    assert found[1, 1] == 2 and found[3, 5] == 0
    assert found[2, 4] == 1  # a class without a box there gives way


@pytest.mark.parametrize(
    "doubt", [{"ignore_below_prob": 0.9}, {"min_area_share": 0.5}, {"ignore_margin": 0.6}]
)
def test_a_box_is_filled_where_nothing_was_found_and_not_where_it_was_doubted(doubt):
    scores = np.array([[[0.7, 0.7, 0, 0, 0, 0]]], np.float32)
    maps = ScoreMap(np.array([1], np.uint8), scores, (1, 6), np.array([0.6], np.float32))
    settings = PseudoMaskSettings(**{"ignore_margin": 0} | doubt)
    boxes = [Box(1, 0, 0, 1, 3), Box(1, 0, 4, 1, 6)]
    inside = inside_boxes(boxes, (1, 6))
    mask = pseudo_mask(maps, settings, 0.5, None, inside)
    found = pseudo_mask(maps, settings.without_doubt(), 0.5, None, inside)
    assert found.tolist() == [[1, 1, 0, 0, 0, 0]]
    mask, filled = impose(mask, boxes, None, found)
    assert filled == boxes[1:]
    assert mask[0, :2].tolist() == [255, 255] and mask[0, 4:].tolist() == [1, 1]
