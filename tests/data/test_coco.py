"""A tiny COCO: gaps between ids, crowds, all kinds of regions, and files that are broken."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Annotations, Box, Manifest, Paths, read_json, read_label_png
from wsss.config import ConfigError
from wsss.config.params import parse_params
from wsss.data.coco import Coco, CocoSettings
from wsss.stages import _preparation, run_stage

SIZE = (8, 10)
CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "animal", "id": 17, "name": "cat"},
    {"supercategory": "animal", "id": 90, "name": "dog"},
]


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def thing(category: int, x: float, y: float, side: float, **other: Any) -> dict[str, Any]:
    """An object as COCO writes it: a square."""
    return {
        "segmentation": [square(x, y, side)],
        "area": side**2,
        "iscrowd": 0,
        "bbox": [x, y, side, side],
        "category_id": category,
        **other,
    }


CROWD = {  # rows 0 and 1 of an image of 8 x 10, down the columns
    "segmentation": {"counts": [0, *[2, 6] * 9, 2, 6], "size": [8, 10]},
    "iscrowd": 1,
    "bbox": [0, 0, 10, 2],
    "category_id": 1,
}


class Tree:
    """Files in COCO's places; the objects of each image by split and name."""

    def __init__(self, root: Path) -> None:
        self.root = root / "coco"
        self.objects: dict[str, dict[str, list[dict[str, Any]]]] = {
            "train2017": {
                "000000000009": [thing(1, 1, 1, 6), thing(17, 2, 2, 2)],
                "000000000025": [thing(90, 0, 4, 4)],
                "000000000030": [],
                "000000000034": [thing(1, 4, 1, 4), deepcopy(CROWD)],
                **{f"00000000010{n}": [thing(17 if n % 2 else 90, n, 1, 3)] for n in range(6)},
            },
            "val2017": {"000000000139": [thing(17, 1, 1, 3)], "000000000285": [thing(90, 3, 3, 4)]},
        }
        self.categories = deepcopy(CATEGORIES)

    def values(self, split: str) -> dict[str, Any]:
        images, annotations = [], []
        for name, objects in self.objects[split].items():
            images.append(
                {
                    "license": 3,
                    "file_name": f"{name}.jpg",
                    "coco_url": f"http://images.cocodataset.org/{split}/{name}.jpg",
                    "height": SIZE[0],
                    "width": SIZE[1],
                    "id": int(name),
                }
            )
            for item in objects:
                number = 1000 + len(annotations)
                annotations.append({"image_id": int(name), "id": number, **item})
        return {
            "info": {"year": 2017},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": self.categories,
        }

    def build(self, **values: dict[str, Any] | str) -> None:
        for split, objects in self.objects.items():
            (self.root / split).mkdir(parents=True, exist_ok=True)
            for name in objects:
                pixels = np.random.default_rng(int(name)).integers(0, 256, (*SIZE, 3), np.uint8)
                Image.fromarray(pixels).save(self.root / split / f"{name}.jpg")
            own = values.get(split, self.values(split))
            path = self.root / f"annotations/instances_{split}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(own if isinstance(own, str) else json.dumps(own))

    def collect(self, **settings: Any):
        scratch = self.root.parent / "scratch"
        return Coco(CocoSettings(root=str(self.root), **settings)).collect(scratch, 0)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def found(raw):
    """The samples by the ends of their names."""
    return {item.name[-3:]: item for items in raw.splits.values() for item in items}


def test_tags_and_ids_without_the_gaps(tree):
    tree.build()
    raw = tree.collect()
    assert raw.class_names == ("person", "cat", "dog")
    assert {split: len(items) for split, items in raw.splits.items()} == {"train": 10, "val": 2}
    assert raw.splits["val"][0].name == "val2017/000000000139"
    assert not raw.problems
    assert not raw.warnings
    assert {name: item.class_ids for name, item in found(raw).items()} == {
        **{"009": (1, 2), "025": (3,), "030": (), "034": (1,)},
        **{f"10{n}": (2,) if n % 2 else (3,) for n in range(6)},
        **{"139": (2,), "285": (3,)},
    }


def test_small_objects_lie_on_large_ones_and_crowds_below_all(tree):
    tree.build()
    samples = found(tree.collect())
    mask = read_label_png(samples["009"].mask)
    expected = np.zeros(SIZE, np.uint8)
    expected[1:7, 1:7] = 1
    expected[2:4, 2:4] = 2
    np.testing.assert_array_equal(mask, expected)
    expected = np.zeros(SIZE, np.uint8)
    expected[:2] = 255
    expected[1:5, 4:8] = 1
    np.testing.assert_array_equal(read_label_png(samples["034"].mask), expected)
    assert not read_label_png(samples["030"].mask).any()


def test_the_order_of_objects_decides_only_between_those_of_one_size(tree):
    pair = [thing(17, 2, 2, 2), thing(1, 1, 1, 6)]
    same = [thing(17, 1, 1, 3), thing(90, 2, 2, 3)]
    tree.objects["train2017"] |= {"000000000201": pair, "000000000202": same}
    tree.build()
    samples = found(tree.collect())
    np.testing.assert_array_equal(
        read_label_png(samples["201"].mask), read_label_png(samples["009"].mask)
    )
    assert read_label_png(samples["202"].mask)[3, 3] == 3  # the later one


@pytest.mark.parametrize(
    "segmentation",
    [
        {"counts": [2 * 8 + 1, 3, 5, 3, 5, 3, 8 * 5 + 4], "size": [8, 10]},
        {"counts": "a035020oQ0", "size": [8, 10]},
        [square(2, 1, 3)],
        square(2, 1, 3),
        [[2, 1, 5, 1, 5, 2.5, 2, 2.5], [2, 2, 5, 2, 5, 4, 2, 4], []],
    ],
)
def test_every_kind_of_region_is_the_same_square(tree, segmentation):
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        segmentation["counts"] = _packed([17, 3, 5, 3, 5, 3, 44])
    tree.objects["train2017"]["000000000301"] = [thing(17, 2, 1, 3, segmentation=segmentation)]
    tree.build()
    mask = read_label_png(found(tree.collect())["301"].mask)
    expected = np.zeros(SIZE, np.uint8)
    expected[1:4, 2:5] = 2
    np.testing.assert_array_equal(mask, expected)


def _packed(counts):
    """As pycocotools writes these lengths, worked out by hand: groups of five bits."""
    assert counts == [17, 3, 5, 3, 5, 3, 44]
    # 17 needs two groups (10001 would be negative); 3; 5; then differences 0, 0, 0 and 39
    return "a0" + "3" + "5" + "000" + "W1"


def test_the_text_above_is_that_of_pycocotools():
    peer = pytest.importorskip("pycocotools.mask")
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[1:4, 2:5] = 1
    assert peer.encode(mask)["counts"].decode() == _packed([17, 3, 5, 3, 5, 3, 44])


def test_boxes_are_of_the_classes_of_which_all_objects_have_one(tree):
    empty = thing(90, 1, 1, 3, bbox=[1, 1, 3, 0.0])  # as the real one has
    tree.objects["train2017"]["000000000401"] = [thing(17, 2, 1, 3), empty, thing(90, 5, 1, 2)]
    tree.build()
    raw = tree.collect()
    assert raw.offers == {"boxes"}
    boxes = {
        name: [(box.class_id, box.corners) for box in item.boxes]
        for name, item in found(raw).items()
    }
    assert boxes["009"] == [(1, (1, 1, 7, 7)), (2, (2, 2, 4, 4))]
    assert boxes["034"] == []  # persons of a crowd are outside of the one with a box
    assert boxes["401"] == [(2, (2, 1, 5, 4))]
    assert found(raw)["009"].boxes[0].drawn_on == SIZE


def test_a_subset_of_classes_in_their_own_order(tree):
    tree.build()
    raw = tree.collect(classes=["dog", "person"])
    samples = found(raw)
    assert raw.class_names == ("dog", "person")
    assert samples["009"].class_ids == (2,)
    assert samples["101"].class_ids == ()
    assert set(np.unique(read_label_png(samples["009"].mask))) == {0, 2}
    with pytest.raises(ConfigError, match=r"dataset.classes names 'dgo'.*did you mean 'dog'"):
        tree.collect(classes=["dgo"])


def test_a_category_above_others_is_no_class(tree):
    """As Roboflow writes it."""
    tree.categories = [
        {"id": 0, "name": "animal", "supercategory": "none"},
        *CATEGORIES,
        {"id": 91, "name": "emu", "supercategory": "animal"},
    ]
    tree.build()
    assert tree.collect().class_names == ("person", "cat", "dog", "emu")


def test_one_folder_one_file_and_a_share_for_validation(tree):
    tree.build()
    settings = {"val": None, "val_images": None, "val_share": 0.3}
    raw = tree.collect(**settings)
    assert {split: len(items) for split, items in raw.splits.items()} == {"train": 7, "val": 3}
    names = {item.name for items in raw.splits.values() for item in items}
    assert "000000000009" in names  # not called by its folder, as there is one alone
    fewer = tree.collect(**settings, max_train=4)
    assert len(fewer.splits["train"]) == 4
    assert fewer.splits["val"] == raw.splits["val"]


def test_boxes_alone_give_no_masks(tree):
    for objects in (*tree.objects["train2017"].values(), *tree.objects["val2017"].values()):
        for item in objects:
            item["segmentation"] = []
    tree.objects["train2017"]["000000000034"].pop()
    tree.build()
    raw = tree.collect()
    assert not any(item.mask for item in found(raw).values())
    assert any("no image has a mask" in text for text in raw.warnings)
    tree.objects["val2017"]["000000000139"] = [thing(17, 1, 1, 3), thing(1, 1, 1, 2)]
    tree.objects["val2017"]["000000000285"] = [thing(17, 1, 1, 3)]
    tree.objects["val2017"]["000000000139"][1].pop("segmentation")
    tree.build()
    raw = tree.collect()
    assert any("1 of 2 images of val have no mask" in text for text in raw.warnings)


def test_file_names_with_folders_and_images_that_no_json_lists(tree):
    values = tree.values("val2017")
    for image in values["images"]:
        image["file_name"] = f"val2017/{image['file_name']}"
    tree.build(val2017=values)
    Image.new("RGB", (10, 8)).save(tree.root / "train2017/extra.jpg")
    raw = tree.collect()
    assert len(raw.splits["val"]) == 2
    assert len(raw.warnings) == 1
    assert "has 1 images that no JSON lists, such as 'extra'" in raw.warnings[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"segmentation": [[1, 1, 4, 1, 4]]}, r"annotation 1000: .*a polygon of 5 numbers"),
        ({"segmentation": [[1, 1, 4, 1]]}, r"of 4 numbers"),
        ({"segmentation": [square(7, 1, 5)]}, r"x 12, y 1 lies outside .* 10 x 8 pixels"),
        ({"segmentation": {"counts": [80, 1], "size": [8, 10]}}, r"81 pixels, but its size has 80"),
        ({"segmentation": {"counts": [80], "size": [10, 8]}}, r"its image has 10 x 8"),
        ({"segmentation": {"counts": "0~", "size": [8, 10]}}, r"hold '~'"),
        ({"segmentation": {"size": [8, 10]}}, r"needs counts"),
        ({"segmentation": [["a"]]}, r"no list of numbers"),
        ({"segmentation": "x"}, r"is 'x', and no list"),
    ],
)
def test_a_region_that_cannot_be_drawn_is_listed_with_its_annotation(tree, changes, reason):
    tree.objects["train2017"]["000000000009"][0] |= changes
    tree.build()
    raw = tree.collect()
    assert [problem.name for problem in raw.problems] == ["train2017/000000000009"]
    assert re.search(reason, raw.problems[0].reason)
    assert "009" not in found(raw)


def test_a_region_of_no_class_is_not_looked_at(tree):
    tree.objects["train2017"]["000000000009"][0]["segmentation"] = [[1, 2, 3]]
    tree.build()
    assert not tree.collect(classes=["cat", "dog"]).problems


def test_missing_images_are_listed_with_their_number(tree):
    tree.build()
    for name in ("000000000009", "000000000025"):
        (tree.root / f"train2017/{name}.jpg").unlink()
    raw = tree.collect()
    assert [problem.name for problem in raw.problems] == ["000000000009.jpg", "000000000025.jpg"]
    assert "nor are 1 others of its 10" in raw.problems[0].reason
    with pytest.raises(
        ConfigError,
        match=r"none of the 2 images of .*val2017.json lies in .*train2017: it lists "
        r"'000000000139.jpg'.*set dataset.val_images to",
    ):
        tree.collect(val_images="train2017")


def broken(**changes):
    def change(values):
        for key, value in changes.items():
            values[key][0] |= value
        return values

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (broken(annotations={"image_id": 7}), r"annotation 1000 is of the image_id 7, which none"),
        (
            broken(annotations={"category_id": 2}),
            r"category_id 2, but its categories are 1 \(person\), 17 \(cat\)",
        ),
        (lambda v: v | {"annotations": [{"image_id": 9, "id": 4, "caption": "a cat"}]}, "captions"),
        (broken(images={"height": None}), r"image 9, '000000000009.jpg', has the height None"),
        (broken(images={"id": 25}), r"have the same id"),
        (broken(images={"file_name": "000000000025.jpg"}), r"is the image of .*image 9, too"),
        (broken(categories={"id": 17}), r"two categories with the id 17, 'person' and 'cat'"),
        (lambda v: json.dumps(v)[:-30], r"is not valid JSON: .*if it was cut short, copy"),
        (lambda v: {"images": []}, r"is not COCO's JSON of instances"),
    ],
)
def test_broken_files_are_refused_with_the_place(tree, change, error):
    tree.build(train2017=change(tree.values("train2017")))
    with pytest.raises(ValueError, match=error):
        tree.collect()


def test_a_missing_file_and_other_categories_of_val(tree):
    tree.build()
    with pytest.raises(ConfigError, match=r"dataset.val is 'annotations/instances_val.json'.*did"):
        tree.collect(val="annotations/instances_val.json")
    values = tree.values("val2017")
    values["categories"] = [*CATEGORIES[:2], {"id": 90, "name": "hound"}]
    tree.build(val2017=values)
    with pytest.raises(ConfigError, match=r"objects of hound, which are no categories of"):
        tree.collect()
    assert tree.collect(classes=["cat"]).class_names == ("cat",)
    with pytest.raises(ValueError, match="different names"):
        CocoSettings(classes=["a", "a"])


def test_prepare_data_places_masks_and_boxes(tree, tmp_path):
    tree.build()
    paths = Paths(tmp_path / "project")
    params = parse_params(
        {
            "prepare_data": {
                "dataset": {"name": "coco", "root": str(tree.root)},
                "selection_share": 0.3,
                "box_labels": "all",
            },
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
        }
    )
    run_stage("prepare_data", params, paths)
    manifest = Manifest.read(paths.splits)
    assert manifest.class_names == ("person", "cat", "dog")
    samples = {sample.name: sample for split in manifest.splits.values() for sample in split}
    assert len(samples) == 12
    assert all(sample.mask for sample in samples.values())
    mask = read_label_png(paths.masks / "train2017/000000000034.png")
    assert np.unique(mask).tolist() == [0, 1, 255]
    boxes = Annotations.read(paths.annotations).boxes
    assert boxes["train2017/000000000009"] == (Box(1, 1, 1, 7, 7), Box(2, 2, 2, 4, 4))
    assert "train2017/000000000034" not in boxes
    report = read_json(paths.report("prepare_data"))
    assert report["num_skipped"] == 0
    first = {path.name: path.read_bytes() for path in paths.masks.rglob("*.png")}
    other = Paths(tmp_path / "other")
    run_stage("prepare_data", params, other)
    assert {path.name: path.read_bytes() for path in other.masks.rglob("*.png")} == first


def test_a_killed_run_is_continued(tree, tmp_path, monkeypatch):
    tree.build()
    paths = Paths(tmp_path / "project")
    params = parse_params(
        {
            "prepare_data": {"dataset": {"name": "coco", "root": str(tree.root)}},
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
        }
    )
    real, prepared = _preparation.prepare_image, []

    def prepare(source, *args, **kwargs):
        if len(prepared) == 8:
            raise KeyboardInterrupt
        prepared.append(source)
        return real(source, *args, **kwargs)

    monkeypatch.setattr(_preparation, "usable_cores", lambda: 0)
    monkeypatch.setattr(_preparation, "prepare_image", prepare)
    with pytest.raises(KeyboardInterrupt):
        run_stage("prepare_data", params, paths)
    again: list[Path] = []

    def prepare_again(source, *args, **kwargs):
        again.append(source)
        return real(source, *args, **kwargs)

    monkeypatch.setattr(_preparation, "prepare_image", prepare_again)
    run_stage("prepare_data", params, paths)
    assert 0 < len(again) <= 12 - 7  # masks were drawn again, and are known to be the same
    assert len(Manifest.read(paths.splits).all_samples()) == 12
