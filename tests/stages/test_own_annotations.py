"""Boxes, points, scribbles and some masks as people bring them: read, turned, shrunk, refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Annotations, Box, Manifest, Paths, read_json, write_label_png
from wsss.config.params import parse_params
from wsss.stages import run_stage

SIZE = (6, 8)
CLASSES = ("cat", "dog")
BOXES = {"a": [("dog", 1, 2, 5, 6)], "sub/b": [("cat", 0, 0, 8, 3), ("cat", 6, 2, 8, 6)]}
PLACED = {
    "a": (Box(2, 2, 1, 6, 5),),
    "sub/b": (Box(1, 0, 0, 3, 8), Box(1, 2, 6, 6, 8)),
}


class Folder:
    """A data set of ten images, of which a, sub/b and c1 to c6 train; cats, dogs, and both in c."""

    def __init__(self, root: Path) -> None:
        self.root, self.paths = root / "set", Paths(root / "project")
        self.tags = {"a": "dog", "sub/b": "cat", "val": "cat", "val2": "dog"}
        self.tags |= {f"c{n}": "cat;dog" for n in range(1, 7)}
        for name in self.tags:
            self.save(name)
        self.write("val.txt", "val\nval2\n")

    def save(self, name: str, size: tuple[int, int] = SIZE, orientation: int = 1) -> None:
        path = self.root / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        rng = np.random.default_rng(list(name.encode()))
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path, exif=exif if orientation > 1 else None)

    def write(self, file: str, text: str) -> None:
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        (self.root / file).write_text(text, encoding="utf-8")

    def draw(self, file: str, values: np.ndarray) -> None:
        write_label_png(self.root / file, values.astype(np.uint8))

    def run(
        self,
        dataset: dict | None = None,
        train_segmenter: dict | None = None,
        **prepare: object,
    ) -> Annotations:
        self.write("tags.csv", "image,tags\n" + "".join(f"{k},{v}\n" for k, v in self.tags.items()))
        settings = {
            "name": "folder",
            "root": str(self.root),
            "images": "images",
            "tags": "tags.csv",
        }
        tree = {
            "prepare_data": {
                "dataset": {**settings, "val": "val.txt", **(dataset or {})},
                "selection_share": 0.2,
                **prepare,
            },
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
            "train_segmenter": train_segmenter or {},
        }
        run_stage("prepare_data", parse_params(tree), self.paths)
        return Annotations.read(self.paths.annotations)

    def report(self) -> dict:
        return read_json(self.paths.report("prepare_data"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def table(folder: Folder) -> str:
    rows = [(n, *box) for n, boxes in BOXES.items() for box in boxes]
    lines = [f"{n}.png,{c},{x},{y},{r},{b}\n" for n, c, x, y, r, b in rows]
    folder.write("boxes.csv", "image,class,left,top,right,bottom\n" + "".join(lines))
    return "boxes.csv"


def sides(folder: Folder) -> str:
    lines = [
        json.dumps({"file": f"{n}.png", "label": c.upper(), "x": x, "y": y, "w": r - x, "h": b - y})
        for n, boxes in BOXES.items()
        for c, x, y, r, b in boxes
    ]
    folder.write("boxes.jsonl", "\n".join(lines))
    return "boxes.jsonl"


def detection_csv(folder: Folder) -> str:
    lines = [
        f"{n}.png;8;6;{c};{x};{y};{r};{b}\n"
        for n, boxes in BOXES.items()
        for c, x, y, r, b in boxes
    ]
    folder.write("boxes.csv", "filename;width;height;class;xmin;ymin;xmax;ymax\n" + "".join(lines))
    return "boxes.csv"


def coco(folder: Folder) -> str:
    images = [
        {"id": 7 + at, "file_name": f"{n}.png", "width": 8, "height": 6}
        for at, n in enumerate(BOXES)
    ]
    found = [
        {
            "id": 1,
            "image_id": 7 + at,
            "category_id": {"cat": 3, "dog": 9}[c],
            "bbox": [x, y, r - x, b - y],
        }
        for at, boxes in enumerate(BOXES.values())
        for c, x, y, r, b in boxes
    ]
    categories = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]
    folder.write(
        "c.json", json.dumps({"images": images, "annotations": found, "categories": categories})
    )
    return "c.json"


def xmls(folder: Folder) -> str:
    for name, boxes in BOXES.items():
        text = "<annotation><size><width>8</width><height>6</height></size>"
        for c, x, y, r, b in boxes:
            text += f"<object><name>{c}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            text += f"<xmax>{r}</xmax><ymax>{b}</ymax></bndbox></object>"
        folder.write(f"xml/{name}.xml", text + "</annotation>")
    return "xml"


def xmls_from_zero(folder: Folder) -> str:
    xmls(folder)
    for path in (folder.root / "xml").rglob("*.xml"):
        text = path.read_text()
        for side in "xy":
            for value in range(9, 0, -1):
                at = f"<{side}min>{{}}</{side}min>"
                text = text.replace(at.format(value), at.format(f"{value - 1}.0"))
        path.write_text(text)
    return "xml"


def yolo(folder: Folder) -> str:
    for name, boxes in BOXES.items():
        lines = [
            f"{('dog', 'cat').index(c)} {(x + r) / 16:.6f} {(y + b) / 12:.6f} {(r - x) / 8:.6f} "
            f"{(b - y) / 6:.6f}"
            for c, x, y, r, b in boxes
        ]
        folder.write(f"labels/{name}.txt", "\n".join(lines) + "\n")
    folder.write("labels/classes.txt", "dog\ncat\n")
    return "labels"


def polygons(folder: Folder) -> str:
    for name, boxes in BOXES.items():
        lines = [
            f"{CLASSES.index(c)} {x / 8} {y / 6} {r / 8} {y / 6} {r / 8} {b / 6} {x / 8} {b / 6}"
            for c, x, y, r, b in boxes
        ]
        folder.write(f"labels/{name}.txt", "\n".join(lines))
    folder.write("labels/obj.names", "\n".join(CLASSES))
    return "labels"


def table_of_shares(folder: Folder) -> str:
    """As of Open Images."""
    lines = [
        f"{n},{c},{x / 8:.6f},{r / 8:.6f},{y / 6:.6f},{b / 6:.6f}\n"
        for n, boxes in BOXES.items()
        for c, x, y, r, b in boxes
    ]
    folder.write("boxes.csv", "ImageID,LabelName,XMin,XMax,YMin,YMax\n" + "".join(lines))
    return "boxes.csv"


def coco_of_shares(folder: Folder) -> str:
    coco(folder)
    values = json.loads((folder.root / "c.json").read_text())
    for item in values["annotations"]:
        item["bbox"] = [at / side for at, side in zip(item["bbox"], (8, 6, 8, 6), strict=True)]
    folder.write("c.json", json.dumps(values))
    return "c.json"


OF_SHARES = (table_of_shares, coco_of_shares)
FORMS = (table, sides, detection_csv, coco, xmls, xmls_from_zero, yolo, polygons, *OF_SHARES)


@pytest.mark.parametrize("form", OF_SHARES)
def test_coordinates_that_are_shares_of_the_sides_are_read_so_and_said(folder, form):
    """Read as pixels, each box would be a pixel in the corner."""
    folder.run({"boxes": form(folder)}, box_labels="all")
    said = " ".join(folder.report()["warnings"])
    assert "all boxes lie in [0, 1] and are read as shares" in said


def test_points_that_are_shares_are_those_in_pixels(folder):
    found = []
    for x, y in ((5, 2), (5.1 / 8, 2.1 / 6)):
        folder.write("points.csv", f"image,class,x,y\na,dog,{x},{y}\n")
        given = folder.run({"points": "points.csv"}, point_labels="all")
        found.append(given.seed_map("a"))
    assert (found[0] == found[1]).all() and found[0][2, 5] == 2


def test_boxes_that_may_be_a_pixel_or_the_whole_image_are_refused(folder):
    folder.write("boxes.csv", "image,class,left,top,right,bottom\na,dog,0,0,1,1\n")
    with pytest.raises(ValueError, match=r"boxes\.csv: all boxes .* a pixel or, in shares"):
        folder.run({"boxes": "boxes.csv"}, box_labels="all")
    folder.write("boxes.csv", "image,class,left,top,right,bottom\na,dog,0,0,0.9999,0.9999\n")
    given = folder.run({"boxes": "boxes.csv"}, box_labels="all")
    assert given.boxes == {"a": (Box(2, 0, 0, *SIZE),)}


@pytest.mark.parametrize("form", FORMS)
def test_boxes_of_every_form_are_the_same(folder, form):
    found = folder.run({"boxes": form(folder)}, box_labels="all")
    assert found.boxes == PLACED
    counts = folder.report()["annotations"]["boxes"]
    assert sum(counts[split]["boxes"] for split in counts) == 3
    assert sum(counts[split]["available"] for split in counts) == 2


def test_the_names_of_yolo_s_classes_lie_anywhere_above(folder):
    folder.write("train/data/labels/a.txt", "0 0.5 0.5 0.5 0.5\n")
    boxes = "train/data/labels"
    with pytest.raises(ValueError, match=r"of 'cat', which the tags of 'a' deny"):
        folder.run({"boxes": boxes}, box_labels="all")  # ids in the order of tags, a guess
    folder.write("data.yaml", "names: [dog, cat]\n")
    found = folder.run({"boxes": boxes}, box_labels="all")
    assert [box.class_id for box in found.boxes["a"]] == [2]
    assert not any("ids are read as" in text for text in folder.report().get("warnings", ()))
    (folder.root / "data.yaml").unlink()
    folder.write("train/data/labels/a.txt", "1 0.5 0.5 0.5 0.5\n")
    folder.run({"boxes": boxes}, box_labels="all")
    assert any("ids are read as 0 cat, 1 dog" in text for text in folder.report()["warnings"])


@pytest.mark.parametrize("word", ["0", "1"])
def test_ids_of_classes_are_not_guessed(folder, monkeypatch, word):
    folder.write("points.csv", f"image,class,x,y\na,{word},1,1\n")
    message = f"line 2: the class is '{word}', and nothing says .* write the names: cat, dog"
    refused(folder, monkeypatch, message, {"points": "points.csv"}, point_labels="all")
    folder.write("boxes.csv", f"image,class,left,top,right,bottom\na,{word},1,1,3,3\n")
    refused(folder, monkeypatch, message, {"boxes": "boxes.csv"}, box_labels="all")


def test_strokes_on_every_pixel_are_no_scribbles(folder, monkeypatch):
    folder.draw("scribbles/a.png", np.pad([[2, 2, 2]], ((2, 3), (3, 2))))
    message = r"1 of 1 scribbles have no pixel of 255, .*scribble_values: \{0: 255, 1: 0, 2: cat\}"
    refused(folder, monkeypatch, message, {"scribbles": "scribbles"}, scribble_labels="all")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"given_share": 0.5}, "given_share is 0.5, but no training image has the mask"),
        ({"tags_only": {"name": "ignored"}}, "tags_only.name is 'ignored', but no training image"),
        ({"tags_only": {"name": "self_training"}}, "'self_training', but no training image has a"),
        ({"tags_only": {"name": "consistency"}}, "'consistency', but no training image has a"),
    ],
)
def test_what_nobody_gave_is_missed_before_long_work(folder, values, message):
    with pytest.raises(ValueError, match=message):
        folder.run(train_segmenter=values)
    folder.draw("masks/a.png", np.full(SIZE, 2))
    folder.run({"masks": "masks"}, train_segmenter=values, pixel_labels=["a"])


@pytest.mark.parametrize("form", [form for form in FORMS if form not in OF_SHARES])
def test_boxes_change_nothing_where_they_are_not_asked_for(folder, form):
    folder.run()
    before = {path: path.read_bytes() for path in folder.paths.root.rglob("*") if path.is_file()}
    assert folder.run({"boxes": form(folder)}).boxes == {}
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn", ["stored", "upright"])
@pytest.mark.parametrize("size", [(6, 8), (7, 7)])
def test_what_lies_on_a_turned_image_turns_as_its_mask_does(folder, orientation, drawn, size):
    """One box, point and scribble each around the same pixel of the mask, which is the oracle."""
    from wsss.data.images import turned

    folder.save("a", size, orientation)
    mask = np.zeros(size, np.uint8)
    mask[1:3, 4:7] = 2
    seen = mask if drawn == "stored" else turned(mask, orientation)
    top, left = np.argwhere(seen == 2).min(0).tolist()
    bottom, right = (np.argwhere(seen == 2).max(0) + 1).tolist()
    folder.draw("masks/a.png", seen)
    folder.write(
        "boxes.csv",
        f"image,class,xmin,ymin,xmax,ymax,width,height\na,dog,{left},{top},{right},{bottom},"
        f"{seen.shape[1]},{seen.shape[0]}\n",
    )
    folder.write("points.csv", f"image,class,x,y\na,dog,{left},{top}\n")
    scribble = np.full(seen.shape, 255)
    scribble[bottom - 1, right - 1] = 2
    folder.draw("scribbles/a.png", scribble)
    labels = {f"{kind}_labels": ["a"] for kind in ("pixel", "box", "point", "scribble")}
    dataset = {
        "masks": "masks",
        "boxes": "boxes.csv",
        "points": "points.csv",
        "scribbles": "scribbles",
    }
    found = folder.run(dataset, turned_masks=drawn, **labels)
    placed = found.mask("a")
    np.testing.assert_array_equal(placed, turned(mask, orientation))
    (box,) = found.boxes["a"]
    expected = np.zeros(placed.shape, np.uint8)
    expected[box.top : box.bottom, box.left : box.right] = 2
    np.testing.assert_array_equal(expected, placed)
    seeds = found.seed_map("a")
    assert (seeds == 2).sum() == 2 and (placed[seeds == 2] == 2).all()


def test_shrinking_keeps_boxes_around_and_every_seed(folder):
    folder.save("a", (60, 80))
    folder.write("boxes.csv", "image,class,left,top,right,bottom\na,dog,11,21,52.4,60\n")
    folder.write(
        "points.csv", "image,class,x,y\na,dog,12.5,21\na,background,13,22\na,background,79.9,59.9\n"
    )
    found = folder.run(
        {"boxes": "boxes.csv", "points": "points.csv"},
        box_labels="all",
        point_labels="all",
        long_side_max=8,
    )
    assert found.boxes["a"] == (Box(2, 2, 1, 6, 6),)
    seeds = found.seed_map("a")
    assert seeds.shape == SIZE
    assert np.argwhere(seeds != 255).tolist() == [[2, 1], [5, 7]]
    assert (seeds[2, 1], seeds[5, 7]) in {(0, 0), (2, 0)}


def test_a_box_may_leave_its_image_by_a_rounded_pixel(folder):
    folder.write("boxes.csv", "image,class,left,top,right,bottom\na,dog,-0.6,0,8.4,6.0001\n")
    assert folder.run({"boxes": "boxes.csv"}, box_labels="all").boxes == {
        "a": (Box(2, 0, 0, 6, 8),)
    }


BAD_BOXES = {
    "outside": (
        "a,dog,1,1,12,4",
        r"boxes\.csv, line 2: the box left 1, top 1, right 12, bottom 4 re",
    ),
    "below": ("a,dog,1,-5,4,4", r"reaches beyond its image; 'a' has 8 x 6 pixels"),
    "upside down": ("a,dog,1,5,4,2", r"line 2: the box .* is empty or upside down"),
    "empty": ("a,dog,3,1,3,4", r"is empty or upside down"),
    "denied": (
        "a,cat,1,1,3,4",
        r"line 2: the box is of 'cat', which the tags of 'a' deny: they are 'dog'",
    ),
    "no class": (
        "a,dig,1,1,3,4",
        r"line 2: the class 'dig' is none of the data set's; did you mean 'dog'",
    ),
    "no number": ("a,dog,1,one,3,4", r"line 2: top is 'one', and no number of pixels"),
    "not finite": ("a,dog,1,nan,3,4", r"empty or upside down"),
    "no image": ("z,dog,1,1,3,4", r"boxes\.csv has boxes of 'z', where images are called"),
}


@pytest.mark.parametrize("case", BAD_BOXES)
def test_a_bad_box_is_refused_before_images_are_read(folder, monkeypatch, case):
    line, message = BAD_BOXES[case]
    folder.write("boxes.csv", f"image,class,left,top,right,bottom\n{line}\n")
    refused(folder, monkeypatch, message, {"boxes": "boxes.csv"}, box_labels="all")


BAD_POINTS = {
    "outside": ("a,dog,9,1", r"points\.csv, line 2: the point x 9, y 1 lies outside"),
    "denied": ("a,cat,2,1", r"the point is of 'cat', which the tags of 'a' deny: they are 'dog'"),
}


@pytest.mark.parametrize("case", BAD_POINTS)
def test_a_bad_point_is_refused_before_images_are_read(folder, monkeypatch, case):
    line, message = BAD_POINTS[case]
    folder.write("points.csv", f"image,class,x,y\n{line}\n")
    refused(folder, monkeypatch, message, {"points": "points.csv"}, point_labels="all")


BAD_DRAWINGS = {
    "another size": (np.zeros((5, 8)), r"a\.png has 5 x 8 pixels .* its image has 6 x 8"),
    "unknown value": (
        np.pad([[7]], ((2, 3), (4, 3))),
        r"a\.png holds the value 7; .* the first such pixel is at x 4, y 2",
    ),
    "denied": (
        np.pad([[1]], ((2, 3), (4, 3))),
        r"a\.png: the (mask shows|scribble is of) 'cat', which the tags of 'a' deny: they are "
        r"'dog' \(x 4, y 2\)",
    ),
}


@pytest.mark.parametrize("case", BAD_DRAWINGS)
@pytest.mark.parametrize("kind", ["masks", "scribbles"])
def test_a_bad_mask_or_scribble_is_refused_before_images_are_read(folder, monkeypatch, kind, case):
    values, message = BAD_DRAWINGS[case]
    folder.draw(f"{kind}/a.png", values)
    key = {"masks": "pixel_labels", "scribbles": "scribble_labels"}[kind]
    refused(folder, monkeypatch, message, {kind: kind}, **{key: ["a"]})


def refused(folder: Folder, monkeypatch, message: str, dataset: dict, **prepare: object) -> None:
    """It stops, before an image is prepared, and leaves nothing."""
    monkeypatch.setattr("wsss.stages._preparation.prepare_image", lambda *_, **__: 1 / 0)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        folder.run(dataset, **prepare)
    assert not [
        path for path in (folder.paths.root / "data").iterdir() if "partial" not in path.name
    ]


def test_points_and_scribbles_that_differ_are_refused(folder):
    folder.write("points.csv", "image,class,x,y\na,dog,1,1\na,background,1,1.5\n")
    with pytest.raises(
        ValueError, match=r"line 3: .* of the background lies on .* of 'dog' in 'a'"
    ):
        folder.run({"points": "points.csv"}, point_labels="all")
    assert not [*folder.paths.annotations.glob("[!.]*")]


def test_a_point_outside_of_all_boxes_of_its_class_is_refused(folder):
    folder.write("points.csv", "image,class,x,y\na,dog,7,1\n")
    with pytest.raises(ValueError, match=r"of 'dog' in 'a' \(x 7, y 1 .* outside of all its boxes"):
        folder.run(
            {"points": "points.csv", "boxes": table(folder)}, point_labels="all", box_labels="all"
        )


def test_contradicting_masks_may_be_ignored_where_they_contradict(folder):
    folder.draw("masks/a.png", np.tile([0, 1, 2, 255], (6, 2)))
    found = folder.run({"masks": "masks"}, pixel_labels="all", contradicting_masks="warn")
    assert found.mask("a").tolist() == [[0, 255, 2, 255] * 2] * 6
    assert any(
        "that of 'a': those pixels are ignored" in text for text in folder.report()["warnings"]
    )


@pytest.mark.parametrize("masked", [2, 3, 8])
def test_where_only_some_images_have_masks_some_are_left_to_train(folder, masked):
    for name in ["a", "sub/b", *(f"c{n}" for n in range(1, 7))][:masked]:
        folder.draw(f"masks/{name}.png", np.full(SIZE, 1 + ("cat" not in folder.tags[name])))
    found = folder.run({"masks": "masks"}, pixel_labels="all", selection_share=0.6)
    assert len(found.masks) == masked
    counts = folder.report()["annotations"]["masks"]
    assert counts["train"]["images"] >= masked / 3
    train = {sample.name for sample in Manifest.read(folder.paths.splits).splits["train"]}
    assert counts["train"]["images"] == len(train & found.masks)


def test_an_empty_part_says_where_the_masks_are(folder):
    with pytest.raises(ValueError, match=r"pixel_labels asks for masks, but no .*dataset\.masks"):
        folder.run(pixel_labels="all")
    folder.draw("masks/val.png", np.zeros(SIZE))
    with pytest.raises(ValueError, match=r"all 1 with a mask are in val; leave some .*val_share"):
        folder.run({"masks": "masks"}, pixel_labels=3)
    with pytest.raises(ValueError, match=r"point_labels asks for points, .*dataset\.points"):
        folder.run(point_labels="all")


def test_a_part_of_which_no_image_can_be_used_is_an_error(folder):
    folder.draw("masks/a.png", np.full(SIZE, 2))
    folder.draw("masks/c1.png", np.full(SIZE, 1))
    (folder.root / "images/a.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"none of the 1 images that .*pixel_labels draws .* 'a'"):
        folder.run({"masks": "masks"}, pixel_labels=["a"], max_skipped_share=0.5)


def test_scribbles_of_other_values_are_mapped(folder):
    folder.draw("scribbles/a.png", np.tile([0, 1, 2, 0], (6, 2)))
    values = {"0": 255, "1": 0, "2": "dog"}
    found = folder.run({"scribbles": "scribbles", "scribble_values": values}, scribble_labels="all")
    assert found.seed_map("a").tolist() == [[255, 0, 2, 255] * 2] * 6
    assert found.seeds == {"a"} and not found.masks


def test_an_annotation_settles_a_tag_that_nobody_was_certain_of(folder):
    folder.tags["a"] = "cat:?;dog"
    folder.write("points.csv", "image,class,x,y\na,cat,2,1\na,background,0,0\n")
    folder.run({"points": "points.csv"})
    (before,) = (
        item for item in Manifest.read(folder.paths.splits).all_samples() if item.name == "a"
    )
    assert before.class_ids == (2,) and before.uncertain == ((1, None),)
    folder.run({"points": "points.csv"}, point_labels="all")
    (after,) = (
        item for item in Manifest.read(folder.paths.splits).all_samples() if item.name == "a"
    )
    assert after.class_ids == (1, 2) and after.uncertain == ()
