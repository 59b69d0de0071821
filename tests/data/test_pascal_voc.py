"""A tiny VOC tree: lists, SBD lines, tags from XML and JSON, masks from either folder."""

import json

import pytest
from PIL import Image

from wsss.config import ConfigError
from wsss.data.pascal_voc import VOC_CLASSES, PascalVoc, PascalVocSettings


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2012"
    for folder in (
        "JPEGImages",
        "Annotations",
        "ImageSets/Segmentation",
        "SegmentationClass",
        "SegmentationClassAug",
    ):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b", "c", "d"):
        Image.new("RGB", (4, 3)).save(root / f"JPEGImages/{name}.jpg")
    (root / "ImageSets/Segmentation/train_aug.txt").write_text(
        "/JPEGImages/a.jpg /SegmentationClassAug/a.png\n"
        "/JPEGImages/b.jpg /SegmentationClassAug/b.png\n\n"
    )
    (root / "ImageSets/Segmentation/val.txt").write_text("c\nd\n")
    _annotate(root, "a", [("person", 0), ("aeroplane", 0), ("person", 0), ("dog", 1)])
    _annotate(root, "c", [("tvmonitor", 0)])
    (root / "image_labels.json").write_text(json.dumps({"a": [3], "b": [20, 1], "d": []}))
    (root / "SegmentationClass/a.png").write_bytes(b"never opened")
    (root / "SegmentationClass/c.png").write_bytes(b"never opened")
    (root / "SegmentationClassAug/a.png").write_bytes(b"never opened")
    return root


def _annotate(root, name, objects):
    body = "".join(
        f"<object><name>{item}</name><difficult>{flag}</difficult><part><name>head</name></part></object>"
        for item, flag in objects
    )
    (root / f"Annotations/{name}.xml").write_text(f"<annotation>{body}</annotation>")


def _collect(root, tmp_path, **settings):
    return PascalVoc(PascalVocSettings(root=str(root), **settings)).collect(tmp_path / "scratch", 0)


def test_the_twenty_classes():
    assert len(set(VOC_CLASSES)) == 20
    assert [VOC_CLASSES.index(name) + 1 for name in ("cat", "dog", "person", "tvmonitor")] == [
        8,
        12,
        15,
        20,
    ]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_tags_and_masks(voc, tmp_path, depth):
    raw = _collect([voc, voc.parent, tmp_path][depth], tmp_path)
    found = {
        split: {sample.name: sample.class_ids for sample in samples}
        for split, samples in raw.splits.items()
    }
    assert found == {
        "train": {"a": (1, 12, 15), "b": (1, 20)},  # XML before JSON; parts are no objects
        "val": {"c": (20,), "d": ()},
    }
    masks = {
        sample.name: sample.mask and sample.mask.parent.name
        for samples in raw.splits.values()
        for sample in samples
    }
    assert masks == {"a": "SegmentationClassAug", "b": None, "c": "SegmentationClass", "d": None}
    assert not raw.problems


def test_difficult_objects_can_be_dropped(voc, tmp_path):
    raw = _collect(voc, tmp_path, drop_difficult=True)
    assert raw.splits["train"][0].class_ids == (1, 15)


def test_selection_list_and_max_train(voc, tmp_path):
    (voc / "ImageSets/Segmentation/sel.txt").write_text("d\n")
    (voc / "ImageSets/Segmentation/val.txt").write_text("c\n")
    raw = _collect(voc, tmp_path, selection_list="sel", max_train=1)
    assert {split: len(samples) for split, samples in raw.splits.items()} == {
        "train": 1,
        "val": 1,
        "selection": 1,
    }


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({}, "no tags"),
        ({"b": [21]}, "1..20"),
        ({"b": [0]}, "1..20"),
        ({"b": "cat"}, "1..20"),
        ({"b": [True]}, "1..20"),
    ],
)
def test_missing_or_unknown_tags_are_listed(voc, tmp_path, labels, reason):
    (voc / "image_labels.json").write_text(json.dumps({"d": [], **labels}))
    raw = _collect(voc, tmp_path)
    assert [sample.name for sample in raw.splits["train"]] == ["a"]
    assert [problem.name for problem in raw.problems] == ["b"]
    assert reason in raw.problems[0].reason


def test_names_of_no_class_are_said_once_and_taken_from_a_setting(voc, tmp_path):
    _annotate(voc, "a", [("helmet", 0), ("person", 0)])
    _annotate(voc, "b", [("helmet", 0), ("vest", 0), ("vest", 0)])
    _annotate(voc, "c", [("persn", 0)])
    with pytest.raises(
        ConfigError,
        match=r"3 XMLs name 'helmet' \(2\), 'persn' \(1\), 'vest' \(1\), not among .*"
        r"'persn' may be 'person'.*dataset.classes.*\[helmet, persn, person, vest\]",
    ):
        _collect(voc, tmp_path)
    raw = _collect(voc, tmp_path, classes=["person", "helmet", "vest", "persn"])
    assert raw.class_names == ("person", "helmet", "vest", "persn")
    found = {item.name: item.class_ids for items in raw.splits.values() for item in items}
    assert found == {"a": (1, 2), "b": (2, 3), "c": (4,), "d": ()}


def test_a_class_of_one_s_own_has_an_id_in_image_labels(voc, tmp_path):
    for name in ("a", "c"):
        (voc / f"Annotations/{name}.xml").unlink()
    (voc / "image_labels.json").write_text('{"a": [2], "b": [1], "c": [], "d": [3]}')
    raw = _collect(voc, tmp_path, classes=["helmet", "vest"])
    assert [(item.name, item.class_ids) for item in raw.splits["train"]] == [
        ("a", (2,)),
        ("b", (1,)),
    ]
    assert "class ids in 1..2" in raw.problems[0].reason


def test_broken_xml_and_missing_image_are_listed(voc, tmp_path):
    (voc / "Annotations/a.xml").write_text("<annotation>")
    (voc / "JPEGImages/c.jpg").unlink()
    problems = {problem.name: problem.reason for problem in _collect(voc, tmp_path).problems}
    assert problems.keys() == {"a", "c"}
    assert "not valid XML" in problems["a"]
    assert "does not exist" in problems["c"]


def test_wrong_list_name(voc, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'train_aug'"):
        _collect(voc, tmp_path, train_list="train_agu")


def test_a_name_twice_in_a_list(voc, tmp_path):
    (voc / "ImageSets/Segmentation/val.txt").write_text("c\nd\nc\n")
    with pytest.raises(ValueError, match="'c' twice"):
        _collect(voc, tmp_path)


def test_root(tmp_path, voc, monkeypatch):
    monkeypatch.delenv("WSSS_TEST_ROOT", raising=False)
    with pytest.raises(ConfigError, match="export WSSS_TEST_ROOT="):
        _collect("$WSSS_TEST_ROOT/x", tmp_path)
    monkeypatch.setenv("WSSS_TEST_ROOT", str(tmp_path))
    assert _collect("${WSSS_TEST_ROOT}/VOCdevkit", tmp_path).splits["val"]
    with pytest.raises(ConfigError, match="is not a folder"):
        _collect("$WSSS_TEST_ROOT/x", tmp_path)
    with pytest.raises(ConfigError, match="holds no VOC2012"):
        _collect(voc / "JPEGImages", tmp_path)


def test_lists_of_other_tools_are_read(voc, tmp_path):
    """Names with blanks, lists in Main with 1 and -1 behind names, backslashes, marks of order."""
    (voc / "ImageSets/Main").mkdir()
    Image.new("RGB", (4, 3)).save(voc / "JPEGImages/a b 1.png")
    _annotate(voc, "a b 1", [("dog", 0)])
    (voc / "ImageSets/Main/dog_train.txt").write_bytes(
        "\ufeffa  -1\r\nb  1\r\na b 1 1\r\n".encode()
    )
    (voc / "ImageSets/Main/plain.txt").write_text("JPEGImages\\c.jpg\nd\n")
    raw = _collect(voc, tmp_path, train_list="dog_train", val_list="plain")
    assert [item.name for item in raw.splits["train"]] == ["a", "b", "a b 1"]
    assert [item.name for item in raw.splits["val"]] == ["c", "d"]
    assert raw.splits["train"][2].image.name == "a b 1.png"


def test_the_only_year_is_found_and_several_are_named(voc, tmp_path):
    voc.rename(voc.with_name("VOC2007"))
    assert _collect(tmp_path, tmp_path).splits["val"]
    (tmp_path / "VOCdevkit/VOC2010/ImageSets").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"VOC2007, VOC2010; set dataset.root to one"):
        _collect(tmp_path, tmp_path)


def test_what_a_layout_lacks_is_named(voc, tmp_path):
    (voc / "SegmentationClass/stray_1.png").write_bytes(b"never opened")
    (voc / "SegmentationClass/d.png").write_bytes(b"never opened")
    (warning, partial) = _collect(voc, tmp_path).warnings
    assert "1 of 4 files fit no image, such as 'stray_1.png'" in warning
    assert "1 of 2 images of train have no mask" in partial
    for name in ("SegmentationClass", "SegmentationClassAug"):
        (voc / name).rename(voc / f"old-{name[-3:]}")
    assert "no image has a mask" in _collect(voc, tmp_path).warnings[0]
    (voc / "old-ass").rename(voc / "SegmentationClasses")
    with pytest.raises(ConfigError, match="did you mean 'SegmentationClasses'"):
        _collect(voc, tmp_path)
    (voc / "SegmentationClasses").rename(voc / "SegmentationClass")
    (voc / "Annotations").rename(voc / "annotations")
    (voc / "image_labels.json").unlink()
    with pytest.raises(ConfigError, match="did you mean 'annotations'"):
        _collect(voc, tmp_path)
    (voc / "JPEGImages").rename(voc / "Images")
    with pytest.raises(ConfigError, match=r"JPEGImages is not a folder; did you mean 'Images'"):
        _collect(voc, tmp_path)
    (voc / "Images").rename(voc / "JPEGImages")
    (voc / "ImageSets").rename(voc / "sets")
    with pytest.raises(ConfigError, match=r"ImageSets/Segmentation/train_aug.txt and val.txt"):
        _collect(voc, tmp_path)
