"""Two predictions compared: pooled as evaluation pools, with an interval that holds its word."""

from pathlib import Path

import numpy as np
import pytest

from wsss.artifacts import Sample, write_label_png
from wsss.evaluate import Counts, evaluate_labels, image_counts, paired_differences
from wsss.evaluate.metrics import iou, mean_iou
from wsss.evaluate.protocol import label_report

CLASSES = ("cat", "dog")


def drawn(rng: np.random.Generator, wrong: float) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth with ignored pixels, and a prediction with a share of wrong pixels."""
    gt = rng.choice([0, 1, 2, 255], (12, 9), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
    mask = np.where(rng.random(gt.shape) < wrong, rng.integers(0, 3, gt.shape), gt)
    return gt, np.where(mask == 255, 0, mask).astype(np.uint8)


def of_images(number: int, wrong: float, seed: int) -> Counts:
    """Counts of as many images, of 100 pixels each."""
    rng = np.random.default_rng(seed)
    matrices = []
    for _ in range(number):
        gt = rng.integers(0, 3, 100)
        mask = np.where(rng.random(100) < wrong, rng.integers(0, 3, 100), gt)
        matrices.append(np.bincount(gt * 3 + mask, minlength=9).reshape(3, 3))
    stack = np.array(matrices)
    return Counts(stack.diagonal(axis1=1, axis2=2), stack.sum(axis=2), stack.sum(axis=1))


@pytest.mark.parametrize("has_background", [True, False])
def test_counts_of_images_sum_to_those_of_the_split(tmp_path: Path, has_background: bool) -> None:
    rng, samples = np.random.default_rng(0), []
    for name in "abcde":
        gt, mask = drawn(rng, 0.3)
        write_label_png(tmp_path / f"masks/{name}.png", gt)
        write_label_png(tmp_path / f"labels/{name}.png", mask)
        samples.append(Sample(name, f"{name}.png", gt.shape, (), f"{name}.png"))
    arguments = (samples, tmp_path / "labels", tmp_path / "masks", 2)
    found = image_counts(*arguments, has_background=has_background)
    scores = evaluate_labels(*arguments, has_background=has_background)
    whole = scores.labelled if has_background else scores.strict
    for part in ("correct", "gt", "predicted"):
        assert getattr(found, part).shape == (5, 3)
        assert np.array_equal(getattr(found, part).sum(axis=0), getattr(whole, part))


def test_scores_are_pooled_and_classes_that_nobody_has_are_left_out() -> None:
    before, after = of_images(40, 0.6, 1), of_images(40, 0.3, 2)
    found = paired_differences(before, after, CLASSES, np.random.default_rng(0))
    assert [item.name for item in found] == ["mean_iou", "background", "cat", "dog"]
    for counts, side in ((before, "before"), (after, "after")):
        pooled = Counts(*(part.sum(axis=0) for part in vars(counts).values()))
        expected = [float(mean_iou(pooled)), *iou(pooled)]
        assert np.allclose([getattr(item, side) for item in found], expected)
    assert all(item.images == 40 and item.is_sure and item.gain > 0.2 for item in found)
    none = np.zeros((40, 1), np.int64)
    wider = [
        Counts(*(np.concatenate([part, none], axis=1) for part in vars(counts).values()))
        for counts in (before, after)
    ]
    again = paired_differences(*wider, (*CLASSES, "cow"), np.random.default_rng(0))
    assert again == found


def test_the_interval_holds_what_it_should() -> None:
    """Of two predictions that are as good, it leaves out 0 in about 5 of 100 sets of images."""
    sure, widths = 0, []
    for seed in range(60):
        pair = of_images(30, 0.4, 2 * seed), of_images(30, 0.4, 2 * seed + 1)
        whole = paired_differences(*pair, CLASSES, np.random.default_rng(seed))[0]
        sure += whole.is_sure
        widths.append(whole.interval[1] - whole.interval[0])
    assert sure <= 9
    fewer = of_images(7, 0.4, 1), of_images(7, 0.4, 2)
    few = paired_differences(*fewer, CLASSES, np.random.default_rng(0))[0]
    assert few.interval[1] - few.interval[0] > 1.4 * np.mean(widths)  # about the root of 30 / 7


def test_hard_images_are_hard_for_both() -> None:
    """The same images are drawn for both: one that is always a little better surely is."""
    rng = np.random.default_rng(0)
    right = rng.integers(20, 80, (25, 1)) * np.array([[1, 1, 1]])
    gt = np.full((25, 3), 100)
    before, after = Counts(right, gt, gt), Counts(right + 1, gt, gt)
    whole = paired_differences(before, after, CLASSES, np.random.default_rng(0))[0]
    assert whole.is_sure and 0 < whole.gain < 0.03
    same = paired_differences(before, before, CLASSES, np.random.default_rng(0))[0]
    assert same.gain == 0 and same.interval == (0, 0) and not same.is_sure


def test_no_image_is_refused() -> None:
    nothing = of_images(1, 0, 0)
    empty = Counts(*(part[:0] for part in vars(nothing).values()))
    with pytest.raises(ValueError, match="no image to compare on"):
        paired_differences(empty, empty, CLASSES, np.random.default_rng(0))
    with pytest.raises(ValueError, match="after must have shape"):
        paired_differences(nothing, empty, CLASSES, np.random.default_rng(0))


def test_a_class_of_few_images_has_no_interval() -> None:
    """Draws of the one image that shows it are all the same, and say nothing of others."""
    before, after = (
        Counts(
            *(
                np.where([[at < 4 or c < 2 for c in range(3)] for at in range(40)], part, 0)
                for part in vars(counts).values()
            )
        )
        for counts in (of_images(40, 0.6, 1), of_images(40, 0.3, 2))
    )
    *others, rare = paired_differences(before, after, CLASSES, np.random.default_rng(0))
    assert rare.images == 4 and np.isnan(rare.interval).all() and not rare.is_sure
    assert all(item.is_sure for item in others)
    few = [Counts(*(part[:4] for part in vars(counts).values())) for counts in (before, after)]
    for item in paired_differences(*few, CLASSES, np.random.default_rng(0)):
        assert np.isnan(item.interval).all() and not item.is_sure


def test_where_each_pixel_has_a_class_what_is_given_to_none_is_missed(tmp_path: Path) -> None:
    names = ("right", "nothing")
    for name, value in zip(names, (1, 0), strict=True):
        write_label_png(tmp_path / f"masks/{name}.png", np.ones((4, 6), np.uint8))
        write_label_png(tmp_path / f"labels/{name}.png", np.full((4, 6), value, np.uint8))
    samples = [Sample(name, f"{name}.png", (4, 6), (1,), f"{name}.png") for name in names]
    arguments = (samples, tmp_path / "labels", tmp_path / "masks", 2)
    scores = evaluate_labels(*arguments, has_background=False)
    report = label_report({"val": scores}, CLASSES, {}, from_tags=False)["val"]
    assert (report["mean_iou"], report["pixel_accuracy"]) == (0.5, 0.5)
    counts = image_counts(*arguments, has_background=False)
    assert float(mean_iou(Counts(*(part.sum(axis=0) for part in vars(counts).values())))) == 0.5
    of_pseudo_masks = label_report({"val": scores}, CLASSES, {}, from_tags=True)["val"]
    assert (of_pseudo_masks["mean_iou"], of_pseudo_masks["coverage"]) == (1, 0.5)
    assert of_pseudo_masks["strict"]["mean_iou"] == 0.5
