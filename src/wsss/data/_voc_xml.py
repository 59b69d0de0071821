"""PASCAL VOC's XML of an image: the names of its objects, and their boxes."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["XmlObject", "read_voc_xml", "with_origin"]

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class XmlObject:
    """What an XML says of an object.

    Attributes:
        name: of its class.
        corners: xmin, ymin, xmax and ymax; None where it has none, NaN what is no number.
        is_difficult: whether annotators marked it so.
        where: the file and the object's number, for errors.
        drawn_on: (height, width) of the image by the XML; None where it does not say.
    """

    name: str
    corners: Corners | None
    is_difficult: bool
    where: str
    drawn_on: tuple[int, int] | None


def read_voc_xml(path: Path) -> list[XmlObject]:
    """Read the objects of an image. Raises ValueError where the file is not XML."""
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{path} is not valid XML: {error}") from None
    height, width = (_number(root.findtext(f"size/{side}")) for side in ("height", "width"))
    drawn_on = (int(height), int(width)) if height > 0 and width > 0 else None
    found = []
    for number, item in enumerate(root.findall("object"), 1):
        box = item.find("bndbox")
        sides = [_number(box.findtext(f"{x}{y}")) for x, y in _SIDES] if box is not None else None
        found.append(
            XmlObject(
                (item.findtext("name") or "").strip(),
                (sides[0], sides[1], sides[2], sides[3]) if sides else None,
                (item.findtext("difficult") or "").strip() == "1",
                f"{path}, object {number}",
                drawn_on,
            )
        )
    return found


_SIDES = (("x", "min"), ("y", "min"), ("x", "max"), ("y", "max"))


def with_origin(objects: Iterable[XmlObject]) -> list[XmlObject]:
    """The objects of a data set with corners that count from 0 and whose last two lie outside.

    PASCAL VOC's count from 1, and its last pixels are those of the box. Tools that count from 0 are
    told by a box that begins there.
    """
    listed = list(objects)
    starts = [item.corners[:2] for item in listed if item.corners]
    if any(min(start) < 1 for start in starts):
        return listed
    return [
        replace(item, corners=(c[0] - 1, c[1] - 1, c[2], c[3])) if (c := item.corners) else item
        for item in listed
    ]


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
