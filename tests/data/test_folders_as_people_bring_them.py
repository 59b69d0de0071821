"""Kinds of folders and files that used to be read wrongly in silence, and what settles each."""

import json

import pytest

from wsss.config import ConfigError
from wsss.data.folder import Folder, FolderSettings

NAMES = [f"IMG_{index}.JPG" for index in range(20)]
CATS_AND_DOGS = [f"{name},{('cat', 'dog')[index % 2]}" for index, name in enumerate(NAMES)]
TAGS = [["cat"], ["dog"], ["cat", "dog"], []]


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _collect(root, **settings):
    return Folder(FolderSettings(root=str(root), **settings)).collect(root / "scratch", 0)


def _tags(raw):
    return {
        sample.name: {raw.class_names[c - 1] for c in sample.class_ids}
        for samples in raw.splits.values()
        for sample in samples
    }


def _names(raw):
    return {split: [item.name for item in items] for split, items in raw.splits.items()}


@pytest.fixture
def photos(tmp_path):
    """Twenty photographs in images, and a way to write a file of tags beside."""
    _touch(tmp_path / "images", *NAMES)

    def collect(text, file="t.csv", **settings):
        (tmp_path / file).write_text(text, encoding="utf-8")
        return _collect(tmp_path, images="images", tags=file, **settings)

    collect.root = tmp_path
    return collect


# Folders that are splits.


def test_folders_named_after_splits_are_no_classes(tmp_path):
    for split in ("train", "valid", "test"):
        _touch(tmp_path, *(f"{split}/{kind}/{i}.jpg" for kind in ("cat", "dog") for i in range(3)))
    raw = _collect(tmp_path)
    assert raw.class_names == ("cat", "dog")
    assert [len(raw.splits[split]) for split in ("train", "val")] == [6, 6]
    (warning,) = raw.warnings
    assert "6 images of the test split are not used" in warning
    assert "dataset.splits: {test: val, valid: selection}" in warning
    raw = _collect(tmp_path, splits={"test": "val", "valid": "selection"})
    assert {split: len(items) for split, items in raw.splits.items()} == {
        "train": 6,
        "val": 6,
        "selection": 6,
    }
    assert all(name.startswith("test/") for name in _names(raw)["val"])
    assert not raw.warnings


def test_test_is_val_where_nothing_else_is_and_said(tmp_path):
    _touch(tmp_path, *(f"{split}/cat/{i}.jpg" for split in ("Train", "TEST") for i in range(3)))
    raw = _collect(tmp_path)
    assert _names(raw)["val"] == [f"TEST/cat/{i}" for i in range(3)]
    assert "the test split (3 images) is val" in raw.warnings[0]


def test_a_test_folder_without_classes_is_not_used_and_val_held_out(tmp_path):
    """Kaggle's: the test images have no tags, with folders or with a file for train alone."""
    _touch(tmp_path, *(f"train/{'cat' if i % 2 else 'dog'}/{i}.jpg" for i in range(10)))
    _touch(tmp_path, *(f"test/{i}.jpg" for i in range(100, 120)))
    raw = _collect(tmp_path)
    assert raw.class_names == ("cat", "dog")
    assert (len(raw.splits["train"]), len(raw.splits["val"])) == (8, 2)
    assert not raw.problems
    assert "the 20 images of the test split have no tags" in raw.warnings[0]
    lines = [f"{i}.jpg,{'cat' if i % 2 else 'dog'}" for i in range(10)]
    (tmp_path / "train.csv").write_text("\n".join(["id,label", *lines]))
    assert _collect(tmp_path, tags="train.csv").splits == raw.splits


@pytest.mark.parametrize("split", ["val", "test", "valid"])
def test_one_folder_that_is_not_for_training_is_refused(tmp_path, split):
    _touch(tmp_path, f"{split}/cat/1.jpg", f"{split}/dog/1.jpg")
    with pytest.raises(ValueError, match=rf"no image is for training.*{{{split}: train}}"):
        _collect(tmp_path)
    raw = _collect(tmp_path, splits={split: "train"})
    assert raw.class_names == ("cat", "dog")


def test_a_class_named_as_a_split_is_settled_by_classes(tmp_path):
    _touch(tmp_path, *(f"{kind}/{i}.jpg" for kind in ("bus", "train") for i in range(3)))
    with pytest.raises(ValueError, match=r"'train' is by name a split, but 'bus' is not.*classes"):
        _collect(tmp_path)
    assert _collect(tmp_path, classes=["bus", "train"]).class_names == ("bus", "train")
    both = tmp_path / "both"
    for split in ("train", "val"):
        _touch(both, *(f"{split}/{kind}/{i}.jpg" for kind in ("bus", "train") for i in range(3)))
    raw = _collect(both, classes=["train", "bus"])
    assert _names(raw)["val"] == sorted(f"val/{k}/{i}" for k in ("bus", "train") for i in range(3))
    assert _tags(raw)["train/bus/0"] == {"bus"}


def test_folders_beside_splits_are_refused_or_settled(tmp_path):
    _touch(tmp_path, "train/cat/1.jpg", "train/cat/2.jpg", "val/cat/1.jpg", "extra/cat/1.jpg")
    with pytest.raises(ValueError, match=r"'extra' is not; .*dataset.splits.*{extra: train}"):
        _collect(tmp_path)
    raw = _collect(tmp_path, splits={"extra": "unused"})
    assert _names(raw) == {"train": ["train/cat/1", "train/cat/2"], "val": ["val/cat/1"]}
    raw = _collect(tmp_path, splits={"extra": "selection"})
    assert _names(raw)["selection"] == ["extra/cat/1"]


def test_settings_that_name_what_is_not_there_are_said(tmp_path):
    _touch(tmp_path, "train/cat/1.jpg", "train/good/2.jpg", "test/cat/1.jpg")
    with pytest.raises(ConfigError, match=r"splits names 'tset', but .*did you mean 'test'"):
        _collect(tmp_path, splits={"tset": "val"})
    assert "no image has the tag 'god'" in _collect(tmp_path, empty_tag="god").warnings[0]
    assert "did you mean 'good'" in _collect(tmp_path, empty_tag="god").warnings[0]


def test_images_beside_the_splits_folders_are_listed(tmp_path):
    _touch(tmp_path, "train/cat/1.jpg", "train/cat/2.jpg", "val/cat/1.jpg", "example.jpg")
    (problem,) = _collect(tmp_path).problems
    assert problem.name == "example"
    assert "none of the splits' folders (train, val)" in problem.reason


@pytest.mark.parametrize(
    "names",
    [
        ("images/cat/1.jpg", "masks/cat/1.png"),
        ("images/1.jpg", "labels/1.png"),
        ("train/images/1.jpg", "train/masks/1.png"),
        ("cat/1.jpg", "dog/1.jpg", "ground_truth/dog/1.png"),
        ("cat/img/1.jpg", "cat/mask/1.png"),
        ("JPEGImages/1.jpg", "SegmentationClass/1.png"),
        ("train/1.jpg", "train_masks/1.png"),
        ("train_images/1.jpg", "train_masks/1.png", "val_images/2.jpg", "val_masks/2.png"),
    ],
)
def test_folders_of_masks_are_no_classes(tmp_path, names):
    _touch(tmp_path, *names)
    with pytest.raises(ValueError, match=r"holds masks by its name.*dataset.masks to (it|mask)"):
        _collect(tmp_path)


def test_a_class_named_as_masks_is_settled_by_classes(tmp_path):
    _touch(tmp_path, *(f"{kind}/{i}.jpg" for kind in ("mask", "no_mask") for i in range(3)))
    with pytest.raises(ValueError, match=r"list all classes in dataset.classes.*\[mask, no_mask\]"):
        _collect(tmp_path)
    raw = _collect(tmp_path, classes=["mask", "no_mask"])
    assert _tags(raw)["mask/0"] == {"mask"}


def test_a_folder_around_classes_is_settled_by_classes(tmp_path):
    _touch(
        tmp_path, *(f"{part}/{k}/{i}.jpg" for part in "ab" for k in ("cat", "dog") for i in "12")
    )
    with pytest.raises(ValueError, match=r"classes may be 'a', 'b', or .*\[cat, dog\] or \[a, b\]"):
        _collect(tmp_path)
    assert _tags(_collect(tmp_path, classes=["cat", "dog"]))["a/cat/1"] == {"cat"}
    assert _tags(_collect(tmp_path, classes=["a", "b"]))["a/cat/1"] == {"a"}


@pytest.mark.parametrize(
    "folders",
    [
        ("labelled/cat", "labelled/dog", "unlabelled"),
        ("animals/cat", "animals/dog", "vehicles/bus"),
    ],
)
def test_folders_around_some_classes_are_settled_by_classes(tmp_path, folders):
    _touch(tmp_path, *(f"{folder}/{i}.jpg" for folder in folders for i in "123"))
    with pytest.raises(ValueError, match=r"classes may be .*or the folders in them.*'cat', 'dog'"):
        _collect(tmp_path)
    outer = sorted({folder.partition("/")[0] for folder in folders})
    assert _collect(tmp_path, classes=outer).class_names == tuple(outer)


def test_blanks_around_names_of_folders_are_no_part_of_classes(tmp_path):
    _touch(tmp_path, *(f"{kind}/{i}.jpg" for kind in ("cat ", " dog") for i in "123"))
    assert _collect(tmp_path).class_names == ("cat", "dog")


def test_a_folder_around_splits_is_settled_by_classes(tmp_path):
    for split in ("01_train", "02_val"):
        _touch(tmp_path, *(f"set/{split}/{kind}/{i}.jpg" for kind in ("cat", "dog") for i in "12"))
    with pytest.raises(ValueError, match=r"classes may be 'set', or .*\[cat, dog\] or \[set\]"):
        _collect(tmp_path)
    raw = _collect(tmp_path, classes=["cat", "dog"])
    assert _tags(raw)["set/01_train/cat/1"] == {"cat"}
    assert len(raw.splits["val"]) == 4
    assert _collect(tmp_path, images="set").class_names == ("cat", "dog")


@pytest.mark.parametrize("header", ["split", "subset", "Set", "phase", "partition"])
def test_a_column_of_splits_counts(photos, header):
    lines = [
        f"{n},{('cat', 'dog')[i % 2]},{'val' if i < 5 else 'train'}" for i, n in enumerate(NAMES)
    ]
    raw = photos("\n".join([f"image,tags,{header}", *lines]))
    assert _names(raw)["val"] == [f"IMG_{index}" for index in range(5)]
    assert raw.class_names == ("cat", "dog")


def test_a_column_of_splits_beside_columns_of_classes_is_no_class(photos):
    lines = [f"{n},{i % 2},{1 - i % 2},{i < 5}" for i, n in enumerate(NAMES)]
    raw = photos("\n".join(["fname,cat,dog,is_valid", *lines]))
    assert raw.class_names == ("cat", "dog")
    assert _names(raw)["val"] == [f"IMG_{index}" for index in range(5)]


def test_splits_in_json_count(photos):
    rows = [
        {"image": n, "label": "cat" if i % 2 else "dog", "split": "Valid" if i < 5 else "TRAINING"}
        for i, n in enumerate(NAMES)
    ]
    for values in (
        rows,
        {row["image"]: {"tags": row["label"], "split": row["split"]} for row in rows},
    ):
        raw = photos(json.dumps(values), "t.json")
        assert _names(raw)["val"] == [f"IMG_{index}" for index in range(5)]


def test_values_of_a_column_of_splits_that_name_none_are_said_and_settled(photos):
    lines = [f"{n},cat,{i % 4}" for i, n in enumerate(NAMES)]
    text = "\n".join(["image,tags,fold", *lines])
    with pytest.raises(ValueError, match=r"splits with '0', '1', '2', '3'.*{\"0\": train}"):
        photos(text)
    raw = photos(text, splits={0: "val", 1: "train", "2": "train", "3": "unused"})
    assert _names(raw)["val"] == sorted(f"IMG_{i}" for i in range(0, 20, 4))
    assert len(raw.splits["train"]) == 10


def test_a_blank_split_is_listed_and_settled(photos):
    lines = [f"{n},cat,{'val' if i < 5 else ''}" for i, n in enumerate(NAMES)]
    text = "\n".join(["image,tags,split", *lines])
    with pytest.raises(ValueError, match=r"(?s)no image is for training.*IMG_10: no split in t"):
        photos(text)
    assert len(photos(text, splits={"": "train"}).splits["train"]) == 15


def test_folders_and_a_column_that_name_other_splits_contradict(tmp_path):
    _touch(tmp_path, "train/1.jpg", "train/2.jpg", "val/3.jpg")
    (tmp_path / "t.csv").write_text("image,tags,split\n1,cat,train\n2,cat,val\n3,cat,val\n")
    with pytest.raises(ValueError, match=r"'train/2' is in the split 'val' by t.csv, but"):
        _collect(tmp_path, tags="t.csv")


# Classes that vanish.


def test_a_class_that_is_a_link_is_followed(tmp_path):
    root = tmp_path / "set"
    _touch(tmp_path / "store", *(f"cat/{i}.jpg" for i in range(5)))
    _touch(root, *(f"{kind}/{i}.jpg" for kind in ("dog", "none") for i in range(5)))
    (root / "cat").symlink_to(tmp_path / "store/cat")
    raw = _collect(root)
    assert raw.class_names == ("cat", "dog")
    assert sum(tags == {"cat"} for tags in _tags(raw).values()) == 5
    assert not raw.warnings


# Tags that are several, or nearly the same.


def test_several_tags_in_a_cell_are_no_class(photos):
    lines = [f'{n},"{", ".join(TAGS[i % 4]) or "none"}"' for i, n in enumerate(NAMES)]
    raw = photos("\n".join(["image,tags", *lines]))
    assert raw.class_names == ("cat", "dog")
    assert _tags(raw) == {f"IMG_{i}": set(TAGS[i % 4]) for i in range(20)}


@pytest.mark.parametrize("cell", ["tench, Tinca tinca", "a|b", "a, b, c"])
def test_what_may_be_one_tag_or_several_is_refused_and_settled(photos, cell):
    lines = [f'{n},"{cell if i % 2 else "none"}"' for i, n in enumerate(NAMES)]
    text = "\n".join(["image,tags", *lines])
    with pytest.raises(ValueError, match=r"may be one tag or several; write several tags with ';'"):
        photos(text)
    assert photos(text, classes=[cell]).class_names == (cell,)
    parts = [part.strip() for part in cell.replace("|", ",").split(",")]
    assert _tags(photos(text, classes=parts))["IMG_1"] == set(parts)


@pytest.mark.parametrize("cell", ["cat/dog", "cat+dog", "cat & dog", "cat and dog", "cat dog"])
def test_what_looks_like_tags_of_others_is_refused_and_settled(photos, cell):
    lines = [f"{n},{('cat', 'dog', cell)[i % 3]}" for i, n in enumerate(NAMES)]
    text = "\n".join(["image,tags", *lines])
    with pytest.raises(ValueError, match=r"\(of \d+ images\) may be one tag or several.*cat;dog"):
        photos(text)
    assert len(photos(text, classes=["cat", "dog", cell]).class_names) == 3
    assert _tags(photos(text.replace(cell, "cat;dog")))["IMG_2"] == {"cat", "dog"}


def test_a_line_per_image_and_tag_is_read_and_said(photos):
    lines = [f"{n},{tag}" for i, n in enumerate(NAMES) for tag in TAGS[i % 4] or ["none"]]
    raw = photos("\n".join(["image,tags", *lines, f"{NAMES[0]},cat"]))  # twice the same is once
    assert _tags(raw) == {f"IMG_{i}": set(TAGS[i % 4]) for i in range(20)}
    assert (
        "several lines for 5 images, such as 'IMG_2', whose tags are taken together: cat, dog"
        in (raw.warnings[0])
    )


def test_no_class_and_a_class_at_once_is_listed(photos):
    raw = photos("\n".join(["image,tags", *(f"{n},cat" for n in NAMES), f"{NAMES[3]},none"]))
    assert [problem.name for problem in raw.problems] == ["IMG_3"]
    assert "'none' and other tags" in raw.problems[0].reason


NEARLY = [
    ("Cat", "cat"),
    ("traffic light", "traffic_light"),
    ("caf\u00e9", "cafe\u0301"),
    ("a  b", "a b"),
]


@pytest.mark.parametrize(("one_way", "other"), NEARLY)
@pytest.mark.parametrize("tagged", [False, True], ids=["folders", "file"])
def test_classes_that_are_nearly_the_same_are_refused_or_settled(tmp_path, one_way, other, tagged):
    kinds = [one_way, other, "bird"]
    if tagged:
        _touch(tmp_path, *NAMES)
        lines = [f"{n},{kinds[i % 3]}" for i, n in enumerate(NAMES)]
        (tmp_path / "t.csv").write_text("\n".join(["image,tags", *lines]), encoding="utf-8")
    else:
        _touch(tmp_path, *(f"{kinds[i % 3]}/{n}" for i, n in enumerate(NAMES)))
    settings = {"tags": "t.csv"} if tagged else {}
    with pytest.raises(ValueError, match=r"differ in case, blanks .*list the classes in d"):
        _collect(tmp_path, **settings)
    raw = _collect(tmp_path, classes=["bird", other], **settings)
    assert raw.class_names == ("bird", other)
    assert len(_tags(raw)) == 20
    assert f"'{one_way}' is '{other}'" in raw.warnings[0]
    assert len(_collect(tmp_path, classes=kinds, **settings).class_names) == 3


def test_the_empty_tag_in_other_case_is_no_class(tmp_path):
    _touch(tmp_path, "cat/1.jpg", "cat/2.jpg", "None/1.jpg")
    raw = _collect(tmp_path)
    assert raw.class_names == ("cat",)
    assert _tags(raw)["None/1"] == set()


@pytest.mark.parametrize("blank", ["", "nan", "NaN", "N/A", "null", " "])
def test_what_tables_write_for_nothing_is_no_class(photos, blank):
    raw = photos(
        "\n".join(
            ["image,tags", *(f"{n},{blank if i == 3 else 'cat'}" for i, n in enumerate(NAMES))]
        )
    )
    assert raw.class_names == ("cat",)
    assert [problem.name for problem in raw.problems] == ["IMG_3"]


@pytest.mark.parametrize("separator", [", ", "，", "、", ";", "；", "|", " | ", "\n"])
@pytest.mark.parametrize("form", ["csv", "json", "json list", "quoted"])
def test_every_separator_in_a_cell_is_one_in_json_too(photos, separator, form):
    tags = [["cat"], ["dog"], ["cat", "dog"]]
    cells = {n: separator.join(tags[i % 3]) for i, n in enumerate(NAMES)}
    if form == "quoted":
        cells = {n: separator.join(f"'{tag}'" for tag in tags[i % 3]) for i, n in enumerate(NAMES)}
    if "json" in form:
        values = {n: [cell] if "list" in form else cell for n, cell in cells.items()}
        raw = photos(json.dumps(values), "t.json")
    else:
        raw = photos("\n".join(["image,tags", *(f'{n},"{cell}"' for n, cell in cells.items())]))
    assert _tags(raw) == {f"IMG_{i}": set(tags[i % 3]) for i in range(20)}


@pytest.mark.parametrize("folder", ["cat, dog", "cat+dog", "cat and dog", "cat & bird"])
def test_a_folder_named_after_several_classes_is_refused_or_settled(tmp_path, folder):
    _touch(tmp_path, *(f"{kind}/{i}.jpg" for kind in ("cat", "dog", folder) for i in range(4)))
    with pytest.raises(ValueError, match=r"\(4 images\) may be a class or several.*in a file, or"):
        _collect(tmp_path)
    raw = _collect(tmp_path, classes=["cat", "dog", folder])
    assert _tags(raw)[f"{folder}/0"] == {folder}


@pytest.mark.parametrize("words", ["TrueFalse", "yesno"])
def test_yes_and_no_are_no_classes(photos, words):
    pair = (words[:4], words[4:]) if words[0] == "T" else (words[:3], words[3:])
    text = "\n".join(["image,label", *(f"{n},{pair[i % 2]}" for i, n in enumerate(NAMES))])
    with pytest.raises(ValueError, match=r"which say no class: name the column of them as the"):
        photos(text)
    assert photos(text.replace("label", "smoke", 1)).class_names == ("smoke",)


def test_an_exact_list_of_classes_in_columns_or_coco_is_taken_as_it_is(photos):
    lines = [f"{n},{i % 2},{1 - i % 2}" for i, n in enumerate(NAMES)]
    raw = photos("\n".join(['image,"tench, Tinca tinca",cat/dog', *lines]))
    assert raw.class_names == ("cat/dog", "tench, Tinca tinca")


def test_label_studio_s_exports_are_read(photos):
    """JSON-MIN and CSV with choices; names of uploads have a hash before and no blanks."""
    upload = "/data/upload/3/0a1b2c3d-{}"
    rows = [
        {
            **{"image": upload.format(n), "id": i, "annotator": 1, "annotation_id": i + 5},
            **{"choice": TAGS[i % 3][0] if i % 3 < 2 else {"choices": TAGS[i % 3]}},
        }
        for i, n in enumerate(NAMES)
    ]
    raw = photos(json.dumps(rows), "t.json")
    assert _tags(raw) == {f"IMG_{i}": set(TAGS[i % 3]) for i in range(20)}


def test_texts_are_no_classes(photos):
    text = "\n".join(["image,tags", *(f"{n},photograph {i} of a cat" for i, n in enumerate(NAMES))])
    with pytest.raises(ValueError, match=r"20 images have 20 different tags.*list all classes in"):
        photos(text)


def test_when_no_class_is_left_it_is_said_what_was_passed_over(tmp_path):
    _touch(tmp_path, "cat/1.heic", "none/1.jpg", "none/2.jpg")
    with pytest.raises(ValueError, match=r"(?s)no image .* has a tag.*: cat \(only 1 .heic\)"):
        _collect(tmp_path)


# Paths, headers and separators.


def test_absolute_paths_are_matched(photos):
    folder = (photos.root / "images").resolve()
    raw = photos(
        "\n".join(
            ["image,tags", *(f"{folder / n},{('cat', 'dog')[i % 2]}" for i, n in enumerate(NAMES))]
        )
    )
    assert _tags(raw) == {f"IMG_{i}": {("cat", "dog")[i % 2]} for i in range(20)}


def test_semicolons_separate_columns(photos):
    raw = photos(
        "\n".join(["image;tags", *(f"{n};{('cat', 'dog')[i % 2]}" for i, n in enumerate(NAMES))])
    )
    assert _tags(raw) == {f"IMG_{i}": {("cat", "dog")[i % 2]} for i in range(20)}


@pytest.mark.parametrize("file", ["t.csv", "t.json"])
def test_when_no_entry_is_an_image_one_of_each_is_shown(photos, file):
    entries = {f"D:\\set\\DSC{i:04}.JPG": ["cat"] for i in range(300)}
    text = (
        json.dumps(entries)
        if "json" in file
        else "\n".join(["image,tags", *(f"{e},cat" for e in entries)])
    )
    with pytest.raises(
        ValueError, match=r"none of the 300 entries .*'D:\\set\\DSC0000.JPG'.*called 'IMG_0'"
    ):
        photos(text, file)


def test_an_entry_of_another_split_is_not_taken_for_an_image(tmp_path):
    """train/1 and test/1 are two photographs, of which one lies here."""
    _touch(tmp_path / "train", *(f"{i}.jpg" for i in range(5)))
    lines = [f"{split}/{i}.jpg,{split}" for split in ("test", "train") for i in range(5)]
    (tmp_path / "t.csv").write_text("\n".join(["image,tags", *lines]))
    raw = _collect(tmp_path, images="train", tags="t.csv")
    assert raw.class_names == ("train",)
    assert [problem.name for problem in raw.problems] == [f"test/{i}.jpg" for i in range(5)]


def test_entries_of_several_folders_that_mean_one_image_mean_none(tmp_path):
    _touch(tmp_path / "images", *(f"{i}.jpg" for i in range(5)))
    lines = [f"{part}/{i}.jpg,{part}" for part in ("north", "south") for i in range(5)]
    (tmp_path / "t.csv").write_text("\n".join(["image,tags", *lines]))
    with pytest.raises(ValueError, match=r"none of the 10 entries"):
        _collect(tmp_path, images="images", tags="t.csv")


def test_numbers_that_lost_their_zeros_are_matched(tmp_path):
    _touch(tmp_path, *(f"{i:04}.jpg" for i in range(12)))
    (tmp_path / "t.csv").write_text("\n".join(["id,label", *(f"{i},cat" for i in range(12))]))
    raw = _collect(tmp_path, tags="t.csv")
    assert len(_tags(raw)) == 12
    assert (
        "12 entries for images that are called otherwise, such as '0' for '0000'"
        in (raw.warnings[0])
    )


def test_what_is_matched_by_more_than_its_end_is_said(tmp_path):
    _touch(
        tmp_path / "images", *(f"{kind}/{kind}{i}.jpg" for kind in ("cat", "dog") for i in "123")
    )
    for entry, said in (
        ("cat1.jpg", False),
        ("/home/me/images/cat/cat1.jpg", False),
        ("D:\\cat\\cat1.jpg", False),
        ("raw/cat1.jpg", True),
        ("CAT1.JPG", True),
        ("cat1.png", True),
    ):
        (tmp_path / "t.json").write_text(json.dumps({entry: "cat", "dog1": "dog", "dog2": "dog"}))
        raw = _collect(tmp_path, images="images", tags="t.json")
        assert _tags(raw)["cat/cat1"] == {"cat"}
        assert ["called otherwise" in text for text in raw.warnings] == [True] * said


def test_a_table_of_boxes_gives_tags(photos):
    lines = [f"{n},640,480,{tag},1,2,3,4" for i, n in enumerate(NAMES) for tag in TAGS[i % 3] * 2]
    raw = photos("\n".join(["filename,width,height,class,xmin,ymin,xmax,ymax", *lines]))
    assert _tags(raw) == {f"IMG_{i}": set(TAGS[i % 3]) for i in range(20)}


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("image,label,class", "may be the tags: label, class; name the right one tags"),
        ("image,split,fold", "may be the splits: split, fold"),
        ("image,a,b", "column 'a' holds 'u', but must hold 0 or 1"),
        ("a,b,c", "its columns, a, b, c, none is called image"),
    ],
)
def test_columns_that_may_mean_several_things_are_named(photos, header, named):
    with pytest.raises(ValueError, match=named):
        photos("\n".join([header, *(f"{'q' if header[0] == 'a' else ''}{n},u,v" for n in NAMES)]))


def test_every_folder_may_have_its_own_file_of_tags(tmp_path):
    """Roboflow's: train/_classes.csv and valid/_classes.csv, whose images have the same names."""
    for split in ("train", "valid"):
        _touch(tmp_path / split, "a.jpg", "b.jpg")
        (tmp_path / split / "_classes.csv").write_text(
            f"filename, cat, dog\na.jpg,1,0\nb.jpg,{int(split == 'train')},1\n"
        )
    raw = _collect(tmp_path, tags="*/_classes.csv")
    assert _names(raw) == {"train": ["train/a", "train/b"], "val": ["valid/a", "valid/b"]}
    assert _tags(raw)["train/b"] == {"cat", "dog"}
    assert _tags(raw)["valid/b"] == {"dog"}


def test_a_key_twice_in_json_is_refused(photos):
    with pytest.raises(ValueError, match='two values for "IMG_0"; keep one'):
        photos('{"IMG_0": ["cat"], "IMG_0": ["dog"]}', "t.json")


def test_a_misspelt_file_of_tags_is_suggested(photos):
    photos("\n".join(["image,tags", *(f"{n},cat" for n in NAMES)]), "labels.csv")
    with pytest.raises(ConfigError, match=r"did you mean 'labels.csv'"):
        _collect(photos.root, images="images", tags="lables.csv")


# Numbers for classes.

IDS = {name[:-4]: [2, 3] if i % 2 else [5] for i, name in enumerate(NAMES)}
FIVE = ["ant", "bee", "cow", "dog", "eel"]


@pytest.mark.parametrize("form", ["json", "csv", "texts"])
def test_numbers_are_named_by_a_list_of_classes(photos, form):
    if form == "csv":
        text = "\n".join(["image,tags", *(f"{k},{';'.join(map(str, v))}" for k, v in IDS.items())])
    else:
        text = json.dumps({k: v if form == "json" else list(map(str, v)) for k, v in IDS.items()})
    file = "t.csv" if form == "csv" else "t.json"
    with pytest.raises(ValueError, match=r"tags are numbers \(2, 3, 5\), and nothing names"):
        photos(text, file)
    for _ in range(2):
        raw = photos(text, file, classes=FIVE)
        assert raw.class_names == tuple(FIVE)
        assert _tags(raw)["IMG_1"] == {"bee", "cow"}
        assert {item.class_ids for items in raw.splits.values() for item in items} == {(2, 3), (5,)}
        assert "2 is 'bee'" in raw.warnings[0]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "\n".join(FIVE)),
        ("obj.names", "\n".join(FIVE) + "\n"),
        ("classes.txt", "\n".join(f"{i} {name}" for i, name in enumerate(FIVE, 1))),
        ("labels.txt", "__ignore__\n_background_\n" + "\n".join(FIVE)),
        ("names.json", json.dumps(FIVE)),
        ("names.json", json.dumps(dict(enumerate(FIVE, 1)))),
        ("categories.json", json.dumps([{"id": i, "name": n} for i, n in enumerate(FIVE, 1)])),
        ("classes.yaml", "names: [ant, bee, cow, dog, eel]"),
        ("classes.json", json.dumps({name: i for i, name in enumerate(FIVE, 1)})),
    ],
)
def test_numbers_are_named_by_a_file_beside_or_set(photos, file, text):
    (photos.root / file).write_text(text)
    for settings in ({}, {"classes": file}):
        raw = photos(json.dumps(IDS), "t.json", **settings)
        assert raw.class_names == tuple(FIVE)
        assert _tags(raw)["IMG_1"] == {"bee", "cow"}


def test_a_number_of_the_background_is_no_class(photos):
    (photos.root / "data.yaml").write_text("names: [background, ant, bee, cow, dog, eel]")
    (photos.root / "labels.txt").write_text("a text of another kind\na text of another kind")
    raw = photos(json.dumps({**IDS, "IMG_0": [0]}), "t.json")
    assert raw.class_names == tuple(FIVE)
    assert _tags(raw)["IMG_0"] == set()
    assert _tags(raw)["IMG_1"] == {"bee", "cow"}


def test_whether_numbers_count_from_0_or_1_is_never_guessed(photos):
    six = [*FIVE, "fox"]
    with pytest.raises(ValueError, match=r"neither 0 nor 6 is among them.*from 0 or from 1"):
        photos(json.dumps(IDS), "t.json", classes=six)
    (photos.root / "six.json").write_text(json.dumps({str(i): name for i, name in enumerate(six)}))
    assert _tags(photos(json.dumps(IDS), "t.json", classes="six.json"))["IMG_1"] == {"cow", "dog"}
    zero = {**IDS, "IMG_0": [0]}
    assert _tags(photos(json.dumps(zero), "t.json", classes=six))["IMG_1"] == {"cow", "dog"}
    with pytest.raises(ValueError, match=r"7 is none of the classes' ids, which go from 1 to 6"):
        photos(json.dumps({**IDS, "IMG_0": [7]}), "t.json", classes=six)


def test_numbers_that_a_table_made_floats_are_ids(photos):
    lines = [f"{k},{v[0]:.1f}" for k, v in IDS.items()]
    raw = photos("\n".join(["image,label", *lines]), classes=FIVE)
    assert {item.class_ids for items in raw.splits.values() for item in items} == {(2,), (5,)}
    with pytest.raises(ValueError, match=r"0.5 is none of the classes' ids"):
        photos("\n".join(["image,label", *lines[:-1], "IMG_19,0.5"]), classes=FIVE)
    with pytest.raises(ValueError, match=r"-1 is none of the classes' ids"):
        photos("\n".join(["image,label", *lines[:-1], "IMG_19,-1"]), classes=FIVE)


def test_a_column_of_row_numbers_is_no_class(photos):
    lines = [f"{i},{n},{i % 2},{1 - i % 2}" for i, n in enumerate(NAMES)]
    for header in (",image,cat,dog", "Unnamed: 0,image,cat,dog"):
        assert photos("\n".join([header, *lines])).class_names == ("cat", "dog")


def test_numbers_may_be_names(photos):
    raw = photos(json.dumps(IDS), "t.json", classes=["2", "3", "5"])
    assert _tags(raw)["IMG_1"] == {"2", "3"}


# Masks that fit no image.


def test_masks_with_a_suffix_are_found_and_said(tmp_path):
    names = [f"{kind}/{kind}{i}" for kind in ("cat", "dog", "none") for i in range(10)]
    _touch(tmp_path, *(f"images/{name}.jpg" for name in names))
    _touch(tmp_path, *(f"masks/{name}_mask.png" for name in names))
    raw = _collect(tmp_path, images="images", masks="masks")
    found = {item.name: item.mask for items in raw.splits.values() for item in items}
    assert found == {name: tmp_path / f"masks/{name}_mask.png" for name in names}
    (warning,) = raw.warnings
    assert "30 masks are not named as their images" in warning
    assert "cat/cat0_mask.png for 'cat/cat0'" in warning


def test_half_of_the_masks_missing_and_strays_are_counted(tmp_path):
    _touch(tmp_path, *(f"images/cat/{i}.jpg" for i in range(10)))
    _touch(tmp_path, *(f"masks/cat/{i}.png" for i in range(5)), "masks/cat/77.png")
    raw = _collect(tmp_path, images="images", masks="masks")
    missing, stray = raw.warnings
    assert "5 of 10 images have no mask, such as 'cat/5'" in missing
    assert "1 of 6 files fit no image, such as 'cat/77.png'" in stray


@pytest.mark.parametrize("layout", ["{}", "{}/{}", "train/{}/{}"])
def test_half_of_the_masks_missing_is_said_in_every_layout(tmp_path, layout):
    """Of every other image, or of all of one class."""
    kinds = ("cat", "dog")
    names = [layout.replace("{}", kind, 1).format(f"{kind}{i}") for kind in kinds for i in range(6)]
    names = names if "/" in layout else [f"{kind}{i}" for kind in kinds for i in range(6)]
    _touch(tmp_path, *(f"images/{name}.jpg" for name in names))
    (tmp_path / "t.json").write_text(json.dumps({n: n.split("/")[-1][:3] for n in names}))
    for at, kept in enumerate((names[:6], names[::2])):
        _touch(tmp_path, *(f"masks{at}/{name}.png" for name in kept))
        raw = _collect(tmp_path, images="images", masks=f"masks{at}", tags="t.json")
        assert [text for text in raw.warnings if "6 of 12 images have no mask" in text]


def test_masks_for_val_alone_need_no_word(tmp_path):
    _touch(tmp_path, *(f"images/{split}/cat/{i}.jpg" for split in ("train", "val") for i in "123"))
    _touch(tmp_path, *(f"masks/val/cat/{i}.png" for i in "123"))
    assert not _collect(tmp_path, images="images", masks="masks").warnings


def test_masks_of_which_none_fits_are_refused_with_one_of_each(tmp_path):
    _touch(tmp_path, *(f"images/cat/{i}.jpg" for i in range(10)))
    _touch(tmp_path, *(f"masks/{i + 50}.png" for i in range(10)))
    with pytest.raises(ValueError, match=r"none of the 10 files .*'50.png'.*'cat/0'.*cat/0.png"):
        _collect(tmp_path, images="images", masks="masks")


def test_images_and_masks_named_by_patterns_of_their_own_are_paired(tmp_path):
    """Cityscapes': x_leftImg8bit.png and x_gtFine_labelIds.png; image_1.png and mask_1.png."""
    _touch(tmp_path, *(f"images/a_{i}_leftImg8bit.png" for i in range(5)))
    _touch(tmp_path, *(f"masks/a_{i}_gtFine_labelIds.png" for i in range(5)))
    _touch(tmp_path / "b", *(f"images/image_{i}.png" for i in range(5)))
    _touch(tmp_path / "b", *(f"masks/mask_{i}.png" for i in range(5)))
    for root in (tmp_path, tmp_path / "b"):
        names = sorted(item.name for item in (root / "images").iterdir())
        (root / "t.json").write_text(json.dumps({name: ["cat"] for name in names}))
        raw = _collect(root, images="images", masks="masks", tags="t.json")
        digits = {
            (item.name[-1:] if root.name == "b" else item.name[2], item.mask.name)
            for items in raw.splits.values()
            for item in items
        }
        assert len(digits) == 5
        assert all(f"_{digit}" in mask for digit, mask in digits)


def test_several_masks_for_one_image_are_refused(tmp_path):
    _touch(tmp_path, *(f"images/cat/{i}.jpg" for i in range(5)))
    _touch(tmp_path, *(f"masks/cat/{i}_{kind}.png" for i in range(5) for kind in ("cat", "dog")))
    with pytest.raises(ValueError, match=r"5 images have several masks.*cat/0_cat, cat/0_dog"):
        _collect(tmp_path, images="images", masks="masks")


def test_a_mask_that_is_named_alike_goes_before_others_of_its_image(tmp_path):
    _touch(tmp_path, *(f"images/cat/{i}.jpg" for i in range(5)))
    _touch(tmp_path, *(f"masks/cat/{i}{end}.png" for i in range(5) for end in ("", "_colour")))
    raw = _collect(tmp_path, images="images", masks="masks")
    assert all(item.mask.stem == item.image.stem for items in raw.splits.values() for item in items)
    assert "5 of 10 files fit no image, such as 'cat/0_colour.png'" in raw.warnings[0]


def test_jpeg_masks_are_refused_unless_their_values_are_said(tmp_path):
    _touch(tmp_path, *(f"{kind}/cat/{i}.jpg" for i in range(5) for kind in ("images", "masks")))
    with pytest.raises(ValueError, match=r"5 masks are JPEGs.*mask_values: {\"0-127\": 0"):
        _collect(tmp_path, images="images", masks="masks")
    values = {"0-127": 0, "128-255": 1}
    raw = _collect(tmp_path, images="images", masks="masks", mask_values=values)
    assert all(item.mask for items in raw.splits.values() for item in items)


def test_images_and_masks_in_one_folder_are_refused(tmp_path):
    _touch(tmp_path, "cat/1.jpg", "cat/1_mask.png")
    with pytest.raises(ValueError, match=r"1 images look like the masks of others.*dataset.masks"):
        _collect(tmp_path)
    with pytest.raises(ConfigError, match=r"are both .*; put the masks into a folder of their own"):
        _collect(tmp_path, masks=".")


def test_masks_of_other_images_stay_theirs(tmp_path):
    """A part of the images beside all masks: what the names have in common tells them apart."""
    names = [f"cat_{n:02d}" for n in range(12)]
    _touch(tmp_path, *(f"images/{name}.png" for name in names))
    others = [f"{kind}_{n:02d}" for kind in ("dog", "emu") for n in range(12)]
    _touch(tmp_path, *(f"masks/{name}.png" for name in (*names[:8], *others)))
    (tmp_path / "t.csv").write_text("image,tags\n" + "".join(f"{name},cat\n" for name in names))
    raw = _collect(tmp_path, images="images", tags="t.csv", masks="masks")
    found = {x.name: x.mask and x.mask.stem for items in raw.splits.values() for x in items}
    assert found == {name: name if name in names[:8] else None for name in names}
    assert any("24 of 32 files fit no image" in text for text in raw.warnings)


def test_several_masks_by_a_part_of_the_name_are_called_by_the_image(tmp_path):
    _touch(tmp_path, *(f"images/IMG_{n}.png" for n in range(3)))
    _touch(tmp_path, *(f"masks/{kind}_{n}.png" for kind in ("dog", "emu") for n in range(3)))
    (tmp_path / "t.csv").write_text("image,tags\n" + "".join(f"IMG_{n},cat\n" for n in range(3)))
    with pytest.raises(ValueError, match=r"3 images have several masks, such as 'IMG_0': "):
        _collect(tmp_path, images="images", tags="t.csv", masks="masks")


def test_images_that_a_name_with_a_suffix_confuses_are_refused(tmp_path):
    _touch(tmp_path, "cat/x.jpg", "cat/x.jpg.png", "dog/y.jpg")
    with pytest.raises(ValueError, match=r"x\.jpg\.png and .*x\.jpg cannot be told apart .*rename"):
        _collect(tmp_path)
