"""The formats of annotation tools, by the names that they have in commands."""

from pathlib import Path

from wsss.checks import did_you_mean
from wsss.editors import coco, cvat, geojson, label_studio, napari, voc_png, yolo
from wsss.editors._base import Format

__all__ = ["FORMATS", "format_named", "format_of"]

FORMATS: dict[str, Format] = {
    "coco": coco,
    "cvat": cvat,
    "geojson": geojson,
    "label_studio": label_studio,
    "napari": napari,
    "voc_png": voc_png,
    "yolo": yolo,
}

_BY_CONTENTS = ("cvat", "coco", "yolo", "geojson", "napari", "voc_png")
"""Those that files and folders are taken for, the first that fits; Label Studio's and COCO's JSON
are told apart as they are read."""


def format_named(name: str) -> Format:
    """Raises ValueError where there is no such format."""
    if name not in FORMATS:
        raise ValueError(f"there is no format '{name}'; {did_you_mean(name, FORMATS)}")
    return FORMATS[name]


def format_of(path: Path) -> Format:
    """The format of what came back.

    Raises:
        ValueError: there is no such file or folder, or it is of no format.
    """
    if not path.exists():
        raise ValueError(f"{path} is not there; name the file or folder that the tool exported")
    for name in _BY_CONTENTS:
        if FORMATS[name].reads(path):
            return FORMATS[name]
    raise ValueError(
        f"{path} is no annotation that is known: a .json of COCO or Label Studio, CVAT's .xml, or "
        "a folder of YOLO's data.yaml and labels, of .geojson, of napari's .tif or of PNGs; unpack "
        "an archive first"
    )
