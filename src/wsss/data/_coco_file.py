"""COCO's JSON of instances: images, their objects with boxes and regions, and categories."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wsss.data._shapes import Corners, Polygons, Runs, Shape
from wsss.data._tag_files import read_json_text
from wsss.data.listing import some

__all__ = ["CocoFile", "CocoImage", "CocoObject", "read_coco"]


@dataclass(frozen=True)
class CocoObject:
    """An annotation.

    Attributes:
        word: the name of its category.
        is_crowd: whether its region holds many of them, drawn roughly.
        corners: left, top, right and bottom of its box; None without one, or of an empty one.
        shape: its region; None without one.
        wrong: why the region cannot be read; "" where it can.
        where: the file and the annotation, for errors.
    """

    word: str
    is_crowd: bool
    corners: Corners | None
    shape: Shape | None
    wrong: str
    where: str


@dataclass(frozen=True)
class CocoImage:
    """An image and its objects, in the order of the file.

    Attributes:
        entry: its path, as the file has it.
        size: (height, width) in pixels.
        objects: all of them.
        where: the file and the image, for errors.
    """

    entry: str
    size: tuple[int, int]
    where: str
    objects: list[CocoObject] = field(default_factory=list)


@dataclass(frozen=True)
class CocoFile:
    """What a file has.

    Attributes:
        names: of its categories in the order of their ids, which may have gaps.
        images: in the order of the file.
        headings: those of the names that are only the category above others, and of no object.
    """

    names: tuple[str, ...]
    images: list[CocoImage]
    headings: frozenset[str]


def read_coco(path: Path) -> CocoFile:
    """Read a file of instances.

    Raises:
        ValueError: it is not JSON or of another layout, or an annotation is of no image or no
            category of it; the text names the annotation.
    """
    try:
        values = read_json_text(path)
    except ValueError as error:
        raise ValueError(f"{error}; if it was cut short, copy or download it again") from None
    if not isinstance(values, dict) or not all(
        isinstance(values.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise ValueError(
            f"{path} is not COCO's JSON of instances, which has the lists images, annotations and "
            "categories; name the one called instances_….json"
        )
    categories = _categories(values["categories"], path)
    images = _images(values["images"], path)
    for number, item in enumerate(values["annotations"], 1):
        _add(item, f"{path}, annotation {_named(item, number)}", images, categories)
    used = {item.word for image in images.values() for item in image.objects}
    above = {str(item.get("supercategory", "")) for item in values["categories"]}
    names = tuple(dict.fromkeys(categories[number] for number in sorted(categories)))
    headings = frozenset(name for name in names if name in above and name not in used)
    return CocoFile(names, list(images.values()), headings)


def _named(item: Any, number: int) -> str:
    """An item by its id, or by its place in the list."""
    return str(item.get("id", f"number {number}")) if isinstance(item, dict) else f"number {number}"


def _categories(items: Sequence[Any], path: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict) or type(item.get("id")) is not int or not item.get("name"):
            raise ValueError(
                f"{path}, category {_named(item, number)}, needs a whole number as its id, and a "
                "name"
            )
        name = str(item["name"]).strip()
        if found.setdefault(item["id"], name) != name:
            raise ValueError(
                f"{path} has two categories with the id {item['id']}, '{found[item['id']]}' and "
                f"'{name}'; give one another id"
            )
    return found


def _images(items: Sequence[Any], path: Path) -> dict[Any, CocoImage]:
    found: dict[Any, CocoImage] = {}
    for number, item in enumerate(items, 1):
        where = f"{path}, image {_named(item, number)}"
        if not isinstance(item, dict) or "id" not in item or not item.get("file_name"):
            raise ValueError(f"{where}, needs an id and a file_name")
        height, width = item.get("height"), item.get("width")
        if type(height) is not int or type(width) is not int or min(height, width) < 1:
            raise ValueError(
                f"{where}, '{item['file_name']}', has the height {height} and the width {width}, "
                "but both are whole numbers of pixels, on which its regions were drawn"
            )
        if item["id"] in found:
            raise ValueError(
                f"{where}: '{found[item['id']].entry}' and '{item['file_name']}' have the same id; "
                "give one another, and its annotations with it"
            )
        found[item["id"]] = CocoImage(str(item["file_name"]), (height, width), where)
    return found


def _add(
    item: Any, where: str, images: Mapping[Any, CocoImage], categories: Mapping[int, str]
) -> None:
    """Put an annotation to its image."""
    lacking = {"image_id", "category_id"} - (item.keys() if isinstance(item, dict) else set())
    if lacking:
        raise ValueError(
            f"{where} lacks {' and '.join(sorted(lacking))}; captions and panoptic segments are no "
            "instances: name the file called instances_….json"
        )
    if item["image_id"] not in images:
        raise ValueError(
            f"{where} is of the image_id {item['image_id']}, which none of its {len(images)} "
            "images has; remove it, or add the image"
        )
    if item["category_id"] not in categories:
        known = [f"{number} ({name})" for number, name in sorted(categories.items())]
        raise ValueError(
            f"{where} has the category_id {item['category_id']}, but its categories are "
            f"{some(known)}; mend it, or add the category"
        )
    image, shape, wrong = images[item["image_id"]], None, ""
    try:
        shape = _shape(item.get("segmentation"))
    except ValueError as error:
        wrong = str(error)
    image.objects.append(
        CocoObject(
            categories[item["category_id"]],
            bool(item.get("iscrowd")),
            _corners(item.get("bbox")),
            shape,
            wrong,
            where,
        )
    )


def _corners(box: Any) -> Corners | None:
    if not _are_numbers(box) or len(box) != 4 or not (box[2] > 0 and box[3] > 0):
        return None
    left, top, width, height = map(float, box)
    return left, top, left + width, top + height


def _shape(value: Any) -> Shape | None:
    """A region by its polygons or run lengths; None of nothing."""
    if isinstance(value, dict):
        counts, size = value.get("counts"), value.get("size")
        whole = isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)
        known = isinstance(counts, str) or (
            isinstance(counts, list) and all(type(count) is int for count in counts)
        )
        if not whole or not known or counts is None or size is None:
            raise ValueError(
                "its segmentation needs counts, a text or a list of whole numbers, and size, "
                "[height, width]"
            )
        return Runs(counts, (size[0], size[1]), by_columns=True)
    if value and _are_numbers(value):
        value = [value]  # a single polygon, as some tools write it
    if value is not None and not isinstance(value, list):
        raise ValueError(f"its segmentation is '{str(value)[:40]}', and no list of polygons")
    parts = []
    for part in value or ():
        if not _are_numbers(part):
            raise ValueError(f"its segmentation holds '{str(part)[:40]}', and no list of numbers")
        if len(part) % 2 or 0 < len(part) < 6:
            raise ValueError(
                f"its segmentation has a polygon of {len(part)} numbers, but it is x and y of each "
                "of at least 3 corners"
            )
        if part:
            parts.append(np.array(part, float).reshape(-1, 2))
    return Polygons(tuple(parts)) if parts else None


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(item) in (int, float) and math.isfinite(item) for item in value
    )
