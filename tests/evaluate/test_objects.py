"""Objects that are hit, counted by hand."""

from pathlib import Path

import numpy as np
import pytest

from wsss.artifacts import Sample, write_label_png
from wsss.evaluate import evaluate_labels
from wsss.evaluate.objects import SIZES, FoundObjects, object_overlaps


def painted(*boxes: tuple[int, int, int, int, int], side: int = 20) -> np.ndarray:
    """(side, side) uint8 with boxes of (class id, top, left, height, width)."""
    mask = np.zeros((side, side), np.uint8)
    for class_id, top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = class_id
    return mask


def test_an_object_is_held_against_all_areas_that_touch_it_and_no_other() -> None:
    gt_mask = painted((1, 0, 0, 2, 5), (2, 10, 10, 4, 4))
    # two areas touch the first object, 2 pixels each inside; one far from any object
    mask = painted((3, 1, 0, 2, 2), (1, 0, 4, 1, 3), (2, 17, 0, 2, 2))
    ious, shares = object_overlaps(gt_mask, mask)
    np.testing.assert_allclose(ious, [(2 + 1) / (10 + 2 + 2), 0])
    np.testing.assert_allclose(shares, [10 / 400, 16 / 400])


def test_areas_of_two_classes_are_two_objects_and_across_a_corner_one() -> None:
    gt_mask = painted((1, 0, 0, 2, 2), (1, 2, 2, 2, 2), (2, 0, 2, 2, 2))
    ious, shares = object_overlaps(gt_mask, gt_mask)
    np.testing.assert_allclose(shares, [8 / 400, 4 / 400])
    # what is predicted is one area of 12 pixels, whatever the classes
    np.testing.assert_allclose(ious, [8 / 12, 4 / 12])


def test_ignored_pixels_count_on_neither_side() -> None:
    gt_mask = painted((255, 0, 0, 4, 4), (1, 0, 4, 4, 4))
    ious, _ = object_overlaps(gt_mask, painted((1, 0, 0, 4, 8)))
    np.testing.assert_allclose(ious, [1])
    ious, _ = object_overlaps(gt_mask, painted((255, 0, 4, 4, 4)))
    np.testing.assert_allclose(ious, [0])


def test_nothing_drawn_is_no_object() -> None:
    ious, shares = object_overlaps(painted(), painted((1, 0, 0, 4, 4)))
    assert not len(ious) and not len(shares)


def test_counts_by_size(tmp_path: Path) -> None:
    # of 10000 pixels: 4 (tiny), 10 (small, on its bound), 30 (medium), 100 (large)
    boxes = [(1, 0, 0, 2, 2), (1, 10, 0, 2, 5), (1, 20, 0, 3, 10), (1, 40, 0, 10, 10)]
    write_label_png(tmp_path / "gt" / "a.png", painted(*boxes, side=100))
    found = painted((1, 10, 0, 1, 1), (1, 20, 0, 3, 1), (1, 40, 0, 3, 3), side=100)
    write_label_png(tmp_path / "found" / "a.png", found)
    samples = [
        Sample("a", "a.png", (100, 100), (1,), "a.png"),
        Sample("b", "b.png", (100, 100), (1,)),  # without a mask: passed over
    ]
    counts = evaluate_labels(samples, tmp_path / "found", tmp_path / "gt", 1).objects
    # IoU 0, 1/10 (just hit), 3/30 (just hit), 9/100
    assert counts == FoundObjects((1, 1, 1, 1), (0, 1, 1, 0))
    assert counts.report() == {
        "hit": 0.5, "count": 4, "hit_from_medium": 0.5, "count_from_medium": 2,
        "hit_tiny": 0, "count_tiny": 1, "hit_small": 1, "count_small": 1,
        "hit_medium": 1, "count_medium": 1, "hit_large": 0, "count_large": 1,
    }  # fmt: skip


@pytest.mark.parametrize("at", range(len(SIZES)))
def test_a_size_without_objects_has_no_share(at: int) -> None:
    total = tuple(int(place == at) for place in range(len(SIZES)))
    report = FoundObjects(total, total).report()
    expected = {"hit": 1, "count": 1, f"hit_{list(SIZES)[at]}": 1, f"count_{list(SIZES)[at]}": 1}
    if at >= 2:
        expected |= {"hit_from_medium": 1, "count_from_medium": 1}
    assert report == expected
