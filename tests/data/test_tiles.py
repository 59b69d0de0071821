"""Tiles: they cover the image, keep its pixels, and are tagged by the share of mask in them."""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import wsss.data
from wsss.config import ConfigError
from wsss.data.tiles import Tiles, TilesSettings, tile_boxes

SIZE = (30, 41)  # a third of 30 gives 3 rows of 10 and 4 columns of 10, with one pixel left


def _add(root, split, name, mask, suffix=".png"):
    rng = np.random.default_rng(list(name.encode()))
    for kind in ("images", "masks"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(root / f"images/{split}/{name}{suffix}")
    if mask is not None:
        Image.fromarray(mask).save(root / f"masks/{split}/{name}.png")
    return pixels


def _mask(value=1):
    """2 of 100 pixels of tile (0, 0), one of tile (1, 2), all of tile (2, 3), and the rim."""
    mask = np.zeros(SIZE, np.uint8)
    mask[0, :2], mask[15, 25], mask[20:, 30:40], mask[:, 40] = value, value, value, value
    return mask


@pytest.fixture
def root(tmp_path):
    source = tmp_path / "smoke"
    for index in range(10):
        _add(source, "train", f"a{index}", _mask())
    _add(source, "test", "b é", _mask())
    _add(source, "test", "c", np.zeros(SIZE, np.uint8))
    return source


def _collect(root, rng_seed=0, **settings):
    scratch = root.parent / f"scratch {len(list(root.parent.iterdir()))}"
    return Tiles(TilesSettings(root=str(root), **settings)).collect(scratch, rng_seed)


def _tagged(samples):
    return {sample.name for sample in samples if sample.class_ids}


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)), st.sampled_from([0.1, 0.25, 1 / 3, 0.7, 1])
)
def test_boxes_are_disjoint_of_one_size_and_leave_less_than_a_row(size, share):
    boxes = tile_boxes(size, share)
    covered = np.zeros(size, int)
    for left, top, right, bottom in boxes.values():
        covered[top:bottom, left:right] += 1
    assert covered.max() == 1
    assert len({(right - left, bottom - top) for left, top, right, bottom in boxes.values()}) == 1
    rows, columns = np.array(list(boxes)).max(axis=0) + 1
    missed_rows, missed_columns = (covered == 0).all(axis=1), (covered == 0).all(axis=0)
    assert missed_rows.sum() < rows
    assert missed_columns.sum() < columns
    assert (covered == 0).sum() == covered.size - np.outer(~missed_rows, ~missed_columns).sum()


def test_a_third_of_the_shorter_side():
    boxes = tile_boxes((270, 480), 1 / 3)
    assert max(boxes) == (2, 4)
    assert boxes[1, 4] == (384, 90, 480, 180)
    assert set(tile_boxes((270, 480), 1)) == {(0, 0), (0, 1)}


def test_tiles_are_the_pixels_of_image_and_mask(root):
    raw = _collect(root)
    assert raw.class_names == ("smoke",)
    assert not raw.problems
    tiles = {sample.name: sample for sample in raw.splits["val"]}
    assert len(tiles) == 2 * 12
    pixels = np.asarray(Image.open(root / "images/test/b é.png"))
    for (row, column), (left, top, right, bottom) in tile_boxes(SIZE, 1 / 3).items():
        sample = tiles[f"val/b é/{row}_{column}"]
        np.testing.assert_array_equal(Image.open(sample.image), pixels[top:bottom, left:right])
        np.testing.assert_array_equal(Image.open(sample.mask), _mask()[top:bottom, left:right])
        assert not sample.mask_values


@pytest.mark.parametrize(
    ("min_share", "tagged"),
    [
        (0.02, {"0_0", "2_3"}),  # exactly the share is enough
        (0.021, {"2_3"}),
        (0, {"0_0", "1_2", "2_3"}),  # nothing at all is never enough
    ],
)
@pytest.mark.parametrize("value", [1, 255])
def test_tags_by_the_share_of_the_mask(root, min_share, tagged, value):
    _add(root, "test", "b é", _mask(value))
    raw = _collect(root, min_share=min_share)
    assert _tagged(raw.splits["val"]) == {f"val/b é/{item}" for item in tagged}
    assert {sample.class_ids for sample in raw.splits["val"]} == {(), (1,)}
    for sample in raw.splits["val"]:
        assert set(np.unique(Image.open(sample.mask))) <= {0, 1}


def test_selection_is_of_whole_images(root):
    """Tiles of one photograph in train and in selection would flatter the selected epoch."""
    raw = _collect(root, selection_share=0.3)
    images = {
        split: {sample.name.rpartition("/")[0] for sample in samples}
        for split, samples in raw.splits.items()
    }
    assert {split: len(image) for split, image in images.items()} == {
        "train": 7,
        "selection": 3,
        "val": 2,
    }
    assert len(raw.splits["train"]) == 7 * 12
    assert not images["train"] & images["selection"]
    assert _collect(root, 1, selection_share=0.3).splits["selection"] != raw.splits["selection"]


def test_whole_images_for_validation(root):
    _add(root, "test", "b é", _mask(255))
    raw = _collect(root, tile_val=False)
    whole, empty = raw.splits["val"]
    assert (whole.name, whole.class_ids, whole.mask_values) == ("val/b é", (1,), {0: 0, 255: 1})
    assert (whole.image, whole.mask) == (
        root / "images/test/b é.png",
        root / "masks/test/b é.png",
    )
    assert empty.class_ids == ()
    assert len(raw.splits["train"]) == 9 * 12
    # 11 % of the image is smoke, but all of one tile is
    assert _collect(root, tile_val=False, min_share=0.5).splits["val"][0].class_ids == (1,)


def test_max_train_counts_images(root):
    raw = _collect(root, max_train=4)
    assert len(raw.splits["train"] + raw.splits["selection"]) == 4 * 12
    assert len(raw.splits["val"]) == 2 * 12


def test_same_bytes_again(root):
    first, second = _collect(root), _collect(root)
    for split, samples in first.splits.items():
        for sample, other in zip(samples, second.splits[split], strict=True):
            assert (sample.name, sample.class_ids) == (other.name, other.class_ids)
            assert sample.image.read_bytes() == other.image.read_bytes()
            assert sample.mask.read_bytes() == other.mask.read_bytes()


def test_bad_images_are_listed_and_the_others_cut(root):
    _add(root, "train", "no mask", None)
    _add(root, "train", "small mask", np.zeros((30, 40), np.uint8))
    _add(root, "train", "grey mask", np.arange(30 * 41).reshape(SIZE).astype(np.uint8))
    _add(root, "train", "coloured mask", np.zeros((*SIZE, 3), np.uint8))
    _add(root, "train", "broken", _mask())
    (root / "images/train/broken.png").write_bytes(b"no image")
    raw = _collect(root)
    reasons = {problem.name: problem.reason for problem in raw.problems}
    assert {name.removeprefix("train/"): text for name, text in reasons.items()}.keys() == {
        *("no mask", "small mask", "grey mask", "coloured mask", "broken")
    }
    assert "30 x 40" in reasons["train/small mask"]
    assert "30 x 41" in reasons["train/small mask"]
    assert "255 values beside 0, such as 1 and 2" in reasons["train/grey mask"]
    assert "mode RGB" in reasons["train/coloured mask"]
    assert "no image" in reasons["train/broken"]
    assert len(raw.splits["train"] + raw.splits["selection"]) == 10 * 12


def test_what_is_missing_is_named(root):
    with pytest.raises(ConfigError, match=r"dataset.val: .*images/night"):
        _collect(root, val="night")
    (root / "images/empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no image"):
        _collect(root, train="empty")


def test_the_same_images_for_training_and_validation_are_refused(root):
    with pytest.raises(ValueError, match="train and val are both 'all'"):
        _collect(root, train="all", val="all")


def test_no_other_data_set_reads_masks():
    """Tags from masks are no weak supervision; here they stand in for an annotator of tiles."""
    folder = Path(wsss.data.__file__).parent
    readers = {
        path.stem
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id == "read_label_png")
        or (isinstance(node, ast.Attribute) and node.attr == "read_label_png")
    }
    assert readers == {"tiles"}


def test_masks_named_otherwise_are_found_and_counted(root):
    for path in (root / "masks/train").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    (root / "masks/train/a9_mask.png").rename(root / "masks/train/zz_99.png")
    raw = _collect(root)
    assert [problem.name for problem in raw.problems] == ["train/a9"]
    assert len(raw.splits["train"] + raw.splits["selection"]) == 9 * 12
    assert "9 masks are not named as their images" in raw.warnings[0]
    assert "1 of 10 files fit no image, such as 'zz_99.png'" in raw.warnings[1]


def test_masks_that_fit_none_or_a_folder_that_is_missing_are_errors(root):
    (root / "masks/test").rename(root / "masks/tests")
    with pytest.raises(ConfigError, match=r"dataset.val: .*did you mean 'tests'"):
        _collect(root)
    (root / "masks/tests").rename(root / "masks/test")
    for number, path in enumerate((root / "masks/test").iterdir()):
        path.rename(path.with_name(f"{number + 70}.png"))
    with pytest.raises(ValueError, match=r"dataset.val: none of the 2 files .*a mask is named as"):
        _collect(root)


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("square", [True, False])
def test_masks_of_images_that_exif_turns_are_turned_alike(tmp_path, orientation, square):
    """Drawn on the stored pixels; where the sizes do not tell that, it is said."""
    size = (30, 30) if square else (30, 41)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            (tmp_path / f"smoke/{kind}/{split}").mkdir(parents=True)
        for at in range(3):
            mask = np.zeros(size, np.uint8)
            mask[3:9, 12 + at : 26] = 1
            image = Image.fromarray(np.dstack([mask * 255] * 3))
            image.save(tmp_path / f"smoke/images/{split}/{at}.png", exif=exif)
            Image.fromarray(mask).save(tmp_path / f"smoke/masks/{split}/{at}.png")
    raw = _collect(tmp_path / "smoke")
    assert not raw.problems
    for samples in raw.splits.values():
        for sample in samples:
            pixels = np.asarray(Image.open(sample.image))[..., 0]
            np.testing.assert_array_equal(np.asarray(Image.open(sample.mask)) * 255, pixels)
    either = orientation <= 4 or square
    assert any("6 images that EXIF turns" in text for text in raw.warnings) == either


def test_images_that_would_be_black_tiles_are_problems(root):
    values = np.full(SIZE, 4000, np.uint16)
    Image.fromarray(values).save(root / "images/train/a3.png")
    (problem,) = _collect(root).problems
    assert problem.name == "train/a3"
    assert "its 16 bits hold values up to 4000 only" in problem.reason
