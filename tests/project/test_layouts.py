"""What a folder of images is taken for, and what is said of one that is not understood."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsss.project.layouts import KNOWN, has_masks, read_folder
from wsss.project.start import describe
from wsss.settings import ConfigError

Layouts = dict[str, Callable[[Path], Any]]


@pytest.mark.parametrize(
    ("layout", "images", "classes", "masks"),
    [
        ("a sub-folder per class", 24, ("cat", "dog"), True),
        ("a table of tags", 24, ("cat", "dog"), False),
        ("good and defective parts", 20, ("defect",), True),
        ("COCO", 18, ("cat", "dog"), True),
        ("PASCAL VOC", 16, None, False),
    ],
)
def test_layouts_are_told_apart(
    layouts: Layouts, tmp_path: Path, layout: str, images: int, classes: Any, masks: bool
) -> None:
    layouts[layout](tmp_path)
    found = read_folder(tmp_path)
    assert found.layout == layout
    assert sum(map(len, found.raw.splits.values())) == images
    assert classes is None or found.raw.class_names == classes
    assert has_masks(found.raw) == masks
    names = {found.raw.class_names[i - 1] for x in found.raw.splits["train"] for i in x.class_ids}
    assert names == set(classes or ("cat", "dog"))


def test_every_kind_that_is_told_of_has_an_example_that_is_read(layouts: Layouts) -> None:
    assert {*layouts, "tags in file names"} == set(KNOWN)


def test_tags_in_file_names(layouts: Layouts, tmp_path: Path) -> None:
    made = layouts["a table of tags"](tmp_path / "other")
    made.root = tmp_path / "patches"
    for at in range(8):
        made.add(f"training/{at}[{at % 2} {1 - at % 2}].png", "cat")
        made.add(f"val/img/{at}.png", "cat", f"val/mask/{at}.png", value=1)
    found = read_folder(tmp_path / "patches")
    assert found.layout == "tags in file names"
    assert found.dataset["val_masks"] == "val/mask"
    assert found.raw.class_names == ("class_1", "class_2")


@pytest.mark.parametrize("where", ["tags.csv", "labels/mine.csv", "../elsewhere.csv"])
def test_a_table_may_be_named_wherever_it_lies(
    layouts: Layouts, tmp_path: Path, where: str
) -> None:
    made = layouts["a table of tags"](tmp_path / "data")
    moved = made.root / where
    moved.parent.mkdir(exist_ok=True)
    (made.root / "tags.csv").rename(moved)
    found = read_folder(made.root, moved)
    assert found.dataset["images"] == "images"
    assert {name: len(items) for name, items in found.raw.splits.items() if items} == {
        "train": 19,
        "val": 5,
    }


@pytest.mark.parametrize("beside", ["person_keypoints", "captions", "stuff"])
def test_of_several_files_of_a_split_that_of_objects_is_read(
    layouts: Layouts, tmp_path: Path, beside: str
) -> None:
    """As in a download of COCO, whose key points are of persons alone."""
    made = layouts["COCO"](tmp_path)
    for split in ("train", "valid"):
        held = made.root / split / "_annotations.coco.json"
        text = held.read_text()
        made.write(f"annotations/instances_{split}2017.json", text)
        tree = json.loads(text)
        tree["annotations"] = [item for item in tree["annotations"] if item["category_id"] == 1]
        tree["categories"] = tree["categories"][:1]
        made.write(f"annotations/{beside}_{split}2017.json", json.dumps(tree))
        held.unlink()
    found = read_folder(tmp_path)
    assert found.dataset["train"] == "annotations/instances_train2017.json"
    assert found.dataset["val"] == "annotations/instances_valid2017.json"
    assert found.raw.class_names == ("cat", "dog")
    assert "with annotations/instances_train2017.json" in describe(found)[0]


def test_what_several_files_may_tell_is_asked(layouts: Layouts, tmp_path: Path) -> None:
    """None is taken for no reason but its place in the alphabet."""
    made = layouts["COCO"](tmp_path / "objects")
    text = (made.root / "train/_annotations.coco.json").read_text()
    made.write("train/again.json", text)
    with pytest.raises(ConfigError, match=r"several files of COCO.*_annotations.*, train/again"):
        read_folder(made.root)
    made = layouts["a table of tags"](tmp_path / "tables")
    first = (made.root / "tags.csv").read_text()
    made.write("about.csv", first)
    found = read_folder(made.root)
    assert found.dataset["tags"] == "tags.csv" and "with tags.csv" in describe(found)[0]
    made.write("more_tags.csv", first.replace("dog", "wolf"))
    with pytest.raises(ConfigError, match=r"several tables of tags, more_tags.csv, tags.csv"):
        read_folder(made.root)
    named = read_folder(made.root, made.root / "more_tags.csv")
    assert named.raw.class_names == ("cat", "wolf")


@pytest.mark.parametrize("good", ["normal", "good", "OK"])
def test_folders_named_after_splits_are_splits(layouts: Layouts, tmp_path: Path, good: str) -> None:
    """A class of images without any other does not make parts of them."""
    made = layouts["a table of tags"](tmp_path / "other")
    made.root = tmp_path / "lungs"
    for split, count in (("train", 6), ("val", 3)):
        for kind, shown in ((good, ""), ("pneumonia", "cat"), ("covid", "dog")):
            for at in range(count):
                made.add(f"{split}/{kind}/{at}.png", shown)
    found = read_folder(made.root)
    assert found.raw.class_names == ("covid", "pneumonia")
    assert {name: len(items) for name, items in found.raw.splits.items()} == {"train": 18, "val": 9}
    assert all(sample.name.startswith("val/") for sample in found.raw.splits["val"])
    told = "\n".join(describe(found))
    assert (
        f"'{good}' is read as none of the classes" in told and "9 images show none of them" in told
    )


def test_what_is_done_with_the_splits_of_parts_is_said(layouts: Layouts, tmp_path: Path) -> None:
    made = layouts["good and defective parts"](tmp_path)
    assert "are no splits: all images are drawn anew" in "\n".join(describe(read_folder(tmp_path)))
    (made.root / "ground_truth").rename(tmp_path.with_name("drawn"))
    assert read_folder(tmp_path).layout == "good and defective parts"


def test_masks_beside_a_table_are_found(layouts: Layouts, tmp_path: Path) -> None:
    made = layouts["a table of tags"](tmp_path)
    for at in range(24):
        made.add(f"images/{at:02}.jpg", ("cat", "dog", "scratch")[at % 3], f"masks/{at:02}.png")
    found = read_folder(tmp_path)
    assert found.dataset["masks"] == "masks"
    assert has_masks(found.raw)


def test_a_class_may_be_called_masks(layouts: Layouts, tmp_path: Path) -> None:
    made = layouts["a sub-folder per class"](tmp_path)
    (tmp_path / "masks").rename(tmp_path / "drawn")
    for at in range(4):  # of faces
        made.add(f"drawn/{at}.png")
    with pytest.raises(ValueError, match="is not understood") as error:
        read_folder(tmp_path / "drawn" / "cat")
    assert "12 .png, in no folder" in str(error.value)


def test_what_is_not_understood_is_told_with_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/notes.txt").write_text("?")
    with pytest.raises(ValueError, match="is not understood") as error:
        read_folder(tmp_path)
    text = str(error.value)
    assert "it holds 1 .txt, in the folders a" in text
    assert all(f"{layout}: {example}" in text for layout, example in KNOWN.items())


def test_a_table_that_does_not_fit_says_why(layouts: Layouts, tmp_path: Path) -> None:
    made = layouts["a table of tags"](tmp_path)
    table = made.write("wrong.csv", "image,tags\nnowhere.jpg,cat\n")
    with pytest.raises(ValueError, match="nowhere"):
        read_folder(tmp_path, table)


def test_a_reason_is_told_once(layouts: Layouts, tmp_path: Path) -> None:
    """With a folder of masks beside it, a table is tried with and without these."""
    made = layouts["a table of tags"](tmp_path)
    names = sorted(path.name for path in (made.root / "images").iterdir())
    cells = ("cat", "dog", "cat dog")
    rows = [f"{name},{cells[at % 3]}" for at, name in enumerate(names)]
    made.write("tags.csv", "\n".join(["image,tags", *rows, ""]))
    with pytest.raises(ValueError, match="may be one tag or several") as error:
        read_folder(made.root)
    lines = str(error.value).splitlines()
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize(("folder", "table"), [("none", None), (".", "none.csv")])
def test_what_is_not_there(tmp_path: Path, folder: str, table: str | None) -> None:
    with pytest.raises(ConfigError, match="is not a f"):
        read_folder(tmp_path / folder, tmp_path / table if table else None)
