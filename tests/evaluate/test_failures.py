"""How masks fail, on drawn scenes whose failures are known, and against pixel counts."""

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Sample, write_label_png
from wsss.evaluate import confusion_matrix, evaluate_labels
from wsss.evaluate.failures import Failures, find_failures, score_images

SIZE = (60, 80)


def scene(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """A mask of rectangles: top, bottom, left, right, class."""
    mask = np.zeros(SIZE, np.uint8)
    for top, bottom, left, right, class_id in boxes:
        mask[top:bottom, left:right] = class_id
    return mask


TWO = scene((10, 20, 10, 20, 1), (10, 20, 30, 40, 1))


@pytest.mark.parametrize(
    ("gt_mask", "mask", "expected"),
    [
        (TWO, TWO, Failures()),
        (TWO, scene(), Failures(missed=2)),
        (TWO, scene((10, 20, 10, 20, 1)), Failures(missed=1)),
        # one area of both; what lies within 6 % of the width, 4.8 pixels, of an object is beside it
        (TWO, scene((10, 20, 10, 40, 1)), Failures(merged=1, leak=80 / 300, context=20 / 300)),
        # the other class is a mistake, and neither leak nor context
        (TWO, scene((10, 20, 10, 20, 2), (10, 20, 30, 40, 1)), Failures()),
        # all of it is beside the object, then all of it away
        (TWO, np.maximum(TWO, scene((20, 22, 10, 20, 1))), Failures(leak=20 / 220)),
        (TWO, np.maximum(TWO, scene((50, 60, 70, 80, 1))), Failures(context=100 / 300)),
        # beside an object, but of another class
        (TWO, np.maximum(TWO, scene((20, 22, 10, 20, 2))), Failures(context=20 / 220)),
        # nothing is there
        (scene(), scene((5, 15, 5, 15, 1)), Failures(context=1.0)),
        # an object below 0.3 % of the image is not looked for: 14 of 4800 pixels
        (scene((10, 12, 10, 17, 1)), scene(), Failures()),
        (scene((10, 12, 10, 18, 1)), scene(), Failures(missed=1)),
        # what the ground truth ignores does not count
        (scene((0, 60, 0, 80, 255)), scene((5, 15, 5, 15, 1)), Failures()),
        # nor what the mask ignores
        (TWO, np.where(TWO == 0, 255, TWO).astype(np.uint8), Failures()),
    ],
)
def test_drawn_scenes(gt_mask: np.ndarray, mask: np.ndarray, expected: Failures) -> None:
    found = find_failures(gt_mask, mask)
    assert (found.missed, found.merged) == (expected.missed, expected.merged)
    assert found.leak == pytest.approx(expected.leak)
    assert found.context == pytest.approx(expected.context)


def test_false_foreground_on_background_is_leak_or_context() -> None:
    """Both together are what the confusion has in the background's row."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        gt_mask, mask = (rng.integers(0, 3, SIZE).astype(np.uint8) for _ in range(2))
        gt_mask[rng.random(SIZE) < 0.1] = 255
        mask[rng.random(SIZE) < 0.1] = 255
        found = find_failures(gt_mask, mask)
        matrix = confusion_matrix(gt_mask, mask, 3)
        assert found.leak + found.context == pytest.approx(
            matrix[0, 1:3].sum() / matrix[:, 1:3].sum()
        )


def test_turning_an_image_changes_nothing() -> None:
    mask = np.maximum(TWO, scene((18, 26, 12, 70, 1)))
    found = find_failures(TWO, mask)
    for turned in (np.rot90, np.fliplr, np.transpose):
        other = find_failures(turned(TWO).copy(), turned(mask).copy())
        assert (other.missed, other.merged) == (found.missed, found.merged)
        assert (other.leak, other.context) == pytest.approx((found.leak, found.context))


def test_a_kind_is_shown_from_its_least_on() -> None:
    assert Failures(leak=0.149, context=0.099).shown() == ()
    assert Failures(1, 1, 0.15, 0.1).shown() == ("missed", "merged", "leak", "context")


def test_images_together_are_the_split(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("split")
    rng = np.random.default_rng(1)
    samples = []
    for at in range(5):
        name = f"{at}.png"
        for folder in ("masks", "labels"):
            write_label_png(root / folder / name, rng.integers(0, 3, SIZE).astype(np.uint8))
        samples.append(Sample(str(at), name, SIZE, (1,), name if at else None))
    found = score_images(samples, root / "labels", root / "masks", 2)
    whole = evaluate_labels(samples, root / "labels", root / "masks", 2)
    assert [item.name for item in found] == ["1", "2", "3", "4"]
    assert (np.sum([item.matrix for item in found], axis=0) == whole.matrix).all()
    assert np.mean([item.iou for item in found]) == pytest.approx(whole.image_iou)


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match="mask"):
        find_failures(TWO, np.asarray(Image.fromarray(TWO).resize((10, 10))))
