from pathlib import Path

import numpy as np
import pytest

from wsss import progress
from wsss.artifacts import Sample, ScoreMap, write_label_png, write_score_map
from wsss.evaluate import Counts, evaluate_labels, evaluate_score_maps, score_histogram
from wsss.evaluate.curves import ThresholdCurve
from wsss.evaluate.splits import in_parallel

SIZE = (6, 8)


def make_split(root: Path, number: int) -> list[Sample]:
    """Random masks, score maps and label maps; every third sample has no mask."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(number):
        name = f"ä {index % 2}/image {index:02d}"
        mask = None if index % 3 == 2 else f"gt/{index}.png"
        if mask:
            write_label_png(
                root / "masks" / mask, rng.choice([0, 1, 2, 255], SIZE).astype(np.uint8)
            )
        scores = rng.random((2, 3, 4)).astype(np.float32)
        score_map = ScoreMap(np.array([1, 2], np.uint8), scores, SIZE, np.ones(2, np.float32))
        write_score_map(root / "cams" / f"{name}.npz", score_map)
        labels = rng.choice([0, 1, 2, 255], SIZE).astype(np.uint8)
        write_label_png(root / "labels" / f"{name}.png", labels)
        samples.append(Sample(name, f"{name}.png", SIZE, (1, 2), mask))
    return samples


def test_counts_are_summed_over_samples_with_masks(tmp_path: Path) -> None:
    samples = make_split(tmp_path, 40)
    whole = evaluate_labels(samples, tmp_path / "labels", tmp_path / "masks", 2)
    single = [
        evaluate_labels([sample], tmp_path / "labels", tmp_path / "masks", 2) for sample in samples
    ]
    assert whole.images == sum(scores.images for scores in single) == 27
    assert (whole.matrix == sum(scores.matrix for scores in single)).all()
    assert whole.image_iou == pytest.approx(
        np.mean([scores.image_iou for scores in single if scores.images])
    )
    for scores in single:
        if scores.images:  # a single image: the pooled foreground, on labelled pixels
            right = scores.matrix[[1, 2], [1, 2]].sum()
            union = scores.matrix[:, :3].sum() - scores.matrix[0, 0]
            assert scores.image_iou == pytest.approx(right / union)
    assert 0 < whole.coverage < 1
    assert whole.coverage == pytest.approx(whole.matrix[:, :3].sum() / whole.matrix.sum())
    assert (whole.labelled.gt == whole.matrix[:, :3].sum(axis=1)).all()
    assert (whole.strict.gt == whole.matrix.sum(axis=1)).all()
    assert isinstance(whole.strict, Counts)


def test_score_maps_are_scored_like_one_by_one(tmp_path: Path) -> None:
    samples = make_split(tmp_path, 7)
    whole = evaluate_score_maps(samples, tmp_path / "cams", tmp_path / "masks", 2, 0.1)
    again = evaluate_score_maps(samples[::-1], tmp_path / "cams", tmp_path / "masks", 2, 0.1)
    assert whole.images == 5
    assert (whole.histogram == again.histogram).all()
    singles = [
        evaluate_score_maps([sample], tmp_path / "cams", tmp_path / "masks", 2, 0.1)
        for sample in samples
    ]
    assert (whole.histogram == sum(curve.histogram for curve in singles)).all()
    assert whole.histogram.sum() > 0


def test_no_masks_is_no_score(tmp_path: Path) -> None:
    samples = [sample for sample in make_split(tmp_path, 6) if sample.mask is None]
    assert evaluate_score_maps(samples, tmp_path / "cams", tmp_path / "masks", 2, 0.1).images == 0
    scores = evaluate_labels(samples, tmp_path / "labels", tmp_path / "masks", 2)
    assert scores.images == 0
    assert np.isnan([scores.image_iou, scores.coverage]).all()


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    samples = make_split(tmp_path, 1)
    cams, labels, masks = tmp_path / "cams", tmp_path / "labels", tmp_path / "masks"
    name = samples[0].name
    write_label_png(labels / f"{name}.png", np.full(SIZE, 9, np.uint8))
    with pytest.raises(ValueError, match=r"image 00\.png: mask holds \[9\].*rerun"):
        evaluate_labels(samples, labels, masks, 2)
    write_label_png(labels / f"{name}.png", np.zeros((1, 1), np.uint8))
    with pytest.raises(ValueError, match=r"image 00\.png: mask must have shape \(6, 8\).*rerun"):
        evaluate_labels(samples, labels, masks, 2)
    other = ScoreMap(np.array([3], np.uint8), np.ones((1, 2, 2), np.float32), SIZE, np.ones(1))
    write_score_map(cams / f"{name}.npz", other)
    with pytest.raises(ValueError, match=r"image 00\.npz was made from other images or classes"):
        evaluate_score_maps(samples, cams, masks, 2, 0.1)
    (cams / f"{name}.npz").unlink()
    with pytest.raises(ValueError, match=r"image 00\.npz is not a score map.*rerun"):
        evaluate_score_maps(samples, cams, masks, 2, 0.1)


def test_a_score_map_without_classes_is_background(tmp_path: Path) -> None:
    curve = ThresholdCurve(3, 0.5)
    empty = ScoreMap(
        np.zeros(0, np.uint8), np.zeros((0, 2, 2), np.float32), (2, 2), np.zeros(0, np.float32)
    )
    gt_mask = np.array([[0, 1], [2, 255]], np.uint8)
    curve.add(score_histogram(gt_mask, empty, 3, curve.thresholds), empty.class_ids)
    assert (curve.counts().predicted == [[3, 0, 0]] * 3).all()


def test_how_far_scoring_is_counts_what_is_scored_and_not_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_note", progress._Note())
    told = [
        progress._note._done for _ in in_parallel(lambda item: item.name, make_split(tmp_path, 5))
    ]
    assert told == [0, 1, 2, 3, 4] and progress._note._done == 5
