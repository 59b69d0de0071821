"""Which masks are exported, in which order, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import write_label_png
from wsss.editors import export_annotations
from wsss.editors.listing import image_names


def exported(out: Path) -> list[str]:
    return [
        row["file_name"] for row in json.loads((out / "annotations.json").read_text())["images"]
    ]


def test_the_order_is_that_of_the_list(project: Any, tmp_path: Path) -> None:
    export_annotations(project.root, tmp_path / "1", "coco", names=["val1", "a"])
    assert exported(tmp_path / "1") == ["val1.png", "a.png"]
    export_annotations(project.root, tmp_path / "2", "coco", splits=["val"])
    assert exported(tmp_path / "2") == ["val1.png"]
    assert (tmp_path / "2/images/val1.png").is_file()
    export_annotations(project.root, tmp_path / "3", "coco", with_images=False)
    assert not (tmp_path / "3/images").exists()


def test_predictions_lie_in_a_folder_per_split(project: Any, tmp_path: Path) -> None:
    write_label_png(project.paths.predictions / "val/val1.png", np.ones((12, 16), np.uint8))
    export_annotations(project.root, tmp_path / "out", "voc_png", of="predictions")
    masks = list((tmp_path / "out/SegmentationClass").rglob("*.png"))
    assert [path.name for path in masks] == ["val1.png"]
    assert (np.asarray(Image.open(masks[0])) == 1).all()
    with pytest.raises(
        ValueError, match=r"of predictions, 'a' and 0 others have none.*predict_masks"
    ):
        export_annotations(project.root, tmp_path / "2", "voc_png", of="predictions", names=["a"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "cocoa"}, "there is no format 'cocoa'; did you mean 'coco'"),
        ({"of": "prediction"}, "no masks called 'prediction'; did you mean 'predictions'"),
        ({"names": ["sub/c"]}, "'sub/c' is no image of the data set; did you mean 'sub/b'"),
        ({"splits": ["vale"]}, "there is no split 'vale'; did you mean 'val'"),
        ({"tolerance": 1.0}, "is for outlines, and not for 'coco'"),
        ({"tolerance": -1.0}, "must be 0 or more"),
        ({"of": "predictions"}, r"predictions.*wsss run predict_masks"),
    ],
)
def test_what_is_refused_leaves_nothing(
    project: Any, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        export_annotations(project.root, tmp_path / "x/out", **{"kind": "coco", **settings})
    assert not (tmp_path / "x/out").exists()
    assert not list((tmp_path / "x").glob(".export*")) if (tmp_path / "x").exists() else True


def test_what_somebody_corrects_is_not_written_over(project: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_annotations(project.root, out, "napari")
    with pytest.raises(ValueError, match="perhaps what somebody is correcting; name another"):
        export_annotations(project.root, out, "napari")
    (tmp_path / "empty").mkdir()
    export_annotations(project.root, tmp_path / "empty", "napari")
    assert (tmp_path / "empty/labels/a.tif").is_file()


def test_a_project_that_was_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wsss run prepare_data"):
        export_annotations(tmp_path, tmp_path / "out", "coco")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "b\n\n a \nb\n"),
        ("list.csv", "score,image\n1,b\n2,a\n"),
        ("list.json", '["b", "a"]'),
        ("list.json", '[{"image": "b", "score": 1}, {"image": "a"}]'),
        ("list.json", '{"about": [], "images": [{"name": "b"}, {"name": "a"}]}'),
    ],
)
def test_lists_of_images(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert image_names(tmp_path / name) == ["b", "a"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("list.txt", "\n", "names no image"),
        ("list.csv", "file,score\na,1\n", "columns file, score, but none called image"),
        ("list.json", "[1]", "no list of objects with the key image"),
        ("list.json", '["a"', "not valid JSON"),
        ("gone.txt", None, "cannot be read as a list"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        image_names(tmp_path / name)
