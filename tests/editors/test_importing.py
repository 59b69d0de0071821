"""What comes back is taken whole or not at all: who, when, of what, and every kind of bad input."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import (
    CORRECTIONS,
    Corrections,
    Manifest,
    contents,
    mask_hash,
    palette,
    write_label_png,
)
from wsss.editors import export_annotations, import_annotations

NOON = "2026-03-01T12:00:00Z"


def corrected(project: Any, name: str = "a") -> np.ndarray:
    """The pseudo mask of an image, with a corner that somebody drew anew."""
    mask: np.ndarray = project.masks[name].copy()
    mask[:3, :4] = np.where(mask[:3, :4] == 1, 2, 1)
    return mask


def export_with(project: Any, out: Path, changed: dict[str, np.ndarray], kind: str) -> Path:
    """An export of palette PNGs or TIFFs in which some masks were drawn anew."""
    export_annotations(project.root, out, kind)
    for name, mask in changed.items():
        if kind == "napari":
            Image.fromarray(mask.astype(np.int32)).save(out / f"labels/{name}.tif")
        else:
            write_label_png(out / f"SegmentationClass/{name}.png", mask)
    return out


@pytest.mark.parametrize("kind", ["voc_png", "napari"])
def test_what_was_changed_is_a_correction_of_what_was_exported(
    project: Any, tmp_path: Path, kind: str
) -> None:
    out = export_with(project, tmp_path / "out", {"a": corrected(project)}, kind)
    # meanwhile the pseudo masks have become others: the record knows what was corrected
    before = mask_hash(project.masks["a"])
    write_label_png(project.paths.pseudo_masks / "a.png", np.zeros((12, 16), np.uint8))
    found = import_annotations(project.root, out, who="Ada", when=NOON)
    assert (len(found.added), sorted(found.unchanged)) == (1, ["c c", "sub/b", "val1"])
    assert found.by_split == {"train": 1}
    (entry,) = Corrections.read(project.root).entries
    assert (entry.image, entry.who, entry.when) == ("a", "Ada", NOON)
    assert (entry.origin, entry.origin_hash) == ("pseudo_masks", before)
    assert (Corrections.read(project.root).read_mask("a", (12, 16)) == corrected(project)).all()


def test_the_same_again_adds_nothing_and_loses_nothing(project: Any, tmp_path: Path) -> None:
    out = export_with(project, tmp_path / "out", {"a": corrected(project)}, "voc_png")
    import_annotations(project.root, out, who="Ada", when=NOON)
    before = contents(project.root / CORRECTIONS)
    again = import_annotations(project.root, out, who="Ada", when="2026-03-02T00:00:00Z")
    assert (again.added, again.known) == ([], 1)
    assert contents(project.root / CORRECTIONS) == before


def test_who_goes_back_to_an_earlier_mask_of_their_own_means_it(
    project: Any, tmp_path: Path
) -> None:
    first, second = corrected(project), corrected(project).copy()
    second[5:, :] = 2
    folders = []
    for day, mask in enumerate((first, second, first), 1):
        out = export_with(project, tmp_path / f"out{day}", {"a": mask}, "voc_png")
        found = import_annotations(project.root, out, who="Ada", when=f"2026-03-0{day}T12:00:00Z")
        assert len(found.added) == 1
        assert (Corrections.read(project.root).read_mask("a", (12, 16)) == mask).all()
        folders.append(out)
    # what is brought once more was not gone back to
    again = import_annotations(project.root, folders[1], who="Ada", when="2026-03-02T12:00:00Z")
    assert (again.added, again.known) == ([], 1)
    assert (Corrections.read(project.root).read_mask("a", (12, 16)) == first).all()


@pytest.mark.parametrize("kind", ["voc_png", "napari", "coco", "cvat", "geojson", "yolo"])
def test_classes_that_came_in_between_change_no_answer(
    project: Any, tmp_path: Path, kind: str
) -> None:
    """Ids mean what they did when masks were exported, whatever the list is by now."""
    drawn = corrected(project)
    flat = kind in ("voc_png", "napari")
    out = export_with(project, tmp_path / "out", {"a": drawn} if flat else {}, kind)
    if kind == "voc_png":  # as of a folder that somebody has moved, without its list of labels
        (out / "labelmap.txt").unlink()
    names = ("bird", "cat", "dog")
    splits = Manifest.read(project.paths.splits).splits
    Manifest(names, splits).write(project.paths.splits)
    ids = np.array([0, 2, 3, *[0] * 252, 255], np.uint8)
    for name, mask in project.masks.items():
        write_label_png(project.paths.pseudo_masks / f"{name}.png", ids[mask])
    file = {"coco": out / "annotations.json", "cvat": out / "annotations.xml"}.get(kind, out)
    found = import_annotations(project.root, file, who="Ada", when=NOON)
    assert len(found.unchanged) == 4 - flat
    if flat:
        assert (Corrections.read(project.root).read_mask("a", (12, 16), names) == ids[drawn]).all()
    else:
        assert not found.added


def test_a_class_that_is_gone_is_named(project: Any, tmp_path: Path) -> None:
    out = export_with(project, tmp_path / "out", {"a": corrected(project)}, "napari")
    Manifest(("cats", "dog"), Manifest.read(project.paths.splits).splits).write(
        project.paths.splits
    )
    with pytest.raises(ValueError, match=r"shows 'cat', which is no class .*did you mean 'cats'"):
        import_annotations(project.root, out, who="Ada")


@pytest.mark.parametrize("kind", ["voc_png", "napari", "geojson", "yolo"])
def test_an_image_may_be_called_as_files_of_annotations_are(
    new_project: Any, tmp_path: Path, kind: str
) -> None:
    names = ("scan.png", "sub.tif/a", "x.txt", "b.geojson")
    masks = {name: np.pad(np.ones((6, 8), np.uint8), 3) for name in names}
    project = new_project(tmp_path / "project", masks, ("cat", "dog"))
    for day in (1, 2):
        out = tmp_path / f"out{day}"
        export_annotations(project.root, out, kind)
        found = import_annotations(
            project.root, out, who="Ada", accept=True, when=f"2026-03-0{day}T12:00:00Z"
        )
        assert (len(found.added), found.known) == ((4, 0) if day == 1 else (0, 4))
    assert Corrections.read(project.root).names == set(names)


def test_a_class_may_begin_as_a_comment_does(new_project: Any, tmp_path: Path) -> None:
    masks = {"a": np.pad(np.full((6, 8), 2, np.uint8), 3)}
    project = new_project(tmp_path / "project", masks, ("cat", "# crack"))
    export_annotations(project.root, tmp_path / "out", "voc_png")
    import_annotations(project.root, tmp_path / "out", who="Ada", accept=True)
    assert (Corrections.read(project.root).read_mask("a", (12, 14)) == masks["a"]).all()


def test_looked_at_and_left_is_said_by_accept(project: Any, tmp_path: Path) -> None:
    out = export_with(project, tmp_path / "out", {}, "voc_png")
    assert len(import_annotations(project.root, out, who="Ada").unchanged) == 4
    found = import_annotations(project.root, out, who="Ada", accept=True)
    assert len(found.added) == 4
    assert found.by_split == {"train": 3, "val": 1}


def test_without_a_record_what_lies_there_now_is_compared(project: Any, tmp_path: Path) -> None:
    out = export_with(project, tmp_path / "out", {"a": corrected(project)}, "voc_png")
    shutil.move(out / "SegmentationClass", tmp_path / "elsewhere/masks")
    found = import_annotations(project.root, tmp_path / "elsewhere/masks", who="Ada")
    assert (len(found.added), len(found.unchanged)) == (1, 3)
    assert Corrections.read(project.root).entries[0].origin == ""
    shutil.rmtree(project.root / CORRECTIONS)
    import_annotations(project.root, tmp_path / "elsewhere/masks", who="Ada", export=out)
    assert Corrections.read(project.root).entries[0].origin == "pseudo_masks"


def test_an_image_that_nobody_touched_is_not_all_background(project: Any, tmp_path: Path) -> None:
    """CVAT lists every image of a task, also those that were neither exported nor opened."""
    export_annotations(project.root, tmp_path / "out", "cvat", names=["a"])
    file = tmp_path / "out/annotations.xml"
    more = '<image id="9" name="sub/b.png" width="16" height="12"/></annotations>'
    file.write_text(file.read_text().replace("</annotations>", more))
    found = import_annotations(project.root, file, who="Ada")
    assert (found.added, found.unchanged) == ([], ["a", "sub/b"])
    # and one that was exported, and in which somebody has deleted all, is
    text = file.read_text()
    start, end = text.index("<mask"), text.rindex("</image>")
    file.write_text(text[:start] + text[end:])
    found = import_annotations(project.root, file, who="Ada")
    assert len(found.added) == 1
    assert not Corrections.read(project.root).read_mask("a", (12, 16)).any()


def test_two_people_in_one_file_are_both_kept_and_the_newer_counts(
    project: Any, tmp_path: Path
) -> None:
    export_annotations(project.root, tmp_path / "out", "label_studio", names=["a", "sub/b"])
    file = tmp_path / "out/tasks.json"
    tasks = json.loads(file.read_text())
    result = tasks[0]["predictions"][0]["result"]
    tasks[0]["annotations"] = [
        {
            "completed_by": {"email": "a@b.c"},
            "updated_at": "2026-03-02T09:00:00Z",
            "result": result,
        },
        {"completed_by": 7, "updated_at": "2026-03-01T09:00:00Z", "result": result[:1]},
        {"completed_by": 8, "updated_at": NOON, "result": result, "was_cancelled": True},
    ]
    tasks[1]["annotations"] = []
    file.write_text(json.dumps(tasks))
    found = import_annotations(project.root, file)
    assert len(found.added) == 2
    assert found.others == {"a": ["7", "a@b.c"]}
    layer = Corrections.read(project.root)
    assert [(x.who, layer.older(x)) for x in layer.entries] == [("7", True), ("a@b.c", False)]
    assert (layer.read_mask("a", (12, 16)) == project.masks["a"]).all()


def test_an_older_file_that_comes_later_stays_the_older(project: Any, tmp_path: Path) -> None:
    out = export_with(project, tmp_path / "out", {"a": corrected(project)}, "voc_png")
    import_annotations(project.root, out, who="Ada", when="2026-03-02T00:00:00Z")
    write_label_png(out / "SegmentationClass/a.png", np.ones((12, 16), np.uint8))
    found = import_annotations(project.root, out, who="Grace", when=NOON)
    assert found.others == {"a": ["Grace", "Ada"]}
    assert Corrections.read(project.root).newest["a"].who == "Ada"


def test_the_age_of_each_file_is_when_it_was_corrected(project: Any, tmp_path: Path) -> None:
    changed = {"a": corrected(project), "c c": corrected(project, "c c")}
    out = export_with(project, tmp_path / "out", changed, "napari")
    os.utime(out / "labels/a.tif", (1_000_000_000, 1_000_000_000))
    import_annotations(project.root, out, who="Ada")
    assert Corrections.read(project.root).newest["a"].when == "2001-09-09T01:46:40Z"


def test_a_correction_of_a_correction_goes_on_from_it(project: Any, tmp_path: Path) -> None:
    out = export_with(project, tmp_path / "1", {"a": corrected(project)}, "voc_png")
    import_annotations(project.root, out, who="Ada", when=NOON)
    done = export_annotations(project.root, tmp_path / "2", "voc_png", of="pseudo_masks")
    assert done.corrected == 1
    again = np.asarray(Image.open(tmp_path / "2/SegmentationClass/a.png"))
    assert (again == corrected(project)).all()
    write_label_png(tmp_path / "2/SegmentationClass/a.png", again[::-1].copy())
    import_annotations(project.root, tmp_path / "2", who="Grace", when="2026-03-02T00:00:00Z")
    entry = Corrections.read(project.root).newest["a"]
    assert (entry.origin, entry.origin_hash) == ("corrections", mask_hash(again))


def test_the_original_s_size_is_kept_and_said(project: Any, tmp_path: Path) -> None:
    large = corrected(project).repeat(3, axis=0).repeat(3, axis=1)
    out = export_with(project, tmp_path / "out", {"a": large}, "voc_png")
    found = import_annotations(project.root, out, who="Ada")
    assert found.resized == ["a"]
    layer = Corrections.read(project.root)
    assert layer.drawn_size("a") == (36, 48)
    assert (layer.read_mask("a", (12, 16)) == corrected(project)).all()


def test_cvat_s_colours_are_read_by_their_labels(project: Any, tmp_path: Path) -> None:
    """CVAT exports RGB, with labels in an order of its own."""
    out = export_with(project, tmp_path / "out", {}, "voc_png")
    mask, colours = corrected(project), palette()
    drawn = colours[np.where(mask == 1, 2, np.where(mask == 2, 1, mask))]
    Image.fromarray(drawn).save(out / "SegmentationClass/a.png")
    lines = ["# label:color_rgb:parts:actions", "dog:128,0,0::", "cat:0,128,0::"]
    lines += ["background:0,0,0::", "ignored:224,224,192::"]
    (out / "labelmap.txt").write_text("\n".join(lines))
    for name in ("c c", "sub/b", "val1"):
        (out / f"SegmentationClass/{name}.png").unlink()
    import_annotations(project.root, out, who="Ada")
    assert (Corrections.read(project.root).read_mask("a", (12, 16)) == mask).all()


def bad_size(out: Path) -> str:
    write_label_png(out / "SegmentationClass/a.png", np.zeros((16, 12), np.uint8))
    return r"a\.png: the mask has 16 x 12 pixels .*lies on its side"


def unknown_value(out: Path) -> str:
    write_label_png(out / "SegmentationClass/a.png", np.full((12, 16), 3, np.uint8))
    return r"a\.png holds the colour #808000, but masks of this data set hold only"


def unknown_image(out: Path) -> str:
    write_label_png(out / "SegmentationClass/z.png", np.zeros((12, 16), np.uint8))
    return r"annotations of 1 images that the data set does not have, such as 'z'.*--skip-unknown"


def cut_short(out: Path) -> str:
    file = out / "SegmentationClass/a.png"
    file.write_bytes(file.read_bytes()[:-30])
    return r"a\.png cannot be read as a mask"


def no_labels(out: Path) -> str:
    (out / "labelmap.txt").unlink()
    Image.fromarray(palette()[np.ones((12, 16), int)]).save(out / "SegmentationClass/a.png")
    return r"a\.png has colours, and there is no .*labelmap\.txt"


def other_label(out: Path) -> str:
    file = out / "labelmap.txt"
    file.write_text(file.read_text().replace("dog:", "dgo:"))
    return r"labelmap\.txt: the class 'dgo' is none of the data set's; did you mean 'dog'"


@pytest.mark.parametrize(
    "spoil", [bad_size, unknown_value, unknown_image, cut_short, no_labels, other_label]
)
def test_bad_pictures_are_named_and_nothing_is_imported(
    project: Any, tmp_path: Path, spoil: Any
) -> None:
    out = export_with(project, tmp_path / "out", {"c c": corrected(project, "c c")}, "voc_png")
    said = spoil(out)
    with pytest.raises(ValueError, match=rf"(?s){said}"):
        import_annotations(project.root, out, who="Ada")
    assert not (project.root / CORRECTIONS).exists()


@pytest.mark.parametrize("kind", ["coco", "cvat", "geojson", "label_studio", "yolo"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_a_file_that_was_cut_short_is_an_error(
    project: Any, tmp_path: Path, kind: str, share: float
) -> None:
    done = export_annotations(project.root, tmp_path / "out", kind, names=["a"])
    files = {"geojson": "labels/a.geojson", "yolo": "labels/a.txt"}
    file = tmp_path / "out" / files.get(kind, done.main.name)
    text = file.read_text()
    if kind == "label_studio":
        text = text.replace('"predictions"', '"annotations"')
    lines = text.splitlines() if kind == "yolo" else []
    cut = int(len(text) * share)
    if kind == "yolo":  # within the first line: of an odd number of values
        cut = len(lines[0].rsplit(" ", 1)[0])
    file.write_text(text[:cut])
    with pytest.raises(ValueError, match=r"(?s)export (it|the project).*again"):
        import_annotations(project.root, done.main, who="Ada")
    assert not (project.root / CORRECTIONS).exists()


def test_skip_unknown_is_the_way_out_that_is_named(project: Any, tmp_path: Path) -> None:
    out = export_with(project, tmp_path / "out", {"a": corrected(project)}, "voc_png")
    unknown_image(out)
    found = import_annotations(project.root, out, who="Ada", skip_unknown=True)
    assert (len(found.added), list(found.unknown)) == (1, ["z"])


def test_somebody_has_to_be_named(project: Any, tmp_path: Path) -> None:
    out = export_with(project, tmp_path / "out", {"a": corrected(project)}, "voc_png")
    with pytest.raises(ValueError, match="does not say who corrected it; name them with --who"):
        import_annotations(project.root, out)


def test_boxes_are_no_masks(project: Any, tmp_path: Path) -> None:
    export_annotations(project.root, tmp_path / "out", "coco", names=["a", "sub/b"])
    file = tmp_path / "out/annotations.json"
    values = json.loads(file.read_text())
    boxed = values["images"][0]["id"]
    for item in values["annotations"]:
        if item["image_id"] == boxed:
            del item["segmentation"]
        elif item["category_id"] == 1:
            item["category_id"] = 2
    file.write_text(json.dumps(values))
    found = import_annotations(project.root, file, who="Ada")
    assert (len(found.added), list(found.unfinished)) == (1, ["a"])


def test_the_background_is_no_class_of_data_without_one(new_project: Any, tmp_path: Path) -> None:
    mask = np.array([[1, 2], [2, 255]], np.uint8)
    project = new_project(tmp_path / "p", {"a": mask}, ("roof", "road"), has_background=False)
    out = export_with(project, tmp_path / "out", {"a": mask * 0}, "voc_png")
    with pytest.raises(ValueError, match="has pixels of the background, which these data do not"):
        import_annotations(project.root, out, who="Ada")
    assert not (project.root / CORRECTIONS).exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.json", "is not there"),
        ("notes.txt", "is no annotation that is known"),
        ("empty", "is no annotation that is known"),
    ],
)
def test_what_is_no_export(project: Any, tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=said):
        import_annotations(project.root, tmp_path / path, who="Ada")


def test_tasks_that_nobody_has_annotated(project: Any, tmp_path: Path) -> None:
    """The export itself, instead of what Label Studio gives back."""
    done = export_annotations(project.root, tmp_path / "out", "label_studio")
    with pytest.raises(ValueError, match="no annotations of Label Studio; annotate its tasks"):
        import_annotations(project.root, done.main, who="Ada")
