"""Masks drawn in tools: who, when, what is on top, and what is no mask."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsss.data.drawn_masks import DrawnMasks, filled_polygons, label_ids, read_drawn_masks

SIZE = (4, 6)
SQUARE = [0, 0, 3, 0, 3, 3, 0, 3]
CORNER = [0, 0, 1, 0, 1, 1, 0, 1]


def read(path: Path, names: tuple[str, ...] = ("a", "b")) -> DrawnMasks:
    folder = path.parent / "images"
    return read_drawn_masks(
        path, {name: folder / f"{name}.png" for name in names}, folder, ("cat", "dog")
    )


def coco(folder: Path, found: list[dict[str, Any]], file: str = "a.png") -> Path:
    values = {
        "images": [{"id": 5, "file_name": file, "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [{"id": n, "image_id": 5, **item} for n, item in enumerate(found)],
        "categories": [
            {"id": 3, "name": "dog"},
            {"id": 8, "name": "cat"},
            {"id": 9, "name": "void"},
        ],
    }
    path = folder / "found.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("turned", [False, True])
def test_of_coco_the_smaller_lies_on_top_and_crowds_are_regions(
    tmp_path: Path, turned: bool
) -> None:
    large = {"category_id": 3, "segmentation": [SQUARE], "iscrowd": 1}
    small = {"category_id": 8, "segmentation": [CORNER]}
    found = read(coco(tmp_path, [small, large] if turned else [large, small]))
    (item,) = found.masks
    mask = item.mask(SIZE, 0)
    assert (item.name, item.size, item.is_seen) == ("a", SIZE, False)
    assert mask[0, 0] == 1
    assert (mask == 2).sum() == 8
    assert (mask == 0).sum() == 15


def test_void_is_ignored_and_what_nobody_drew_is_as_it_is_asked_for(tmp_path: Path) -> None:
    path = coco(tmp_path, [{"category_id": 9, "segmentation": [CORNER]}])
    (item,) = read(path).masks
    assert item.mask(SIZE, 0)[0].tolist() == [255, 0, 0, 0, 0, 0]
    assert (item.mask(SIZE, 255) == 255).all()


def test_a_box_alone_is_unfinished_and_another_image_is_unknown(tmp_path: Path) -> None:
    found = read(coco(tmp_path, [{"category_id": 3, "bbox": [0, 0, 2, 2]}]))
    assert (list(found.masks), list(found.unfinished)) == ([], ["a"])
    found = read(coco(tmp_path, [], "z.png"))
    assert (list(found.masks), list(found.unknown)) == ([], ["z.png"])


@pytest.mark.parametrize(
    ("who", "said"),
    [
        (3, "3"),
        ({"id": 3, "email": "a@b.c"}, "a@b.c"),
        ({"id": 3, "first_name": "Ada", "last_name": "L"}, "Ada L"),
        (None, ""),
    ],
)
def test_label_studio_says_who_and_when_of_each(tmp_path: Path, who: Any, said: str) -> None:
    own = {"completed_by": who, "created_at": "2026-01-01T00:00:00Z", "result": []}
    other = {"completed_by": 9, "updated_at": "2026-01-02T00:00:00Z", "result": []}
    task = {"data": {"image": "/x/a.png"}, "annotations": [other, own]}
    (tmp_path / "p.json").write_text(json.dumps([task]))
    found = read(tmp_path / "p.json").masks
    assert [(x.who, x.when, x.is_seen, x.size) for x in found] == [
        (said, "2026-01-01T00:00:00Z", True, None),
        ("9", "2026-01-02T00:00:00Z", True, None),
    ]
    assert found[0].mask((2, 3), 255).tolist() == [[255] * 3] * 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"data": {}, "predictions": []}]', "no annotations of Label Studio"),
        ('[{"annotation_id": 1, "annotator": 2}]', "JSON-MIN"),
        ('{"images": [', "if it was cut short"),
        ('{"tasks": []}', "is not COCO's JSON"),
    ],
)
def test_other_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read(tmp_path / "p.json")


def test_a_region_that_does_not_fit_is_named(tmp_path: Path) -> None:
    wrong = {"size": [5, 6], "counts": [30]}
    with pytest.raises(ValueError, match=r"annotation 0.*30 pixels|annotation 0.*6 x 5"):
        read(coco(tmp_path, [{"category_id": 3, "segmentation": wrong}]))


def test_labels_in_any_case_and_none_that_is_no_class() -> None:
    assert label_ids(["DOG", "Void"], "x", ("cat", "dog")) == {"DOG": 2, "Void": 255}
    assert label_ids(["void"], "x", ("void", "dog")) == {"void": 1}
    with pytest.raises(ValueError, match="x: the class 'bird' is none of the data set's"):
        label_ids(["bird"], "x", ("cat", "dog"))


def test_polygons_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="lies outside of its image of 6 x 4"):
        filled_polygons([np.array([[0, 0], [9, 0], [0, 9]], float)], SIZE)
