import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsss.evaluate import Counts, confusion_matrix, group_ids, summary
from wsss.evaluate.metrics import dice, fn_share, fp_share, image_iou, iou, mean_iou

masks = hnp.array_shapes(min_dims=2, max_dims=2, max_side=8).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 255]))
)
matrices = hnp.arrays(np.int64, (4, 5), elements=st.integers(0, 3))

WORKED = np.array([[50, 10], [5, 35]])


def test_worked_example() -> None:
    counts = Counts.of(WORKED)
    assert iou(counts).round(4).tolist() == [0.7692, 0.7]
    assert fp_share(counts).round(4).tolist() == [0.0769, 0.2]
    assert fn_share(counts).round(4).tolist() == [0.1538, 0.1]
    assert round(float(mean_iou(counts)), 4) == 0.7346
    union = np.array([65, 50])  # IRN's own way to write the two shares
    np.testing.assert_allclose(fp_share(counts), 1 - np.array([60, 40]) / union)
    np.testing.assert_allclose(fn_share(counts), 1 - np.array([55, 45]) / union)


def test_summary_of_the_worked_example() -> None:
    found = summary(Counts.of(WORKED), ["smoke"], {})
    assert found["pixel_accuracy"] == pytest.approx(85 / 100)
    assert found["mean_accuracy"] == pytest.approx((50 / 60 + 35 / 40) / 2)
    assert found["mean_fp_share"] == pytest.approx(0.2)  # the foreground alone
    assert found["mean_fn_share"] == pytest.approx(0.1)
    assert found["iou"] == {"background": pytest.approx(50 / 65), "smoke": pytest.approx(0.7)}


def test_two_sets_iou_and_dice() -> None:
    """|A| = 6, |B| = 5, 3 in common: 3 / 8, and 6 / 11."""
    counts = Counts.of(np.array([[92, 2], [3, 3]]))
    assert iou(counts)[1] == pytest.approx(0.375)
    assert dice(counts)[1] == pytest.approx(6 / 11)
    assert float(image_iou(counts)) == pytest.approx(0.375)


def test_groups_hold_the_background_and_only_their_own_classes() -> None:
    counts = Counts.of(np.diag([4, 3, 0, 1]) + np.eye(4, k=1, dtype=int) * [0, 0, 1, 0])
    found = summary(counts, ["cat", "cow", "dog"], {"pets": ["dog", "cat"], "farm": ["cow"]})
    iou_of = found["iou"]
    assert found["mean_iou_pets"] == pytest.approx(
        (iou_of["background"] + iou_of["cat"] + iou_of["dog"]) / 3
    )
    assert found["mean_iou_farm"] == pytest.approx((iou_of["background"] + iou_of["cow"]) / 2)


def test_a_class_nobody_has_is_left_out_of_means_but_a_false_one_is_not() -> None:
    absent = summary(Counts.of(np.diag([4, 0, 2])), ["a", "b"], {})
    assert absent["mean_iou"] == 1
    assert "a" not in absent["iou"]
    only_predicted = summary(Counts.of(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]])), ["a", "b"], {})
    assert only_predicted["iou"]["a"] == 0
    assert only_predicted["mean_iou"] == pytest.approx((3 / 4 + 0 + 1) / 3)


def test_unknown_class_in_a_group_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"class_groups\.pets names 'dgo'.*did you mean 'dog'\?"):
        group_ids({"pets": ["dgo"]}, ["cat", "dog"])


def test_image_iou_when_both_are_empty_and_when_all_is_ignored() -> None:
    assert float(image_iou(Counts.of(np.array([[9, 0], [0, 0]])))) == 1
    assert np.isnan(image_iou(Counts.of(np.zeros((2, 2), int))))


def test_image_iou_asks_for_the_right_class() -> None:
    matrix = np.array([[5, 0, 1], [0, 2, 3], [1, 0, 4]])
    assert float(image_iou(Counts.of(matrix))) == pytest.approx((2 + 4) / (16 - 5))


@given(masks)
def test_perfect_prediction_scores_one(mask: np.ndarray) -> None:
    found = summary(Counts.of(confusion_matrix(mask, mask, 4)), ["a", "b", "c"], {})
    if (mask == 255).all():
        assert found == {"iou": {}, "dice": {}, "fp_share": {}, "fn_share": {}}
    else:
        assert found["mean_iou"] == found["mean_dice"] == found["pixel_accuracy"] == 1
        assert found["mean_accuracy"] == 1
        assert set(found["iou"].values()) == {1}


@given(matrices)
def test_shares_and_iou_add_up_to_one(matrix: np.ndarray) -> None:
    counts = Counts.of(matrix)
    total = iou(counts) + fp_share(counts) + fn_share(counts)
    np.testing.assert_allclose(total[counts.union > 0], 1)


@given(matrices, st.permutations(range(4)))
def test_permuting_classes_permutes_scores(matrix: np.ndarray, order: list[int]) -> None:
    permuted = matrix[np.ix_(order, [*order, 4])]
    for metric in (iou, dice, fp_share, fn_share):
        np.testing.assert_array_equal(metric(Counts.of(permuted)), metric(Counts.of(matrix))[order])


@given(matrices)
def test_counting_ignored_pixels_as_missed_never_raises_a_score(matrix: np.ndarray) -> None:
    labelled, strict = iou(Counts.of(matrix[:, :4])), iou(Counts.of(matrix))
    assert not (strict > labelled).any()


@given(matrices)
def test_dice_follows_from_iou(matrix: np.ndarray) -> None:
    counts = Counts.of(matrix)
    np.testing.assert_allclose(dice(counts), 2 * iou(counts) / (1 + iou(counts)))
