"""CVAT's XML of the kind "CVAT for images 1.1"."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wsss.data._drawn import AnnotatedImage, Drawn
from wsss.data._shapes import Line, Polygons, Runs, ellipse, turned_rectangle

__all__ = ["read_cvat"]

_KINDS = ("tag", "box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")


def read_cvat(path: Path) -> list[AnnotatedImage]:
    """All images of a file, those without any annotation among them.

    Of a turned box, the box around it counts. What lies outside of the image by its attribute is
    left out; cuboids and skeletons give their label as a tag.

    Raises:
        ValueError: it is not XML, or that of another kind, or a number is none.
    """
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ValueError(
            f"{path} is not valid XML: {error}; if it was cut short, export it again"
        ) from None
    if root.tag == "annotation":
        raise ValueError(
            f"{path} is PASCAL VOC's XML of one image; name the folder of these as boxes instead"
        )
    if root.tag != "annotations" or root.find("track") is not None:
        what = "of a video" if root.find("track") is not None else f"with the root {root.tag}"
        raise ValueError(f"{path} is XML {what}; export it as 'CVAT for images 1.1'")
    images = []
    for item in root.findall("image"):
        name = item.get("name", "")
        where = f"{path}, image '{name}'"
        width, height = (_whole(item, side, where) for side in ("width", "height"))
        drawn = list(_of_image(item, where, (height, width)))
        images.append(
            AnnotatedImage({"name": name}, where, (height, width), drawn, item.get("subset", ""))
        )
    return images


def _of_image(image: ET.Element, where: str, size: tuple[int, int]) -> Iterator[Drawn]:
    for number, item in enumerate(image, 1):
        if item.tag not in _KINDS or item.get("outside") in ("1", "True", "true"):
            continue
        word, place = item.get("label", "").strip(), f"{where}, {item.tag} {number}"
        if not word:
            raise ValueError(f"{place} has no label; give it one, or remove it")
        order = int(_number(item, "z_order", place)) if "z_order" in item.attrib else 0
        if item.tag == "box":
            yield Drawn(word, "box", place, _box(item, place, size))
        elif item.tag == "polygon":
            points = _points(item, place, 3)
            yield Drawn(word, "region", place, shape=Polygons((points,)), order=order)
        elif item.tag == "ellipse":
            x, y, across, down = (_number(item, key, place) for key in ("cx", "cy", "rx", "ry"))
            shape = ellipse(x, y, (across, down), _turn(item, place))
            yield Drawn(word, "region", place, shape=shape, order=order)
        elif item.tag == "mask":
            left, top, width, height = (
                _whole(item, key, place) for key in ("left", "top", "width", "height")
            )
            text = item.get("rle", "").replace(",", " ").split()
            if not all(part.isdecimal() for part in text):
                raise ValueError(f"{place}: its rle holds more than whole numbers; export it again")
            runs = Runs([int(part) for part in text], (height, width), (left, top))
            yield Drawn(word, "region", place, shape=runs, order=order)
        elif item.tag == "polyline":
            line = Line(_points(item, place, 1))
            yield Drawn(word, "line", place, shape=line, order=order)
        elif item.tag == "points":
            pairs = tuple((x, y) for x, y in _points(item, place, 1).tolist())
            yield Drawn(word, "points", place, points=pairs)
        else:
            yield Drawn(word, "tag", place)


def _box(item: ET.Element, where: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (_number(item, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
    degrees = _turn(item, where)
    if not degrees:
        return left, top, right, bottom
    middle = (left + right) / 2, (top + bottom) / 2
    left, top, right, bottom = turned_rectangle((left, top, right, bottom), degrees, middle)
    return max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0])


def _turn(item: ET.Element, where: str) -> float:
    return _number(item, "rotation", where) if "rotation" in item.attrib else 0


def _points(item: ET.Element, where: str, least: int) -> np.ndarray:
    """The points of "x,y;x,y", (N, 2)."""
    text = item.get("points", "")
    try:
        pairs = [tuple(map(float, pair.split(","))) for pair in text.split(";") if pair.strip()]
        points = np.array(pairs, float).reshape(-1, 2)
    except ValueError:
        raise ValueError(
            f"{where}: its points '{text[:60]}' are not x,y;x,y and so on; export it again"
        ) from None
    if len(points) < least or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"{where} has {len(points)} points, but needs {least} of x,y; draw it again, or remove "
            "it"
        )
    return points


def _number(item: ET.Element, key: str, where: str) -> float:
    try:
        return float(item.get(key, ""))
    except ValueError:
        raise ValueError(
            f"{where}: its {key} is '{item.get(key, '')}', and no number; export it again"
        ) from None


def _whole(item: ET.Element, key: str, where: str) -> int:
    text = item.get(key, "")
    if not text.isdecimal():
        raise ValueError(f"{where}: its {key} is '{text}', and no whole number; export it again")
    return int(text)
