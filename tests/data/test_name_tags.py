"""Patches of tissue as three published sets name them, with masks by name, and broken names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Manifest, Paths, read_json, read_label_png
from wsss.config import ConfigError
from wsss.config.params import parse_params
from wsss.data.name_tags import NameTags, NameTagsSettings, tags_of_name
from wsss.stages import run_stage

FOUR = ["tumor", "stroma", "lymphocytes", "necrosis"]
PALETTE = [255, 0, 0, 0, 255, 0, 0, 0, 255, 153, 0, 255, 255, 255, 255]
SIZE = (14, 14)
VECTORS = [(1, 0, 0, 1), (0, 1, 0, 0), (0, 0, 1, 0), (1, 1, 0, 0), (0, 0, 0, 1), (1, 1, 1, 1)]


def spaced(number: int, vector: tuple[int, ...]) -> str:
    return f"TCGA-AR-A1AK-01Z-00-DX1+{5000 + number}+20230[{' '.join(map(str, vector))}]"


def commas(number: int, vector: tuple[int, ...]) -> str:
    return f"1031280-{2300 + number}-27920-[{', '.join(map(str, vector))}]"


def bare(number: int, vector: tuple[int, ...]) -> str:
    digits = "".join(map(str, vector))
    return f"TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+{number}[{digits}]"


def save(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def save_mask(path: Path, number: int) -> None:
    """Quarters of the values 0 to 3, and a seam of 4, in the colours of the real ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.roll(quarters(), number, axis=0))
    image.putpalette(PALETTE)
    image.save(path)


def quarters() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[:7, 7:], mask[7:, :7], mask[7:, 7:], mask[5:9] = 1, 2, 3, 4
    return mask


def build(
    root: Path, name=spaced, val: str = "TCGA-EW-A1PB-DX1+{}", train: str = "training"
) -> Path:
    for number, vector in enumerate(VECTORS * 2):
        save(root / train / f"{name(number, vector)}.png", number)
    for number in range(3):
        save(root / f"val/img/{val.format(number)}.png", 100 + number)
        save_mask(root / f"val/mask/{val.format(number)}.png", number)
    (root / "Readme.txt").write_text("tissue")
    return root


def collect(root: Path, **settings: Any):
    settings = {"root": str(root), "classes": FOUR, **settings}
    return NameTags(NameTagsSettings(**settings)).collect(root / "scratch", 0)


@pytest.mark.parametrize("name", [spaced, commas, bare])
def test_tags_are_read_from_each_way_to_write_them(tmp_path, name):
    raw = collect(build(tmp_path, name))
    assert raw.class_names == tuple(FOUR)
    expected = {
        f"train/{name(n, v)}": tuple(np.flatnonzero(v) + 1) for n, v in enumerate(VECTORS * 2)
    }
    assert {item.name: item.class_ids for item in raw.splits["train"]} == expected
    assert not any(item.uncertain or item.mask for item in raw.splits["train"])


def test_nobody_knows_the_tags_of_val_without_values(tmp_path):
    raw = collect(build(tmp_path))
    for number, item in enumerate(raw.splits["val"]):
        assert item.name == f"val/TCGA-EW-A1PB-DX1+{number}"
        assert item.mask == tmp_path / f"val/mask/TCGA-EW-A1PB-DX1+{number}.png"
        assert item.class_ids == ()
        assert item.uncertain == tuple((class_id, None) for class_id in (1, 2, 3, 4))
        assert item.mask_values == {0: 1, 1: 2, 2: 3, 3: 4, 4: 255, 255: 255}
    assert any("names of the 3 images of val have no values" in text for text in raw.warnings)
    assert not raw.has_background


def test_values_in_the_names_of_val_with_masks_without_them(tmp_path):
    root = build(tmp_path, commas, "9-{}-[1, 0, 0, 1]")
    for path in sorted((root / "val/mask").iterdir()):
        path.rename(path.with_stem(path.stem.removesuffix("-[1, 0, 0, 1]")))
    raw = collect(root)
    assert [item.class_ids for item in raw.splits["val"]] == [(1, 4)] * 3
    assert [item.mask.stem for item in raw.splits["val"]] == ["9-0", "9-1", "9-2"]


def test_names_that_differ_in_their_values_alone_stay_two(tmp_path):
    root = build(tmp_path)
    for vector in ("[1 0 0 0]", "[0 1 0 0]"):
        save(root / f"training/same{vector}.png", 7)
    raw = collect(root)
    tags = {item.name: item.class_ids for item in raw.splits["train"]}
    assert tags["train/same[1 0 0 0]"] == (1,)
    assert tags["train/same[0 1 0 0]"] == (2,)


def test_other_folders_and_a_selection(tmp_path):
    root = build(tmp_path, train="train")
    with pytest.raises(ConfigError, match=r"dataset.train: .*did you mean 'train'"):
        collect(root)
    (root / "val").rename(root / "test")
    (root / "train/sel").mkdir()
    save(root / "sel/a[0 0 1 1].png", 1)
    save_mask(root / "sel masks/a[0 0 1 1].png", 1)
    raw = collect(
        root,
        **{"train": "train", "val": "test/img", "val_masks": "test/mask", "max_train": 5},
        **{"selection": "sel", "selection_masks": "sel masks"},
        mask_values={0: "tumor", 1: 2, 2: 3, 3: 4, 4: 0},
    )
    assert len(raw.splits["train"]) == 5
    assert raw.splits["selection"][0].mask.name == "a[0 0 1 1].png"
    assert raw.splits["val"][0].mask_values == {0: 1, 1: 2, 2: 3, 3: 4, 4: 0, 255: 255}
    assert raw.has_background


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("a", r"1 of 13 images of train .*training/a.png: its name has no values"),
        ("a[1 0 0]", r"a\[1 0 0\].png: \[1 0 0\] holds 3 values, but there are 4 classes"),
        ("a[11000]", r"holds 5 values, but there are 4 classes"),
        ("a[1 0 2 0]", r"\[1 0 2 0\] holds '2', but values are 0 and 1"),
        ("a[1 0 0 -1]", r"holds '-1'"),
        ("a[x]", r"holds 'x'"),
        ("a[]", r"holds 0 values"),
    ],
)
def test_names_without_tags_are_refused_with_the_file(tmp_path, name, error):
    root = build(tmp_path)
    save(root / f"training/{name}.png", 1)
    with pytest.raises(ValueError, match=rf"(?s){error}.*dataset.classes, which has 4: tumor, str"):
        collect(root)


def test_some_names_of_val_without_values_are_refused(tmp_path):
    root = build(tmp_path)
    save(root / "val/img/b[1 0 0 1].png", 1)
    with pytest.raises(ValueError, match=r"3 of 4 images of val have no tags in their names"):
        collect(root)


def test_the_last_brackets_count_and_numpy_s_points_are_read():
    assert tags_of_name("a[3]-[1, 0]", FOUR[:2]) == (1,)
    assert tags_of_name("a[0. 1.] (1)", FOUR[:2]) == (2,)
    assert tags_of_name("a[1]", FOUR[:1]) == (1,)
    assert tags_of_name("a[000]", FOUR[:3]) == ()


def test_masks_of_no_image_and_a_missing_folder(tmp_path):
    root = build(tmp_path)
    save_mask(root / "val/mask/stray.png", 0)
    (root / "val/mask/TCGA-EW-A1PB-DX1+0.png").unlink()
    raw = collect(root)
    assert any("1 of 3 files fit no image, such as stray.png" in text for text in raw.warnings)
    assert any("1 of 3 images of val have no mask" in text for text in raw.warnings)
    with pytest.raises(ConfigError, match=r"dataset.val_masks: .*masks is not a folder"):
        collect(root, val_masks="val/masks")
    save_mask(root / f"masks/{spaced(0, VECTORS[0])}.png", 0)
    with pytest.raises(ConfigError, match=r"maps a value to the image's tag"):
        collect(root, mask_values={1: "tag"}, train_masks="masks")
    Image.new("L", SIZE).save(root / "masks/a.jpg")
    with pytest.raises(ValueError, match=r"dataset.train_masks: 1 masks are JPEGs"):
        collect(root, train_masks="masks")
    with pytest.raises(ValueError, match="different names"):
        NameTagsSettings(root="x", classes=["a", "a"])


@pytest.mark.parametrize("name", [spaced, commas, bare])
def test_prepare_data_places_masks_by_their_values(tmp_path, name):
    root = build(tmp_path / "set", name)
    paths = Paths(tmp_path / "project")
    params = parse_params(
        {
            "prepare_data": {"dataset": {"name": "name_tags", "root": str(root), "classes": FOUR}},
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
        }
    )
    run_stage("prepare_data", params, paths)
    manifest = Manifest.read(paths.splits)
    assert manifest.class_names == tuple(FOUR)
    assert {split: len(found) for split, found in manifest.splits.items()} == {
        **{"train": 11, "selection": 1, "val": 3}
    }
    mask = read_label_png(paths.masks / "val/TCGA-EW-A1PB-DX1+0.png")
    drawn = quarters()
    np.testing.assert_array_equal(mask, np.where(drawn == 4, 255, drawn + 1))
    report = read_json(paths.report("prepare_data"))
    assert report["num_skipped"] == 0
    assert report["splits"]["val"]["unknown_per_class"] == dict.fromkeys(FOUR, 3)
    assert not any("no val image" in text for text in report["warnings"])
    assert not manifest.has_background
