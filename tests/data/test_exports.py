"""Exports of Label Studio and CVAT of one scene: tags, boxes, points, masks and scribbles."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Annotations, Box, Manifest, Paths, read_json, read_label_png
from wsss.config import ConfigError
from wsss.config.params import parse_params
from wsss.data.folder import Folder, FolderSettings
from wsss.stages import run_stage

SIZE = (20, 40)
NAMES = [f"IMG {n}" for n in range(8)]
UPLOAD = "/data/upload/3/0a1b2c3d-{}.png"


def packed(mask: np.ndarray) -> list[int]:
    """Label Studio's bytes of a mask: opaque where it is true, no value of which is repeated."""
    values = np.where(mask.reshape(-1, 1), [255, 0, 0, 255], 0).astype(np.uint8).ravel()
    assert len(values) <= 2**16
    header = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits = header + f"011{len(values) - 1:016b}" + "".join(f"{value:08b}" for value in values)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def runs_of(flat: np.ndarray) -> list[int]:
    """The lengths of runs, of which the first is outside."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]])))
    return np.diff(np.concatenate([[0], edges])).tolist()


def blob() -> np.ndarray:
    """What is painted: an L."""
    mask = np.zeros(SIZE, bool)
    mask[12:18, 2:6] = mask[16:18, 2:12] = True
    return mask


# What is drawn in the images, in pixels: by image a list of (kind, label, numbers).
SCENE: dict[str, list[tuple[str, str, Any]]] = {
    "IMG 0": [
        ("polygon", "cat", [(4, 2), (20, 2), (20, 10), (4, 10)]),
        ("polygon", "dog", [(10, 4), (30, 4), (30, 8), (10, 8)]),
    ],
    "IMG 1": [("paint", "dog", blob())],
    "IMG 2": [("box", "cat", (4, 2, 20, 10)), ("box", "dog", (10, 4, 30, 8))],
    "IMG 3": [("point", "cat", (5, 5)), ("point", "background", (30, 10))],
    "IMG 4": [],
    "IMG 5": [("tag", "dog", None)],
    "IMG 6": [("polygon", "cat", [(0, 0), (8, 0), (8, 8), (0, 8)]), ("tag", "dog", None)],
    "IMG 7": [
        ("polygon", "cat", [(0, 0), (8, 0), (8, 8), (0, 8)]),
        ("polygon", "void", [(20, 0), (40, 0), (40, 10), (20, 10)]),
        ("polygon", "background", [(2, 2), (4, 2), (4, 4), (2, 4)]),
    ],
}
TAGS = {
    **{"IMG 0": (1, 2), "IMG 1": (2,), "IMG 2": (1, 2), "IMG 3": (1,), "IMG 4": ()},
    **{"IMG 5": (2,), "IMG 6": (1, 2), "IMG 7": (1,)},
}


def percents(pairs: list[tuple[float, float]]) -> list[list[float]]:
    return [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in pairs]


def result(number: int, kind: str, label: str, numbers: Any) -> dict[str, Any]:
    """A region as Label Studio writes it."""
    item = {
        **{"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0},
        **{"id": f"r{number}", "from_name": "label", "to_name": "image", "origin": "manual"},
    }
    if kind == "tag":
        value: dict[str, Any] = {"choices": [label]}
        return {"value": value, "id": f"r{number}", "type": "choices", "from_name": "choice"}
    if kind == "polygon":
        value, name = {"points": percents(numbers), "closed": True}, "polygonlabels"
    elif kind == "paint":
        value, name = {"format": "rle", "rle": packed(numbers)}, "brushlabels"
    elif kind == "box":
        [[x, y], [right, bottom]] = percents([numbers[:2], numbers[2:]])
        value = {"x": x, "y": y, "width": right - x, "height": bottom - y, "rotation": 0}
        name = "rectanglelabels"
    else:
        [[x, y]] = percents([numbers])
        value, name = {"x": x, "y": y, "width": 0.3}, "keypointlabels"
    return {**item, "type": name, "value": {**value, name: [label]}}


def task(number: int, name: str, items: list[dict[str, Any]], **other: Any) -> dict[str, Any]:
    annotation = {
        **{"id": 100 + number, "completed_by": 1, "result": items, "was_cancelled": False},
        **{"ground_truth": False, "created_at": "2024-03-01T10:00:00.000000Z"},
        "updated_at": "2024-03-01T10:00:00.000000Z",
    }
    return {
        **{"id": number, "annotations": [annotation], "drafts": [], "predictions": []},
        **{"data": {"image": UPLOAD.format(name.replace(" ", "_"))}, "meta": {}},
        **{"file_upload": f"0a1b2c3d-{name.replace(' ', '_')}.png", "project": 3},
        **other,
    }


def label_studio(scene: dict[str, list[tuple[str, str, Any]]]) -> list[dict[str, Any]]:
    return [
        task(n, name, [result(at, *item) for at, item in enumerate(items)])
        for n, (name, items) in enumerate(scene.items(), 1)
    ]


def shape(kind: str, label: str, numbers: Any, order: int = 0) -> str:
    """An element of CVAT's."""
    common = f'label="{label}" source="manual" occluded="0" z_order="{order}"'
    if kind == "tag":
        return f'<tag label="{label}" source="manual"></tag>'
    if kind == "paint":
        rows, columns = np.nonzero(numbers)
        top, left = rows.min(), columns.min()
        part = numbers[top : rows.max() + 1, left : columns.max() + 1]
        runs = ", ".join(map(str, runs_of(part.ravel())))
        place = f'left="{left}" top="{top}" width="{part.shape[1]}" height="{part.shape[0]}"'
        return f'<mask {common} rle="{runs}" {place}></mask>'
    if kind == "box":
        left, top, right, bottom = numbers
        sides = f'xtl="{left:.2f}" ytl="{top:.2f}" xbr="{right:.2f}" ybr="{bottom:.2f}"'
        return f"<box {common} {sides}></box>"
    if kind == "point":
        kind, numbers = "points", [numbers]
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in numbers)
    inner = '<attribute name="fur">short</attribute>'
    return f'<{kind} {common} points="{points}">{inner}</{kind}>'


def cvat(scene: dict[str, list[tuple[str, str, Any]]], **attributes: str) -> str:
    images = "".join(
        f'<image id="{n}" name="photos/{name}.png" width="{SIZE[1]}" height="{SIZE[0]}"'
        + "".join(f' {key}="{value}"' for key, value in attributes.items())
        + f">{''.join(shape(*item) for item in items)}</image>"
        for n, (name, items) in enumerate(scene.items())
    )
    meta = (
        "<meta><task><name>t</name><labels><label><name>cat</name></label></labels></task></meta>"
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{images}'
        "</annotations>"
    )


TOOLS = {
    "label studio": ("export.json", lambda scene: json.dumps(label_studio(scene))),
    "cvat": ("annotations.xml", cvat),
}
Collect = Callable[..., Any]


@pytest.fixture
def collect(tmp_path: Path) -> Collect:
    """Writes a file beside the images and collects the folder."""
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    for name in NAMES:
        pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"images/{name}.png")

    def run(file: str, text: str, **settings: Any) -> Any:
        (root / file).write_text(text, encoding="utf-8")
        settings = {"root": str(root), "images": "images", "tags": file, **settings}
        return Folder(FolderSettings(**settings)).collect(tmp_path / "scratch", 0)

    run.root = root  # type: ignore[attr-defined]
    return run


def found(raw: Any) -> dict[str, Any]:
    return {item.name: item for items in raw.splits.values() for item in items}


@pytest.mark.parametrize("tool", TOOLS)
def test_all_that_was_drawn_gives_tags(collect, tool):
    file, write = TOOLS[tool]
    raw = collect(file, write(SCENE))
    assert raw.class_names == ("cat", "dog")
    assert {name: item.class_ids for name, item in found(raw).items()} == TAGS
    assert not raw.problems
    bare = [text for text in raw.warnings if "without any annotation" in text]
    assert bool(bare) == (tool == "cvat")  # Label Studio says that somebody looked
    assert all("has 1 of 8 images" in text for text in bare)


@pytest.mark.parametrize("tool", TOOLS)
def test_boxes_and_those_around_regions(collect, tool):
    file, write = TOOLS[tool]
    raw = collect(file, write(SCENE), boxes=file)
    assert raw.offers == {"boxes"}
    boxes = {
        name: [(box.class_id, box.corners, box.drawn_on) for box in item.boxes]
        for name, item in found(raw).items()
        if item.boxes
    }
    pair = [(1, (4, 2, 20, 10), SIZE), (2, (10, 4, 30, 8), SIZE)]
    assert boxes == {
        **{"IMG 0": pair, "IMG 2": pair, "IMG 1": [(2, (2, 12, 12, 18), SIZE)]},
        **{"IMG 6": [(1, (0, 0, 8, 8), SIZE)], "IMG 7": [(1, (0, 0, 8, 8), SIZE)]},
    }


@pytest.mark.parametrize("tool", TOOLS)
def test_points_with_the_background(collect, tool):
    file, write = TOOLS[tool]
    raw = collect(file, write(SCENE), points=file)
    points = {
        name: [(p.class_id, p.x, p.y) for p in item.points]
        for name, item in found(raw).items()
        if item.points
    }
    assert points == {"IMG 3": [(1, 5, 5), (0, 30, 10)]}


@pytest.mark.parametrize("tool", TOOLS)
def test_masks_of_images_whose_classes_are_all_drawn(collect, tool):
    file, write = TOOLS[tool]
    raw = collect(file, write(SCENE), masks=file)
    masks = {name: item.mask for name, item in found(raw).items()}
    assert {name for name, mask in masks.items() if mask} == {"IMG 0", "IMG 1", "IMG 4", "IMG 7"}
    assert any("4 of 8 images have no mask, as not all of their" in text for text in raw.warnings)
    expected = np.zeros(SIZE, np.uint8)
    expected[2:10, 4:20] = 1
    expected[4:8, 10:30] = 2  # drawn later
    np.testing.assert_array_equal(read_label_png(masks["IMG 0"]), expected)
    np.testing.assert_array_equal(read_label_png(masks["IMG 1"]), 2 * blob())
    assert read_label_png(masks["IMG 4"]).shape == SIZE
    assert not read_label_png(masks["IMG 4"]).any()
    expected = np.zeros(SIZE, np.uint8)
    expected[:8, :8] = 1
    expected[:10, 20:] = 255
    expected[2:4, 2:4] = 0
    np.testing.assert_array_equal(read_label_png(masks["IMG 7"]), expected)


@pytest.mark.parametrize("tool", TOOLS)
def test_what_was_painted_is_a_scribble(collect, tool):
    file, write = TOOLS[tool]
    raw = collect(file, write(SCENE), scribbles=file)
    scribbles = {name: item.scribbles for name, item in found(raw).items() if item.scribbles}
    assert list(scribbles) == ["IMG 1"]
    np.testing.assert_array_equal(
        read_label_png(scribbles["IMG 1"]), np.where(blob(), 2, 255).astype(np.uint8)
    )


def test_polylines_are_scribbles(collect):
    scene = {
        **SCENE,
        "IMG 3": [
            ("polyline", "cat", [(2.5, 3.5), (12.5, 3.5)]),
            ("polyline", "background", [(30.5, 3.5), (30.5, 9.5)]),
        ],
    }
    raw = collect("a.xml", cvat(scene), scribbles="a.xml")
    drawn = read_label_png(found(raw)["IMG 3"].scribbles)
    expected = np.full(SIZE, 255, np.uint8)
    expected[3, 2:13] = 1
    expected[3:10, 30] = 0
    np.testing.assert_array_equal(drawn, expected)
    assert found(raw)["IMG 3"].class_ids == (1,)


def test_z_order_decides_who_is_on_top_and_the_outside_is_left_out(collect):
    first, second = SCENE["IMG 0"]
    text = cvat({**SCENE, "IMG 0": []})
    inner = shape(*first, order=2) + shape(*second, order=1)
    inner += shape("polygon", "dog", [(0, 0), (40, 0), (40, 20)], 5).replace(
        "occluded", 'outside="1" occluded'
    )
    text = re.sub(r'(name="photos/IMG 0.png"[^>]*>)', rf"\1{inner}", text)
    raw = collect("a.xml", text, masks="a.xml")
    mask = read_label_png(found(raw)["IMG 0"].mask)
    expected = np.zeros(SIZE, np.uint8)
    expected[4:8, 10:30] = 2
    expected[2:10, 4:20] = 1
    np.testing.assert_array_equal(mask, expected)


def test_ellipses_and_turned_boxes_of_cvat(collect):
    common = 'label="cat" z_order="0"'
    ellipse = f'<ellipse {common} cx="20" cy="10" rx="8" ry="4"/>'
    box = f'<box {common} xtl="10" ytl="8" xbr="20" ybr="12" rotation="90"/>'
    over = f'<box {common} xtl="0" ytl="8" xbr="20" ybr="12" rotation="90.0"/>'
    text = cvat({**SCENE, "IMG 2": [], "IMG 3": []})
    text = re.sub(r'(name="photos/IMG 2.png"[^>]*>)', rf"\1{box}{over}", text)
    text = re.sub(r'(name="photos/IMG 3.png"[^>]*>)', rf"\1{ellipse}", text)
    raw = collect("a.xml", text, masks="a.xml", boxes="a.xml")
    boxes = [box.corners for box in found(raw)["IMG 2"].boxes]
    assert boxes == [(13, 5, 17, 15), (8, 0, 12, 20)]
    assert found(raw)["IMG 3"].boxes[0].corners == pytest.approx((12, 6, 28, 14))
    area = (read_label_png(found(raw)["IMG 3"].mask) == 1).sum()
    assert area == pytest.approx(np.pi * 32, abs=4)


def test_turned_rectangles_of_label_studio_turn_about_their_corner(collect):
    tasks = label_studio(SCENE)
    item = result(0, "box", "cat", (20, 4, 30, 8))
    item["value"]["rotation"] = 90
    tasks[2]["annotations"][0]["result"] = [item]
    raw = collect("a.json", json.dumps(tasks), boxes="a.json")
    assert found(raw)["IMG 2"].boxes[0].corners == (16, 4, 20, 14)  # 40 x 20 pixels, not percents


def test_ellipses_and_labels_of_their_own_in_label_studio(collect):
    tasks = label_studio(SCENE)
    around = result(0, "box", "cat", (0, 0, 1, 1))
    around |= {"type": "ellipselabels"}
    around["value"] = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20, "ellipselabels": ["cat"]}
    box = result(1, "box", "dog", (4, 2, 20, 10))
    bare = {key: value for key, value in box["value"].items() if key != "rectanglelabels"}
    twins = [
        {**box, "type": "rectangle", "value": bare},
        {**box, "type": "labels", "value": {**bare, "labels": ["dog"]}},
        {"id": "r1", "type": "textarea", "value": {"text": ["brown"]}},
        {"id": "r1", "type": "choices", "value": {"choices": ["blurred"]}},
    ]
    tasks[2]["annotations"][0]["result"] = [around, *twins]
    raw = collect("a.json", json.dumps(tasks), boxes="a.json")
    boxes = {box.class_id: box.corners for box in found(raw)["IMG 2"].boxes}
    assert boxes[1] == pytest.approx((12, 6, 28, 14))
    assert boxes[2] == (4, 2, 20, 10)


def test_the_latest_annotation_that_was_not_cancelled_counts(collect):
    tasks = label_studio(SCENE)
    kept = tasks[0]["annotations"][0]
    cat, dog = (result(0, "tag", label, None) for label in ("cat", "dog"))
    old = {**kept, "id": 900, "result": [cat, dog], "updated_at": "2024-01-01T00:00:00.0Z"}
    new = {**kept, "id": 7, "result": [dog], "updated_at": "2024-05-01T00:00:00.0Z"}
    cancelled = {**new, "result": [cat], "was_cancelled": True, "updated_at": "2025-01-01T0:0Z"}
    tasks[0]["annotations"] = [new, old, cancelled]
    tasks[0]["predictions"] = [{"result": [cat], "score": 0.9}]
    tasks[5]["annotations"] = [{**kept, "was_cancelled": True}]
    raw = collect("a.json", json.dumps(tasks))
    assert found(raw)["IMG 0"].class_ids == (2,)
    assert [item.name for item in raw.problems] == ["IMG 5"]  # nobody has looked at it
    assert "no tags" in raw.problems[0].reason


@pytest.mark.parametrize(
    "path",
    [
        "/data/upload/3/0a1b2c3d-{}.png",
        "s3://bucket/some/images/{}.png",
        "https://storage.example.com/images/{}.png?X-Amz-Expires=3600",
        "/data/local-files/?d=set/images/{}.png",
        "{}.png",
    ],
)
@pytest.mark.parametrize("blank", ["%20", "_", " "])
def test_paths_as_label_studio_writes_them(collect, path, blank):
    tasks = label_studio(SCENE)
    for item, name in zip(tasks, NAMES, strict=True):
        item["data"] = {"text": "a photograph", "img": path.format(name.replace(" ", blank))}
        item.pop("file_upload")
    raw = collect("a.json", json.dumps(tasks))
    assert {name: item.class_ids for name, item in found(raw).items()} == TAGS


def test_subsets_of_cvat_are_splits_where_all_are(collect):
    parts = dict(list(SCENE.items())[:5]), dict(list(SCENE.items())[5:])
    text = cvat(parts[0], subset="Train").replace("</annotations>", "")
    text += re.search(r"<image.*", cvat(parts[1], subset="Validation"))[0]
    raw = collect("a.xml", text)
    assert [item.name for item in raw.splits["val"]] == ["IMG 5", "IMG 6", "IMG 7"]
    raw = collect("a.xml", cvat(SCENE, subset="default"))
    assert len(raw.splits["train"]) == 6
    assert len(raw.splits["val"]) == 2


def test_masks_of_an_export_beside_tags_of_a_table(collect):
    lines = [f"{n}.png,{'cat' if 1 in TAGS[n] else 'none'}" for n in NAMES]
    (collect.root / "tags.csv").write_text("\n".join(["image,tags", *lines]))
    scene = {"IMG 7": SCENE["IMG 7"]}
    raw = collect("a.xml", cvat(scene), masks="a.xml", tags="tags.csv")
    assert [name for name, item in found(raw).items() if item.mask] == ["IMG 7"]
    with pytest.raises(ValueError, match=r"IMG 0.png', polygon 2: the class 'dog' is none of"):
        collect("a.xml", cvat(SCENE), masks="a.xml", tags="tags.csv")


def changed(number: int, **changes: Any) -> str:
    tasks = label_studio(SCENE)
    tasks[number]["annotations"][0]["result"][0] |= changes
    return json.dumps(tasks)


def valued(number: int, **changes: Any) -> str:
    tasks = label_studio(SCENE)
    tasks[number]["annotations"][0]["result"][0]["value"] |= changes
    return json.dumps(tasks)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (changed(0, original_width=None), r"task 1, region r0 has no original_width"),
        (changed(0, image_rotation=90), r"task 1, region r0 was drawn on .* turned by 90 degrees"),
        (valued(0, points=[[1, 2], [3, 4]]), r"region r0 cannot be read: .*2 points"),
        (valued(0, points=[[1, 2], [3, "x"], [4, 5]]), r"region r0 cannot be read"),
        (valued(0, points=[[10, 20], [130, 20], [4, 5]]), r"region r0: .*x 52, y 4 lies outside"),
        (valued(1, rle=packed(np.ones((20, 41), bool))), r"task 2, region r0: .*800 pixels has"),
        (valued(1, rle=packed(blob())[:-4]), r"region r0: .*break off"),
        (json.dumps(label_studio(SCENE))[:-9], r"not valid JSON"),
        (json.dumps([*label_studio(SCENE), 5]), r"task number 9 has no data"),
        (
            json.dumps([*label_studio(SCENE), task(9, "IMG 0", [])]),
            r"task 9 is the image of .*task 1, too; remove one",
        ),
        (json.dumps([{"id": 1, "annotation_id": 2, "annotator": 3, "image": "a"}]), r"JSON-MIN"),
        (json.dumps([task(1, "x", [], annotations=[])]), r"nobody has annotated an image"),
        (json.dumps([task(1, "x", [])]), r"annotations of '/data/upload/3/0a1b2c3d-x.png', where"),
        (json.dumps({"images": []}), r"neither Label Studio's JSON nor CVAT's XML"),
    ],
)
def test_broken_exports_of_label_studio_name_the_place(collect, text, error):
    (collect.root / "t.csv").write_text(
        "image,tags\n" + "".join(f"{n}.png,cat;dog\n" for n in NAMES)
    )
    with pytest.raises(ValueError, match=error):
        collect("a.json", text, tags="t.csv", masks="a.json")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("4.00,2.00;", "4.00;", r"IMG 0.png', polygon 1 has|polygon 1: its points '4.00;20.00"),
        ("4.00,2.00;", "a,b;", r"IMG 0.png', polygon 1: its points 'a,b;20.00"),
        ("4.00,2.00;", "4.00,29.00;", r"polygon 1: its point x 4, y 29 lies outside of its image"),
        ('rle="0, 4', 'rle="0, 5', r"IMG 1.png', mask 1: .*add up to 61 pixels, but .* has 60"),
        ('rle="0, 4', 'rle="x, 4', r"IMG 1.png', mask 1: its rle holds more than whole numbers"),
        ('left="2"', 'left="32"', r"mask 1: its run lengths are of 10 x 6 pixels at 32, 12"),
        ('width="40"', 'width="x"', r"image 'photos/IMG 0.png': its width is 'x'"),
        ('xtl="4.00"', 'xtl=""', r"IMG 2.png', box 1: its xtl is '', and no number"),
        ('label="cat" source', 'label="" source', r"IMG 0.png', polygon 1 has no label"),
        ("</annotations>", "", r"is not valid XML: .*if it was cut short"),
        ("<image ", '<track id="0"></track><image ', r"is XML of a video; export it as 'CVAT for"),
        ("photos/IMG 1.png", "photos/IMG 0.png", r"is the image of .*, too; remove one"),
    ],
)
def test_broken_exports_of_cvat_name_the_place(collect, old, new, error):
    (collect.root / "t.csv").write_text(
        "image,tags\n" + "".join(f"{n}.png,cat;dog\n" for n in NAMES)
    )
    text = cvat(SCENE).replace(old, new, 1)
    assert text != cvat(SCENE)
    with pytest.raises(ValueError, match=error):
        collect("a.xml", text, tags="t.csv", masks="a.xml")


def test_what_an_export_does_not_have(collect):
    boxes = {name: [("box", "cat", (1, 1, 5, 5))] for name in NAMES}
    text = cvat(boxes)
    with pytest.raises(ValueError, match=r"has no image of which all classes are drawn"):
        collect("a.xml", text, masks="a.xml")
    with pytest.raises(ValueError, match=r"holds no point"):
        collect("a.xml", text, points="a.xml")
    with pytest.raises(ValueError, match=r"holds neither a polyline nor anything painted"):
        collect("a.xml", text, scribbles="a.xml")
    with pytest.raises(ConfigError, match=r"dataset.masks: .*b.xml is not a file"):
        collect("a.xml", text, masks="b.xml")
    with pytest.raises(ConfigError, match=r"dataset.mask_values is for images, but .* is a.xml"):
        collect("a.xml", text, masks="a.xml", mask_values={255: 1})
    voc = "<annotation><object><name>cat</name></object></annotation>"
    (collect.root / "b.xml").write_text(voc)
    with pytest.raises(ValueError, match=r"is PASCAL VOC's XML of one image; name the folder"):
        collect("a.xml", text, boxes="b.xml")


@pytest.mark.parametrize("tool", TOOLS)
def test_prepare_data_takes_all_of_an_export(collect, tmp_path, tool):
    file, write = TOOLS[tool]
    (collect.root / file).write_text(write(SCENE), encoding="utf-8")
    (collect.root / "val.txt").write_text("IMG 4\nIMG 5\n")
    (collect.root / "selection.txt").write_text("IMG 6\nIMG 7\n")
    paths = Paths(tmp_path / "project")
    params = parse_params(
        {
            "prepare_data": {
                "dataset": {
                    **{"name": "folder", "root": str(collect.root), "images": "images"},
                    **dict.fromkeys(("tags", "masks", "boxes", "points", "scribbles"), file),
                    **{"val": "val.txt", "selection": "selection.txt"},
                },
                **{"pixel_labels": ["IMG 0"], "box_labels": ["IMG 2"]},
                **{"point_labels": ["IMG 3"], "scribble_labels": ["IMG 1"]},
            },
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
        }
    )
    run_stage("prepare_data", params, paths)
    manifest = Manifest.read(paths.splits)
    samples = {sample.name: sample for split in manifest.splits.values() for sample in split}
    assert {name: sample.class_ids for name, sample in samples.items()} == TAGS
    annotations = Annotations.read(paths.annotations)
    assert annotations.masks == {"IMG 0"}
    assert annotations.boxes == {"IMG 2": (Box(1, 2, 4, 10, 20), Box(2, 4, 10, 8, 30))}
    assert annotations.seeds == {"IMG 1", "IMG 3"}
    points = read_label_png(annotations.seeds_path("IMG 3"))
    assert points[5, 5] == 1
    assert points[10, 30] == 0
    assert (points == 255).sum() == points.size - 2
    assert read_json(paths.report("prepare_data"))["num_skipped"] == 0
