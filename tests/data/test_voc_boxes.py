"""Boxes of a VOC tree's XMLs: which images have them, and of which classes."""

from pathlib import Path

import pytest
from PIL import Image

from wsss.data import RawDataset
from wsss.data.pascal_voc import PascalVoc, PascalVocSettings


def object_xml(name: str, box: tuple[int, int, int, int] | None, difficult: int = 0) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box or (), strict=bool(box))
    inner = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    bounds = f"<bndbox>{inner}</bndbox>" if box else ""
    return f"<object><name>{name}</name><difficult>{difficult}</difficult>{bounds}</object>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    objects = {
        "a": object_xml("dog", (1, 2, 8, 6)) + object_xml("cat", (3, 3, 4, 4), 1),
        "b": object_xml("dog", None)
        + object_xml("dog", (2, 2, 3, 3))
        + object_xml("cat", (1, 1, 8, 6)),
        "c": object_xml("cat", (2, 2, 5, 5)),
    }
    for name, inner in objects.items():
        Image.new("RGB", (8, 6)).save(tmp_path / f"JPEGImages/{name}.jpg")
        size = "<size><width>8</width><height>6</height></size>"
        text = f"<annotation>{size}{inner}</annotation>"
        (tmp_path / f"Annotations/{name}.xml").write_text(text)
    (tmp_path / "ImageSets/Segmentation/train_aug.txt").write_text("a\nb\n")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("c\n")
    return tmp_path


def collected(voc: Path, **settings: object) -> tuple[RawDataset, dict]:
    made = PascalVocSettings(root=str(voc), classes=("cat", "dog"), **settings)
    raw = PascalVoc(made).collect(voc / "scratch", 0)
    boxes = {
        sample.name: [(box.class_id, box.corners, box.drawn_on) for box in sample.boxes]
        for sample in raw.splits["train"]
    }
    return raw, boxes


def test_boxes_count_from_one_and_a_class_needs_all_of_its_own(voc):
    raw, boxes = collected(voc)
    assert raw.offers == {"boxes"}
    assert boxes == {
        "a": [(2, (0, 1, 8, 6), (6, 8)), (1, (2, 2, 4, 4), (6, 8))],
        "b": [(1, (0, 0, 8, 6), (6, 8))],
    }


def test_what_is_dropped_as_difficult_has_no_box(voc):
    _, boxes = collected(voc, drop_difficult=True)
    assert boxes["a"] == [(2, (0, 1, 8, 6), (6, 8))]


def test_a_tree_without_boxes_offers_none(voc):
    for name in "abc":
        text = f"<annotation>{object_xml('dog', None)}</annotation>"
        (voc / f"Annotations/{name}.xml").write_text(text)
    raw, boxes = collected(voc)
    assert not raw.offers and not any(boxes.values())
