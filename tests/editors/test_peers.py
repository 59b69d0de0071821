"""The tools' own libraries read what is exported, and what they write is read here.

They are not needed otherwise: pycocotools, label-studio-sdk (its checks and its brush), datumaro,
which reads CVAT's formats, geojson with shapely, and napari. Where one is not installed, nothing is
asked of it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Corrections, read_label_png
from wsss.editors import export_annotations, import_annotations
from wsss.editors._base import regions

LABELS = ("cat", "dog", "ignored")


def value_of(label: str) -> int:
    return 255 if label == "ignored" else LABELS.index(label) + 1


def came_back(project: Any, path: Path) -> None:
    """All masks of the project are corrections now, as they are."""
    import_annotations(project.root, path, who="Ada", accept=True)
    layer = Corrections.read(project.root)
    assert layer.names == set(project.masks)
    for name, mask in project.masks.items():
        assert (layer.read_mask(name, mask.shape) == mask).all()


def test_pycocotools_reads_it(project: Any, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    path = export_annotations(project.root, tmp_path / "out", "coco").main
    found = coco.COCO(str(path))
    for image in found.loadImgs(found.getImgIds()):
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        for item in found.loadAnns(found.getAnnIds(imgIds=[image["id"]])):
            inside = found.annToMask(item)
            assert inside.sum() == item["area"]
            mask[inside > 0] = item["category_id"]
        assert (mask == project.masks[image["file_name"][:-4]]).all()


def test_what_pycocotools_writes_is_read(project: Any, tmp_path: Path) -> None:
    encoder = pytest.importorskip("pycocotools.mask")
    images, found = [], []
    for at, (name, mask) in enumerate(project.masks.items()):
        size = {"height": mask.shape[0], "width": mask.shape[1]}
        images.append({"id": at, "file_name": f"{name}.png", **size})
        for value, inside in regions(mask):
            packed = encoder.encode(np.asfortranarray(inside.astype(np.uint8)))
            packed["counts"] = packed["counts"].decode()
            own = {"id": len(found), "image_id": at, "category_id": value, "iscrowd": 1}
            found.append(own | {"segmentation": packed, "bbox": [0, 0, 1, 1]})
    categories = [{"id": value_of(label), "name": label} for label in LABELS]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": found, "categories": categories}))
    came_back(project, path)


def test_label_studio_s_checks_take_it(project: Any, tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    path = export_annotations(project.root, tmp_path / "out", "label_studio").main
    checks = interface.LabelInterface((tmp_path / "out/interface.xml").read_text())
    tasks = json.loads(path.read_text())
    assert [task["data"]["name"] for task in tasks] == ["a", "c c", "sub/b", "val1"]
    for task in tasks:
        (prediction,) = task["predictions"]
        assert not checks.validate_prediction(prediction, return_errors=True)
        mask = np.zeros_like(project.masks[task["data"]["name"]])
        for item in prediction["result"]:
            size = item["original_height"], item["original_width"], 4
            alpha = np.reshape(brush.decode_rle(item["value"]["rle"]), size)[..., 3]
            mask[alpha > 0] = value_of(item["value"]["brushlabels"][0])
        assert (mask == project.masks[task["data"]["name"]]).all()


def test_what_label_studio_s_brush_writes_is_read(project: Any, tmp_path: Path) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    tasks = []
    for name, mask in project.masks.items():
        result = [
            {
                "type": "brushlabels",
                "original_width": mask.shape[1],
                "original_height": mask.shape[0],
                "value": {
                    "format": "rle",
                    "rle": brush.mask2rle((inside * 255).astype(np.uint8)),
                    "brushlabels": ["ignored" if value == 255 else LABELS[value - 1]],
                },
            }
            for value, inside in regions(mask)
        ]
        annotation = {"completed_by": 1, "updated_at": "2026-03-01T09:00:00Z", "result": result}
        image = f"/data/local-files/?d=images/{name}.png"
        tasks.append({"data": {"image": image}, "annotations": [annotation]})
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    came_back(project, tmp_path / "project.json")


@pytest.mark.parametrize("kind", ["coco", "cvat", "voc_png"])
def test_datumaro_which_reads_cvat_s_formats_reads_it(
    project: Any, tmp_path: Path, kind: str
) -> None:
    peer = pytest.importorskip("datumaro")
    out = tmp_path / "out"
    export_annotations(project.root, out, kind)
    name = {"coco": "coco", "cvat": "cvat", "voc_png": "voc_segmentation"}[kind]
    if kind == "coco":
        (out / "annotations").mkdir()
        (out / "annotations.json").rename(out / "annotations/instances_default.json")
        (out / "images").rename(out / "default")
        (out / "images").mkdir()
        (out / "default").rename(out / "images/default")
    found = peer.Dataset.import_from(str(out), name)
    labels = found.categories()[peer.AnnotationType.label]
    seen = set()
    for item in found:
        mask = np.zeros_like(project.masks[item.id])
        for part in item.annotations:
            label = labels[part.label].name
            if part.type == peer.AnnotationType.mask and label != "background":
                mask[np.asarray(part.image) > 0] = value_of(label)
        assert (mask == project.masks[item.id]).all(), item.id
        seen.add(item.id)
    assert seen == set(project.masks)


def test_geojson_is_valid_and_its_areas_are_those_of_the_masks(
    project: Any, tmp_path: Path
) -> None:
    geojson, shapes = pytest.importorskip("geojson"), pytest.importorskip("shapely.geometry")
    export_annotations(project.root, tmp_path / "out", "geojson")
    for name, mask in project.masks.items():
        found = geojson.loads((tmp_path / f"out/labels/{name}.geojson").read_text())
        assert found.is_valid, found.errors()
        assert len(found["features"]) == len(list(regions(mask)))
        for feature in found["features"]:
            shape = shapes.shape(feature["geometry"])
            value = value_of(feature["properties"]["classification"]["name"])
            assert shape.is_valid
            assert shape.area == (mask == value).sum()
            assert all(part.exterior.is_ccw for part in shape.geoms)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_napari_reads_it_and_what_it_saves_is_read(
    project: Any, tmp_path: Path, dtype: type
) -> None:
    napari = pytest.importorskip("napari_builtins.io")
    folder = export_annotations(project.root, tmp_path / "out", "napari").main
    for name, mask in project.masks.items():
        path = str(folder / f"{name}.tif")
        layer = np.asarray(napari.napari_get_reader(path)(path)[0][0])
        assert (layer == mask).all()
        assert layer.dtype == np.uint8
        assert napari.napari_write_labels(path, np.flipud(layer).astype(dtype), {})
    assert len(import_annotations(project.root, tmp_path / "out", who="Ada").added) == 4
    layer = Corrections.read(project.root)
    for name, mask in project.masks.items():
        assert (layer.read_mask(name, mask.shape) == mask[::-1]).all()


def test_pillow_reads_voc_s_palette_as_class_ids(project: Any, tmp_path: Path) -> None:
    export_annotations(project.root, tmp_path / "out", "voc_png")
    for name, mask in project.masks.items():
        with Image.open(tmp_path / f"out/SegmentationClass/{name}.png") as image:
            assert image.mode == "P"
            assert (np.asarray(image) == mask).all()
        assert (read_label_png(tmp_path / f"out/SegmentationClass/{name}.png") == mask).all()
