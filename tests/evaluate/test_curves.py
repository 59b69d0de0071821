import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.artifacts import ScoreMap
from wsss.evaluate import Counts, ThresholdCurve, confusion_matrix, score_histogram, threshold_grid
from wsss.evaluate.metrics import image_iou

NUM_CLASSES = 4


def draw_image(rng: np.random.Generator, step: float) -> tuple[np.ndarray, ScoreMap]:
    """An image of random size, with scores that often sit exactly on a threshold or tie."""
    height, width = rng.integers(1, 9, 2).tolist()
    ids = np.sort(rng.choice([1, 2, 3], rng.integers(0, 4), replace=False)).astype(np.uint8)
    scores = rng.random((len(ids), height, width)).astype(np.float32)
    on_grid = np.float32(1) * np.round(scores / step) * step
    scores = np.where(rng.random(scores.shape) < 0.5, np.clip(on_grid, 0, 1), scores)
    gt_mask = rng.choice([0, 1, 2, 3, 255], (height, width)).astype(np.uint8)
    score_map = ScoreMap(
        ids, scores.astype(np.float32), (height, width), np.ones(len(ids), np.float32)
    )
    return gt_mask, score_map


def labels_at(score_map: ScoreMap, threshold: float) -> np.ndarray:
    """The definition: argmax over (background = threshold, classes), the first wins a tie."""
    background = np.full((1, *score_map.size), threshold, np.float32)
    stack = np.concatenate([background, score_map.full_scores()])
    labels: np.ndarray = np.array([0, *score_map.class_ids], np.uint8)[stack.argmax(axis=0)]
    return labels


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.5]))
def test_equals_labelling_at_every_threshold(seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    images = [draw_image(rng, step) for _ in range(3)]
    curve = ThresholdCurve(NUM_CLASSES, step)
    for gt_mask, score_map in images:
        histogram = score_histogram(gt_mask, score_map, NUM_CLASSES, curve.thresholds)
        curve.add(histogram, score_map.class_ids)
    counts, mean_of_images, foreground = curve.counts(), curve.image_iou(), curve.foreground_iou()
    gt = np.concatenate([gt_mask.ravel() for gt_mask, _ in images])
    for index, threshold in enumerate(curve.thresholds.tolist()):
        each = [
            confusion_matrix(gt_mask, labels_at(score_map, threshold), NUM_CLASSES)
            for gt_mask, score_map in images
        ]
        pooled = np.sum(each, axis=0)
        assert (curve.confusion(index) == pooled[:, :-1]).all()
        expected = Counts.of(pooled)
        assert (counts.correct[index] == expected.correct).all()
        assert (counts.gt[index] == expected.gt).all()
        assert (counts.predicted[index] == expected.predicted).all()
        of_images = [image_iou(Counts.of(matrix)) for matrix in each if matrix.any()]
        if of_images:
            assert mean_of_images[index] == pytest.approx(np.mean(of_images))
        labels = np.concatenate([labels_at(image, threshold).ravel() for _, image in images])
        drawn, found = gt[gt < 255] > 0, labels[gt < 255] > 0
        if (drawn | found).any():
            assert foreground[index] == pytest.approx((drawn & found).sum() / (drawn | found).sum())
        else:
            assert np.isnan(foreground[index])


def test_scores_on_a_coarse_grid_are_compared_at_full_resolution() -> None:
    rng = np.random.default_rng(3)
    score_map = ScoreMap(
        np.array([1, 3], np.uint8),
        rng.random((2, 3, 4)).astype(np.float32),
        (11, 17),
        np.ones(2, np.float32),
    )
    gt_mask = rng.integers(0, 4, (11, 17)).astype(np.uint8)
    curve = ThresholdCurve(NUM_CLASSES, 0.1)
    curve.add(
        score_histogram(gt_mask, score_map, NUM_CLASSES, curve.thresholds), score_map.class_ids
    )
    expected = confusion_matrix(gt_mask, labels_at(score_map, 0.4), NUM_CLASSES)
    assert (curve.confusion(4) == expected[:, :-1]).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_blocks_of_rows_add_up_to_the_image(seed: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 14, 2).tolist())
    scores = rng.random((rng.integers(0, 4), *rng.integers(1, 9, 2)), np.float32)
    ids = np.arange(1, len(scores) + 1, dtype=np.uint8)
    score_map = ScoreMap(ids, scores, size, np.ones(len(ids), np.float32))
    gt_mask = rng.choice([0, 1, 2, 3, 255], size).astype(np.uint8)
    thresholds = threshold_grid(0.1)
    whole = score_histogram(gt_mask, score_map, NUM_CLASSES, thresholds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsss.artifacts.score_map.BLOCK_PIXELS", limit)
        found = score_histogram(gt_mask, score_map, NUM_CLASSES, thresholds)
    assert found.dtype == whole.dtype
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("step", [0.01, 0.05, 0.07, 0.1, 1 / 3, 0.3, 0.5])
def test_grid_runs_from_zero_to_one(step: float) -> None:
    grid = threshold_grid(step)
    assert grid[0] == 0
    assert grid[-1] == 1
    assert len(grid) == int(np.ceil(1 / step - 1e-9)) + 1
    np.testing.assert_allclose(np.diff(grid)[:-1], step, atol=2e-6)
    assert 0 < grid[-1] - grid[-2] <= step + 2e-6


def one_row(gt: list[int], scores: list[float]) -> ThresholdCurve:
    """A curve with thresholds 0, .5, 1 from one image of one row and class 1."""
    curve = ThresholdCurve(2, 0.5)
    score_map = ScoreMap(
        np.array([1], np.uint8),
        np.array([[scores]], np.float32),
        (1, len(gt)),
        np.ones(1, np.float32),
    )
    gt_mask = np.array([gt], np.uint8)
    curve.add(score_histogram(gt_mask, score_map, 2, curve.thresholds), score_map.class_ids)
    return curve


def test_precision_recall_by_hand() -> None:
    curve = one_row([1, 1, 0, 0], [0.9, 0.2, 0.3, 0.0])
    precision, recall = curve.precision_recall()
    np.testing.assert_allclose(precision, [2 / 3, 1, 1])  # of three, one, and no pixels
    np.testing.assert_allclose(recall, [1, 0.5, 0])
    assert curve.average_precision() == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_average_precision_of_a_perfect_ranking_is_one() -> None:
    assert one_row([1, 0, 255], [0.9, 0.0, 0.8]).average_precision() == 1
    assert np.isnan(one_row([0, 0, 255], [0.9, 0.0, 0.8]).average_precision())


def test_an_ignored_image_counts_nowhere() -> None:
    curve = one_row([255, 255], [0.9, 0.1])
    assert curve.images == 1
    assert not curve.counts().gt.any()
    assert np.isnan(curve.image_iou()).all()


def test_mask_of_another_size_is_refused() -> None:
    score_map = ScoreMap(
        np.array([1], np.uint8), np.zeros((1, 2, 2), np.float32), (4, 4), np.ones(1, np.float32)
    )
    with pytest.raises(ValueError, match=r"\(4, 4\), but has \(4, 5\)"):
        score_histogram(np.zeros((4, 5), np.uint8), score_map, 2, threshold_grid(0.5))
