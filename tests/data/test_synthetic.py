"""The painted set: reproducible, tagged as its masks say, with the co-occurrence it promises."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from wsss.data import _painted, synthetic
from wsss.data._scenery import Canvas
from wsss.data.synthetic import CLASS_NAMES, Synthetic, SyntheticSettings, paint_scene
from wsss.registry import DATASETS
from wsss.seeding import generator

SMALL = SyntheticSettings(num_train=12, num_val=4, image_size=(64, 80))


def _bytes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).digest() for path in files}


def test_same_seed_same_bytes(tmp_path):
    for name, rng_seed in (("a", 1), ("b", 1), ("c", 2)):
        Synthetic(SMALL).collect(tmp_path / name, rng_seed)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    assert _bytes(tmp_path / "a") != _bytes(tmp_path / "c")
    assert len(set(_bytes(tmp_path / "a").values())) == 2 * 16  # no two scenes or masks alike


def test_processes_paint_what_one_process_paints(tmp_path, monkeypatch):
    monkeypatch.setattr(_painted, "usable_cores", lambda: 2)
    monkeypatch.setattr(_painted, "MIN_JOBS", 2)
    spread = Synthetic(SMALL).collect(tmp_path / "a", 1)
    monkeypatch.setattr(_painted, "usable_cores", lambda: 1)
    alone = Synthetic(SMALL).collect(tmp_path / "b", 1)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    assert [sample.class_ids for sample in spread.splits["train"]] == [
        sample.class_ids for sample in alone.splits["train"]
    ]


def test_more_images_keep_the_first_ones(tmp_path):
    Synthetic(SMALL).collect(tmp_path / "a", 1)
    Synthetic(SMALL.model_copy(update={"num_train": 14})).collect(tmp_path / "b", 1)
    assert _bytes(tmp_path / "a").items() < _bytes(tmp_path / "b").items()


def test_tags_are_the_classes_in_the_mask(tmp_path):
    raw = Synthetic(SMALL).collect(tmp_path, 3)
    assert raw.class_names == CLASS_NAMES
    assert not raw.problems
    names = [item.name for split in raw.splits.values() for item in split]
    assert len(set(names)) == 16
    for sample in raw.splits["train"] + raw.splits["val"]:
        mask = np.asarray(Image.open(sample.mask))
        image = Image.open(sample.image)
        assert (image.mode, image.size, mask.shape) == ("RGB", (80, 64), (64, 80))
        assert tuple(np.unique(mask[mask > 0])) == sample.class_ids
        for class_id in sample.class_ids:
            assert (mask == class_id).mean() >= 0.025


def test_the_set_has_every_kind_of_scene():
    """Each class often, alone and together; boats on water, water without boats rare."""
    settings = SyntheticSettings(image_size=(48, 48))
    scenes = [paint_scene(settings, generator(5, index)) for index in range(100)]
    tags = [frozenset(np.unique(mask[mask > 0]).tolist()) for _, mask in scenes]
    for class_id in (1, 2, 3):
        assert 0.3 < np.mean([class_id in tag for tag in tags]) < 0.75
        assert frozenset({class_id}) in tags
    assert {len(tag) for tag in tags} == {0, 1, 2, 3}


@pytest.mark.parametrize(("with_boat", "without"), [(1.0, 0.0), (0.0, 1.0)])
def test_water_goes_with_boats(with_boat, without, monkeypatch):
    seen = []
    compose = synthetic._compose
    monkeypatch.setattr(
        synthetic,
        "_compose",
        lambda canvas, classes, *, water: (
            seen.append((1 in classes, water)),
            compose(canvas, classes, water=water),
        ),
    )
    settings = SyntheticSettings(
        image_size=(48, 48), water_with_boat=with_boat, water_without_boat=without
    )
    for index in range(30):
        paint_scene(settings, generator(1, index))
    assert {water for boat, water in seen if boat} == {with_boat == 1}
    assert {water for boat, water in seen if not boat} == {without == 1}


def test_masks_follow_coverage():
    """A rectangle with known borders: exact where whole, the majority at the edge."""
    canvas = Canvas((8, 10), 2, np.random.default_rng(0))
    corners = [(2.0, 1.0), (6.75, 1.0), (6.75, 5.25), (2.0, 5.25)]
    # stencils include their last row and column of subpixels, hence the quarter
    alpha = (
        canvas.stencil()
        .polygon([(x - 0.25 * (x > 4), y - 0.25 * (y > 4)) for x, y in corners])
        .alpha()
    )
    canvas.paint(alpha, np.array([1.0, 0, 0], np.float32), 2)
    expected = np.zeros((8, 10), np.uint8)
    expected[1:5, 2:7] = 2
    np.testing.assert_array_equal(canvas.mask(), expected)
    assert alpha[3, 6] == pytest.approx(0.75, abs=0.01)
    assert alpha[5, 3] == pytest.approx(0.25, abs=0.01)
    canvas.paint(alpha, np.zeros(3, np.float32), 1)  # in front: what was behind is gone
    assert set(np.unique(canvas.mask())) == {0, 1}
    assert canvas.coverage.sum(0).max() <= 1 + 1e-6


def test_unsuitable_size_is_named():
    with pytest.raises(ValueError, match=r"48\.\.1024"):
        Synthetic(SyntheticSettings(image_size=(16, 128)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "synthetic", "image_size": [48, 1024]}, r"\[48, 1024\]: .* 21\.3 times"),
        ({"name": "synthetic_defects", "image_size": [2048, 96]}, r"\[2048, 96\]: .* 21\.3"),
        ({"name": "synthetic_defects", "size_spread": 0.9}, r"and size_spread 0\.9: .* 19\.0"),
    ],
)
def test_sides_at_which_nothing_fits_are_refused_and_not_tried_for_ever(settings, said):
    with pytest.raises(ValueError, match=said):
        DATASETS.build(DATASETS.settings(settings["name"]).model_validate(settings))
