"""A mask as a client wants it: a palette PNG, or JSON with run lengths."""

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from wsss.artifacts import check_label_map, palette
from wsss.server.refusal import Refusal
from wsss.server.run_lengths import coco_rle

__all__ = ["JSON", "PNG", "json_of", "png_of", "wanted_type"]

PNG, JSON = "image/png", "application/json"
_BY_NAME = {"png": PNG, "json": JSON}


def wanted_type(name: str | None, accept: str) -> str:
    """The media type of an answer.

    Args:
        name: "png" or "json", which comes first; None if the client did not say.
        accept: the header of that name; its weights (q=) are taken for the order.

    Raises:
        Refusal: 400 for another name, 406 where neither is accepted.

    Example:
        >>> wanted_type(None, "text/html, application/json;q=0.9, */*;q=0.1")
        'application/json'
        >>> wanted_type("png", "application/json"), wanted_type(None, "")
        ('image/png', 'image/png')
    """
    if name is not None:
        if name not in _BY_NAME:
            raise Refusal(400, f"there is no format '{name}'; ask for format=png or format=json")
        return _BY_NAME[name]
    weighted = []
    for part in accept.split(","):
        kind, _, rest = part.partition(";")
        weight = rest.replace(" ", "").removeprefix("q=")
        try:
            weighted.append((-float(weight) if weight else -1.0, kind.strip().lower()))
        except ValueError:
            weighted.append((-1.0, kind.strip().lower()))
    kinds = [kind for weight, kind in sorted(weighted, key=lambda item: item[0]) if weight]
    for kind in kinds:
        if kind in (PNG, "*/*", "image/*", ""):
            return PNG
        if kind in (JSON, "application/*"):
            return JSON
    raise Refusal(406, f"an answer is {PNG} or {JSON}, and the request accepts {accept} alone")


def png_of(mask: np.ndarray) -> bytes:
    """The bytes of a PNG whose values are class ids, with the colours of label PNGs."""
    check_label_map("mask", mask)
    picture = Image.fromarray(mask)
    picture.putpalette(palette().tobytes())
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=3)
    return file.getvalue()


def json_of(mask: np.ndarray, class_names: Sequence[str]) -> bytes:
    """The classes that a mask has, by their ids, with their pixels and run lengths."""
    height, width = mask.shape
    found: list[dict[str, Any]] = []
    for number in np.unique(mask[mask > 0]).tolist():
        region = mask == number
        name = class_names[number - 1]
        found.append(
            {"id": number, "name": name, "pixels": int(region.sum()), "rle": coco_rle(region)}
        )
    answer = {"height": height, "width": width, "classes": found}
    return json.dumps(answer, ensure_ascii=False).encode()
