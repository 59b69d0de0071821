import numpy as np
import pytest

from wsss.artifacts import ScoreMap
from wsss.evaluate import (
    LabelScores,
    ThresholdCurve,
    best_threshold,
    curve_columns,
    label_report,
    score_histogram,
    score_map_report,
)


def curve(gt: list[int], scores: list[float]) -> ThresholdCurve:
    """Thresholds 0, .1, ..., 1 over one row of pixels of class 1 of 2."""
    found = ThresholdCurve(3, 0.1)
    score_map = ScoreMap(
        np.array([1], np.uint8),
        np.array([[scores]], np.float32),
        (1, len(gt)),
        np.ones(1, np.float32),
    )
    histogram = score_histogram(np.array([gt], np.uint8), score_map, 3, found.thresholds)
    found.add(histogram, score_map.class_ids)
    return found


# 0.7 parts the classes on selection; val would like 0.3
SELECTION = curve([1, 1, 0, 0], [0.9, 0.75, 0.65, 0.1])
VAL = curve([1, 1, 0, 0], [0.9, 0.35, 0.25, 0.1])


def test_threshold_comes_from_selection_and_the_best_of_val_is_marked_oracle() -> None:
    report = score_map_report({"selection": SELECTION, "val": VAL}, ["a", "b"], {}, "mean_iou")
    assert report["threshold"] == 0.7
    assert report["oracle"]["val"]["threshold"] == 0.3
    # at the selected threshold one of val's two foreground pixels is missed
    assert report["val"]["iou"] == {"background": pytest.approx(2 / 3), "a": 0.5}
    assert report["val"]["mean_iou"] == pytest.approx((2 / 3 + 0.5) / 2)
    assert report["oracle"]["val"]["mean_iou"] > report["val"]["mean_iou"]
    assert report["oracle"]["selection"]["mean_iou"] == report["selection"]["mean_iou"]
    assert "selection split" in report["protocol"]["threshold"]
    assert "tags" in report["protocol"]["tags"]
    assert report["val"]["images"] == 1


def test_without_masks_on_selection_only_the_oracle_is_given() -> None:
    report = score_map_report({"val": VAL}, ["a", "b"], {}, "mean_iou")
    assert set(report) == {"protocol", "oracle"}
    assert report["protocol"]["threshold"].startswith("none")


def test_without_any_masks_the_report_says_so() -> None:
    for report in (
        score_map_report({}, ["a", "b"], {}, "mean_iou"),
        label_report({}, ["a", "b"], {}, from_tags=False),
    ):
        assert report["protocol"]["ground_truth"].startswith("none")
        assert not report.get("oracle")


def test_select_by_a_group_ignores_other_classes() -> None:
    """Class b is only ever missed, so a group with it halves the value but not the choice."""
    both = curve([1, 2, 0, 0], [0.9, 0.0, 0.8, 0.1])
    index, value = best_threshold(both, ["a", "b"], {"first": ["a"]}, "mean_iou_first") or (0, 0)
    assert both.thresholds[index] == pytest.approx(0.8)
    assert value == pytest.approx((2 / 3 + 1) / 2)
    same_index, of_all = best_threshold(both, ["a", "b"], {}, "mean_iou") or (0, 0)
    assert same_index == index
    assert of_all == pytest.approx((2 / 3 + 1) / 3)


def test_select_by_foreground_or_by_image() -> None:
    """The winner is class 1 everywhere: class 2 is found, though as another; at 0 all is taken."""
    two = curve([1, 1, 2, 2, 2, 0], [0.95, 0.85, 0.65, 0.65, 0.65, 0.2])

    def best(select_by: str) -> tuple[float, float]:
        index, value = best_threshold(two, ["a", "b"], {}, select_by) or (0, 0)
        return float(two.thresholds[index]), value

    assert best("foreground_iou") == (0.2, 1)
    assert best("iou_image_mean") == (0.2, pytest.approx(2 / 5))
    assert best("mean_iou") == (0.2, pytest.approx((1 + 2 / 5 + 0) / 3))
    selection = curve([1, 1, 2, 0, 0], [0.95, 0.85, 0.65, 0.65, 0.65])
    selection.add(
        score_histogram(
            np.array([[0] * 20], np.uint8),
            ScoreMap(
                np.array([1], np.uint8),
                np.full((1, 1, 20), 0.9, np.float32),
                (1, 20),
                np.ones(1, np.float32),
            ),
            3,
            selection.thresholds,
        ),
        np.array([1], np.uint8),
    )
    report = score_map_report({"selection": selection}, ["a", "b"], {}, "foreground_iou")
    assert report["threshold"] == 0.9  # the 20 false pixels weigh more than the pet
    assert report["selection"]["foreground_iou"] == pytest.approx(1 / 3)
    assert report["oracle"]["selection"]["foreground_iou"] == pytest.approx(1 / 3)
    # one image at (1/3, right: 1 of 2 pixels of a, b missed) and one at 1, both empty
    assert report["selection"]["iou_image_mean"] == pytest.approx((1 / 3 + 1) / 2)


def test_foreground_iou_forgives_the_wrong_class_and_image_iou_does_not() -> None:
    matrix = np.array([[5, 0, 1, 0], [0, 2, 3, 2], [1, 0, 4, 0]])
    val = label_report({"val": LabelScores(matrix, 1, 0.5)}, ["a", "b"], {}, from_tags=True)["val"]
    assert val["foreground_iou"] == pytest.approx(9 / (9 + 1 + 1))
    assert val["strict"]["foreground_iou"] == pytest.approx(9 / (9 + 1 + 1 + 2))
    assert val["iou_image_mean"] == 0.5


def test_nothing_to_choose_on() -> None:
    for select_by in ("mean_iou", "foreground_iou", "iou_image_mean"):
        assert best_threshold(curve([255], [0.5]), ["a", "b"], {}, select_by) is None


NOTHING_DRAWN = {
    "all background": [0, 0, 0, 0],
    "all ignored": [255, 255, 255, 255],
    "background and ignored, as masks of 0 and 255 are": [0, 0, 255, 255],
}


@pytest.mark.parametrize(
    "select_by", ["mean_iou", "mean_iou_b", "foreground_iou", "iou_image_mean"]
)
@pytest.mark.parametrize("gt", NOTHING_DRAWN.values(), ids=NOTHING_DRAWN)
def test_no_threshold_is_chosen_where_no_class_is_drawn(gt: list[int], select_by: str) -> None:
    """To predict nothing would be best, with a score of 1."""
    groups = {"b": ["b"]}
    found = curve(gt, [0.9, 0.35, 0.25, 0.1])
    assert best_threshold(found, ["a", "b"], groups, select_by) is None
    report = score_map_report({"selection": found, "val": VAL}, ["a", "b"], groups, select_by)
    assert "threshold" not in report and "val" not in report
    assert report["protocol"]["threshold"].startswith("none, as no mask of the selection split")


def test_no_threshold_is_chosen_by_a_group_that_is_not_drawn() -> None:
    assert best_threshold(VAL, ["a", "b"], {"b": ["b"]}, "mean_iou_b") is None
    assert best_threshold(VAL, ["a", "b"], {"b": ["b"]}, "mean_iou") is not None


@pytest.mark.parametrize("gt", NOTHING_DRAWN.values(), ids=NOTHING_DRAWN)
def test_where_no_class_is_drawn_nothing_is_scored(gt: list[int]) -> None:
    """Neither 1 for predicting nothing nor 0 for anything else; curves are empty there, too."""
    empty = curve(gt, [0.0] * 4)
    report = score_map_report({"selection": SELECTION, "val": empty}, ["a", "b"], {}, "mean_iou")
    assert report["val"] == {"images": 1}
    assert "val" not in report["oracle"] and "selection" in report["oracle"]
    columns = curve_columns({"val": empty}, ["a", "b"], {"b": ["b"]})
    assert all(np.isnan(values).all() for values in columns.values())
    matrix = np.zeros((3, 4), np.int64)
    matrix[0, 0] = gt.count(0)
    labels = label_report({"val": LabelScores(matrix, 1, 1.0)}, ["a", "b"], {}, from_tags=False)
    assert labels["val"] == {"images": 1}


def test_a_group_that_is_not_drawn_has_no_mean() -> None:
    groups = {"b": ["b"], "both": ["a", "b"]}
    report = score_map_report({"selection": SELECTION}, ["a", "b"], groups, "mean_iou")["selection"]
    assert "mean_iou_b" not in report and "mean_iou_both" in report
    columns = curve_columns({"val": VAL}, ["a", "b"], groups)
    assert np.isnan(columns["val_mean_iou_b"]).all()
    assert not np.isnan(columns["val_mean_iou_both"]).any()


def test_pseudo_masks_that_ignore_all_objects_score_strictly_or_not_at_all() -> None:
    """What is left has the background alone, all of it right."""
    matrix = np.array([[9, 0, 0, 1], [0, 0, 0, 4], [0, 0, 0, 2]])
    scores = {"val": LabelScores(matrix, 1, 1.0)}
    val = label_report(scores, ["a", "b"], {}, from_tags=True)["val"]
    assert set(val) == {"images", "coverage", "strict"}
    assert val["strict"]["mean_iou"] == pytest.approx(9 / 10 / 3)
    assert val["strict"]["foreground_iou"] == 0


def test_the_mean_of_the_foreground_leaves_the_background_out() -> None:
    matrix = np.array([[95, 0, 0, 0], [3, 0, 0, 0], [1, 0, 1, 0]])
    scores = {"val": LabelScores(matrix, 1, 0.5)}
    val = label_report(scores, ["a", "b"], {}, from_tags=False)["val"]
    assert val["mean_iou_foreground"] == pytest.approx((0 + 1 / 2) / 2)
    assert val["mean_iou"] == pytest.approx((95 / 99 + 0 + 1 / 2) / 3)


def test_pseudo_masks_show_coverage_and_the_stricter_number() -> None:
    matrix = np.array([[6, 0, 0, 2], [1, 3, 0, 0], [0, 0, 0, 0]])
    scores = {"val": LabelScores(matrix, 1, 0.75)}
    val = label_report(scores, ["a", "b"], {"all": ["a", "b"]}, from_tags=True)["val"]
    assert val["coverage"] == pytest.approx(10 / 12)
    assert val["mean_iou"] == pytest.approx((6 / 7 + 3 / 4) / 2)
    assert val["strict"] == {
        "mean_iou": pytest.approx((6 / 9 + 3 / 4) / 2),
        "mean_iou_all": pytest.approx((6 / 9 + 3 / 4) / 2),
        "foreground_iou": pytest.approx(3 / 4),
    }
    predicted = label_report(scores, ["a", "b"], {}, from_tags=False)
    assert predicted["protocol"]["tags"] == "none"
    assert "coverage" not in predicted["val"]


def test_curves_have_a_value_per_threshold() -> None:
    curves = {"val": VAL, "train": curve([0, 255], [0.5, 0.5])}
    columns = curve_columns(curves, ["a", "b"], {"cats": ["a"]})
    assert {len(values) for values in columns.values()} == {len(VAL.thresholds)} == {11}
    fn, fp = columns["val_fn"].tolist(), columns["val_fp"].tolist()
    assert fn == sorted(fn)  # a higher threshold activates less
    assert fp == sorted(fp, reverse=True)
    assert (fn[-1], fp[-1]) == (1, 0)
    assert columns["val_mean_iou"][5] == pytest.approx((2 / 3 + 0.5) / 2)
    assert columns["val_mean_iou_cats"][5] == pytest.approx((2 / 3 + 0.5) / 2)
    assert columns["val_foreground_iou"][5] == columns["val_iou_image_mean"][5] == 0.5
    assert np.isnan(columns["train_recall"]).all()  # no foreground: nothing to find
