"""Label Studio: tasks whose predictions are brushed regions, and the labelling interface."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from wsss.artifacts import IGNORE_INDEX, atomic_path, write_json
from wsss.editors._base import Given, colour, label_of, regions, stable_id
from wsss.editors._drawn import read_drawn
from wsss.editors.run_lengths import packed_bytes

__all__ = ["IMAGES", "LOSSLESS", "read", "reads", "write"]

IMAGES = "images"
LOSSLESS = True
FILE, INTERFACE = "tasks.json", "interface.xml"

_LOCAL = "/data/local-files/?d="
"""Where Label Studio serves the files of its document root, which is the folder of the export."""


def write(given: Iterable[Given], class_names: Sequence[str], out: Path, tolerance: float) -> str:
    """Write tasks.json, and interface.xml for the project's settings; see `Format`."""
    del tolerance
    write_json(out / FILE, [_task(item, class_names) for item in given])
    lines = [
        f"    <Label value={quoteattr(label_of(value, class_names))} "
        f"background={quoteattr(colour(value))}/>"
        for value in (*range(1, len(class_names) + 1), IGNORE_INDEX)
    ]
    text = "\n".join(
        [
            "<View>",
            '  <Image name="image" value="$image" zoom="true"/>',
            '  <BrushLabels name="mask" toName="image">',
            *lines,
            "  </BrushLabels>",
            "</View>",
            "",
        ]
    )
    with atomic_path(out / INTERFACE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return FILE


def reads(path: Path) -> bool:
    """See `Format`; COCO's JSON is told apart as it is read."""
    return path.suffix.lower() == ".json"


read = read_drawn


def _task(item: Given, class_names: Sequence[str]) -> dict[str, Any]:
    height, width = item.mask.shape
    result = [
        {
            "id": f"{stable_id(item.name, class_id):x}",
            "type": "brushlabels",
            "from_name": "mask",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": packed_bytes(inside.ravel()),
                "brushlabels": [label_of(class_id, class_names)],
            },
        }
        for class_id, inside in regions(item.mask)
    ]
    return {
        "data": {"image": f"{_LOCAL}{quote(f'{IMAGES}/{item.file}')}", "name": item.name},
        "predictions": [{"model_version": item.made_by, "result": result}],
    }
