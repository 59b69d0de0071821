import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsss.evaluate import confusion, confusion_matrix
from wsss.evaluate.confusion import merge_foreground

NUM_CLASSES = 4
values = st.sampled_from([0, 1, 2, 3, 255])
shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
pairs = shapes.flatmap(lambda shape: st.tuples(*[hnp.arrays(np.uint8, shape, elements=values)] * 2))


@given(pairs)
def test_equals_counting_pixel_by_pixel(pair: tuple[np.ndarray, np.ndarray]) -> None:
    gt_mask, mask = pair
    expected = np.zeros((NUM_CLASSES, NUM_CLASSES + 1), int)
    for true, found in zip(gt_mask.flat, mask.flat, strict=True):
        if true != 255:
            expected[true, NUM_CLASSES if found == 255 else found] += 1
    assert (confusion_matrix(gt_mask, mask, NUM_CLASSES) == expected).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confusion, "BLOCK_PIXELS", 7)  # a few rows, as of a large image
        assert (confusion_matrix(gt_mask, mask, NUM_CLASSES) == expected).all()


@pytest.mark.parametrize("wrong", [NUM_CLASSES, 254])
def test_values_that_are_no_class_are_refused(wrong: int) -> None:
    fine, bad = np.zeros((1, 2), np.uint8), np.array([[0, wrong]], np.uint8)
    with pytest.raises(ValueError, match=rf"^mask holds \[{wrong}\]"):
        confusion_matrix(fine, bad, NUM_CLASSES)
    with pytest.raises(ValueError, match=rf"^gt_mask holds \[{wrong}\]"):
        confusion_matrix(bad, fine, NUM_CLASSES)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 3\), but has \(3, 2\)"):
        confusion_matrix(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)


@given(pairs)
def test_merging_is_counting_with_all_classes_as_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    matrix = confusion_matrix(*pair, NUM_CLASSES)
    as_one = [np.where((mask > 0) & (mask < 255), 1, mask).astype(np.uint8) for mask in pair]
    expected = confusion_matrix(*as_one, 2)
    assert (merge_foreground(matrix) == expected).all()
    assert (merge_foreground(matrix[:, :-1]) == expected[:, :-1]).all()
