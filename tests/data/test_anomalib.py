"""The layout of MVTec AD, and the flat one: splits drawn anew, masks of any value, good images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Manifest, Paths, read_json, read_label_png
from wsss.config import ConfigError
from wsss.config.params import parse_params
from wsss.data.anomalib import Anomalib, AnomalibSettings
from wsss.stages import run_stage

SIZE = (12, 16)
COUNTS = {"train/good": 20, "test/good": 5, "test/scratch": 10, "test/hole": 5}


def save_image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def save_mask(path: Path, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(SIZE, np.uint8)
    mask[2:5, 3:9] = value
    Image.fromarray(mask).save(path)


def mvtec(root: Path) -> Path:
    """As it is downloaded, with a licence and a readme."""
    for folder, count in COUNTS.items():
        for number in range(count):
            save_image(root / folder / f"{number:03}.png", number)
            if "good" not in folder:
                defect = folder.partition("/")[2]
                save_mask(root / f"ground_truth/{defect}/{number:03}_mask.png")
    (root / "license.txt").write_text("CC BY-NC-SA")
    (root / "readme.txt").write_text("MVTec")
    return root


def flat(root: Path) -> Path:
    for folder, count in COUNTS.items():
        if folder == "train/good":
            continue
        name = folder.partition("/")[2]
        for number in range(count):
            save_image(root / name / f"{number:03}.jpg", number)
            if name != "good":
                save_mask(root / f"ground_truth/{name}/{number:03}.png", 1)
    return root


@pytest.fixture
def collect(tmp_path: Path):
    def run(root: Path, rng_seed: int = 0, **settings: Any):
        settings = AnomalibSettings(root=str(root), **{"selection_share": 0.2, **settings})
        return Anomalib(settings).collect(tmp_path / "scratch", rng_seed)

    return run


def kinds(samples) -> dict[str, int]:
    found = [item.name.rsplit("/", 2)[-2] for item in samples]
    return {kind: found.count(kind) for kind in sorted(set(found))}


def test_all_images_are_drawn_anew_each_kind_in_its_share(tmp_path, collect):
    raw = collect(mvtec(tmp_path / "bottle"))
    assert raw.class_names == ("defect",)
    assert kinds(raw.splits["train"]) == {"good": 17, "hole": 3, "scratch": 6}
    assert kinds(raw.splits["selection"]) == {"good": 3, "hole": 1, "scratch": 2}
    assert kinds(raw.splits["val"]) == {"good": 5, "hole": 1, "scratch": 2}
    assert not raw.warnings
    for samples in raw.splits.values():
        for item in samples:
            assert item.class_ids == (() if "/good/" in item.name else (1,))
    other = collect(tmp_path / "bottle", rng_seed=1)
    assert {x.name for x in other.splits["val"]} != {x.name for x in raw.splits["val"]}


def test_each_kind_may_be_a_class_and_validates_on_the_same_images(tmp_path, collect):
    one = collect(mvtec(tmp_path / "bottle"))
    raw = collect(tmp_path / "bottle", classes="kinds")
    assert raw.class_names == ("hole", "scratch")
    assert [x.name for x in raw.splits["val"]] == [x.name for x in one.splits["val"]]
    for item in raw.splits["train"]:
        kind = item.name.rsplit("/", 2)[-2]
        assert item.class_ids == {"good": (), "hole": (1,), "scratch": (2,)}[kind]
        if kind != "good":
            assert set(item.mask_values.values()) == {0, *item.class_ids}


def test_masks_are_those_of_their_folder_and_good_images_have_empty_ones(tmp_path, collect):
    raw = collect(flat(tmp_path / "set"), classes="kinds")
    samples = {x.name: x for found in raw.splits.values() for x in found}
    assert samples["hole/003"].mask == tmp_path / "set/ground_truth/hole/003.png"
    good = [item for name, item in samples.items() if name.startswith("good/")]
    assert len({item.mask for item in good}) == 1
    assert read_label_png(good[0].mask).shape == SIZE
    assert not read_label_png(good[0].mask).any()
    assert not (tmp_path / "set/ground_truth/good").exists()  # the source is never written to


def test_a_defect_without_a_mask_is_learned_from_and_said(tmp_path, collect):
    root = mvtec(tmp_path / "bottle")
    for number in (0, 1, 2):
        (root / f"ground_truth/scratch/{number:03}_mask.png").unlink()
    for path in (root / "ground_truth/hole").iterdir():
        path.unlink()
    (root / "ground_truth/hole").rmdir()
    raw = collect(root)
    assert all(item.mask for item in raw.splits["val"])
    assert all(item.mask for item in raw.splits["selection"])
    assert sum(item.mask is None for item in raw.splits["train"]) == 8
    assert any("1 folders of defects have no masks, such as" in text for text in raw.warnings)
    assert any("8 of 26 images of train have no mask" in text for text in raw.warnings)


def test_other_names_of_folders(tmp_path, collect):
    root = flat(tmp_path / "set")
    (root / "good").rename(root / "OK")
    (root / "ground_truth").rename(root / "labels")
    with pytest.raises(ConfigError, match=r"no folder 'good'.*set dataset.good.*it has OK, hole"):
        collect(root, masks="labels")
    raw = collect(root, good="OK", masks="labels", classes="kinds", max_train=4)
    assert raw.class_names == ("hole", "scratch")
    assert len(raw.splits["train"]) + len(raw.splits["selection"]) == 4


def test_what_is_wrong_with_the_root(tmp_path, collect):
    mvtec(tmp_path / "all/bottle")
    with pytest.raises(ConfigError, match=r"set dataset.root to one of the kinds .*: bottle"):
        collect(tmp_path / "all")
    for number in range(3):
        save_image(tmp_path / f"half/good/{number}.png", number)
    with pytest.raises(ConfigError, match=r"has good images alone, and no folder of a defect"):
        collect(tmp_path / "half")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"it has no folders"):
        collect(tmp_path / "empty")
    root = flat(tmp_path / "set")
    Image.new("L", SIZE).save(root / "ground_truth/hole/009.jpg")
    with pytest.raises(ValueError, match=r"dataset.masks: 1 masks are JPEGs, such as .*009.jpg"):
        collect(root)
    (root / "ground_truth/hole/009.jpg").unlink()
    for path in (root / "ground_truth/hole").iterdir():
        path.rename(path.with_stem(f"x{path.stem}y"))
    with pytest.raises(ValueError, match=r"dataset.masks: none of the 5 files in .*hole fits"):
        collect(root)


@pytest.mark.parametrize("classes", ["defect", "kinds"])
def test_prepare_data_turns_any_value_into_the_class(tmp_path, classes):
    root = mvtec(tmp_path / "bottle")
    save_mask(root / "ground_truth/hole/000_mask.png", 7)
    paths = Paths(tmp_path / "project")
    params = parse_params(
        {
            "prepare_data": {
                "dataset": {
                    **{"name": "anomalib", "root": str(root), "classes": classes},
                    "selection_share": 0.2,
                },
            },
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
        }
    )
    run_stage("prepare_data", params, paths)
    manifest = Manifest.read(paths.splits)
    samples = {x.name: x for found in manifest.splits.values() for x in found}
    assert len(samples) == 40
    class_id = 1 if classes == "defect" else manifest.class_names.index("hole") + 1
    mask = read_label_png(paths.masks / "test/hole/000.png")
    assert (mask[2:5, 3:9] == class_id).all()
    assert np.count_nonzero(mask) == 18
    for split in manifest.splits.values():
        counts = kinds(split)
        assert counts.keys() == {"good", "hole", "scratch"}  # selection has all, too
    report = read_json(paths.report("prepare_data"))
    assert all(split["with_mask"] == split["images"] for split in report["splits"].values())
