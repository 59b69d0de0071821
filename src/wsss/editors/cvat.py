"""CVAT's XML of the kind "CVAT for images 1.1": a mask of each class, without loss."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from wsss.artifacts import IGNORE_INDEX, atomic_path
from wsss.editors._base import Given, colour, label_of, regions, stable_id
from wsss.editors._drawn import read_drawn
from wsss.editors.run_lengths import run_lengths

__all__ = ["IMAGES", "LOSSLESS", "read", "reads", "write"]

IMAGES = "images"
LOSSLESS = True
FILE = "annotations.xml"


def write(given: Iterable[Given], class_names: Sequence[str], out: Path, tolerance: float) -> str:
    """Write annotations.xml, which CVAT takes for the task that has the images; see `Format`."""
    del tolerance
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for class_id in (*range(1, len(class_names) + 1), IGNORE_INDEX):
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = label_of(class_id, class_names)
        ET.SubElement(label, "color").text = colour(class_id)
        ET.SubElement(label, "type").text = "mask"
        ET.SubElement(label, "attributes")
    for item in given:
        height, width = item.mask.shape
        said = {"id": str(stable_id(item.name)), "name": item.file}
        image = ET.SubElement(root, "image", said | {"width": str(width), "height": str(height)})
        for class_id, inside in regions(item.mask):
            ET.SubElement(
                image,
                "mask",
                {"label": label_of(class_id, class_names), "source": "auto", "occluded": "0"}
                | _region(inside)
                | {"z_order": "0"},
            )
    ET.indent(root)
    with atomic_path(out / FILE) as temporary:
        ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
    return FILE


def reads(path: Path) -> bool:
    """See `Format`."""
    return path.suffix.lower() == ".xml"


read = read_drawn


def _region(inside: np.ndarray) -> dict[str, str]:
    """The run lengths along the rows of the box around a region."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    part = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return {
        "rle": ", ".join(map(str, run_lengths(part.ravel()))),
        "left": str(columns[0]),
        "top": str(rows[0]),
        "width": str(part.shape[1]),
        "height": str(part.shape[0]),
    }
