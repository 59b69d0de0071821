"""COCO's JSON of instances: a region of each class as run lengths, without loss."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import IGNORE_INDEX, write_json
from wsss.editors._base import IGNORED, Given, regions, stable_id
from wsss.editors._drawn import read_drawn
from wsss.editors.run_lengths import packed_text, run_lengths

__all__ = ["IMAGES", "LOSSLESS", "read", "reads", "write"]

IMAGES = "images"
LOSSLESS = True
FILE = "annotations.json"


def write(given: Iterable[Given], class_names: Sequence[str], out: Path, tolerance: float) -> str:
    """Write annotations.json, in which a category's id is that of its class; see `Format`."""
    del tolerance
    names = [*enumerate(class_names, 1), (IGNORE_INDEX, IGNORED)]
    images, found = [], []
    for item in given:
        height, width = item.mask.shape
        image_id = stable_id(item.name)
        images.append({"id": image_id, "file_name": item.file, "width": width, "height": height})
        for class_id, inside in regions(item.mask):
            own = {"id": stable_id(item.name, class_id), "image_id": image_id}
            found.append(own | {"category_id": class_id, "iscrowd": 0, **_region(inside)})
    value = {
        "info": {"description": "masks to be corrected"},
        "licenses": [],
        "images": images,
        "annotations": found,
        "categories": [{"id": class_id, "name": name} for class_id, name in names],
    }
    write_json(out / FILE, value)
    return FILE


def reads(path: Path) -> bool:
    """See `Format`; Label Studio's JSON is told apart as it is read."""
    return path.suffix.lower() == ".json"


read = read_drawn


def _region(inside: np.ndarray) -> dict[str, Any]:
    """The run lengths down the columns, the area and the box of a region."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "segmentation": {
            "size": list(inside.shape),
            "counts": packed_text(run_lengths(inside.ravel(order="F"))),
        },
        "area": int(inside.sum()),
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
    }
