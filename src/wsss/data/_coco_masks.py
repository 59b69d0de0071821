"""COCO's JSON of an image set: the images, and what is drawn on each, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from wsss.data._tag_files import read_json_text

__all__ = ["CocoImage", "Drawn", "draw", "read_coco"]


@dataclass(frozen=True)
class Drawn:
    """One annotation.

    Attributes:
        category: its name.
        shape: polygons, each x, y, x, y, …; or a run-length code with "size" and "counts".
        where: the file and the annotation's id, for errors.
    """

    category: str
    shape: list[list[float]] | Mapping[str, Any]
    where: str


@dataclass(frozen=True)
class CocoImage:
    """An image by the file.

    Attributes:
        file_name: as it is written there.
        size: (height, width) in pixels.
        drawn: its annotations, in the file's order.
    """

    file_name: str
    size: tuple[int, int]
    drawn: list[Drawn] = field(default_factory=list)


def read_coco(path: Path) -> list[CocoImage]:
    """Read the images with their annotations.

    Raises:
        ValueError: it is not such a file; an annotation is of no image or category, or has a box
            alone.
    """
    tree = read_json_text(path)
    parts = (
        [tree.get(key) for key in ("images", "categories", "annotations")]
        if (isinstance(tree, dict))
        else [None]
    )
    if not all(isinstance(part, list) for part in parts):
        raise ValueError(
            f"{path} must hold the lists images, categories and annotations, as COCO's files do; "
            "export it as COCO segmentation"
        )
    try:
        images = {
            item["id"]: CocoImage(item["file_name"], (int(item["height"]), int(item["width"])))
            for item in tree["images"]
        }
        categories = {item["id"]: str(item["name"]) for item in tree["categories"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: an image needs id, file_name, height and width, and a category id and name "
            f"({error!r})"
        ) from None
    for item in tree["annotations"]:
        where = f"{path}, annotation {item.get('id')}"
        image, category = images.get(item.get("image_id")), categories.get(item.get("category_id"))
        if image is None or category is None:
            missing = "image_id" if image is None else "category_id"
            raise ValueError(f"{where}: no entry has its {missing}, {item.get(missing)}")
        shape = item.get("segmentation")
        if not shape:
            raise ValueError(f"{where} has no segmentation; a box does not say where smoke is")
        image.drawn.append(Drawn(category, shape, where))
    return list(images.values())


def draw(item: Drawn, size: tuple[int, int]) -> np.ndarray:
    """An annotation's pixels, (H, W) bool.

    Args:
        item: the annotation.
        size: (height, width) of its image.

    Raises:
        ValueError: a polygon is none, or a code does not have the image's pixels.

    Example:
        >>> square = Drawn("smoke", [[1, 1, 2, 1, 2, 2, 1, 2]], "x")
        >>> draw(square, (3, 4)).astype(int).tolist()
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
        >>> draw(Drawn("smoke", {"size": [2, 3], "counts": [1, 3, 2]}, "x"), (2, 3)).astype(int)
        array([[0, 1, 0],
               [1, 1, 0]])
    """
    if isinstance(item.shape, Mapping):
        return _from_runs(item.shape, size, item.where)
    canvas = Image.new("1", size[::-1])
    pen = ImageDraw.Draw(canvas)
    for polygon in item.shape:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"{item.where}: a polygon has {len(polygon)} numbers, but it is three points or "
                "more, x and y each"
            )
        pen.polygon([float(value) for value in polygon], fill=1)
    return np.asarray(canvas, bool)


def _from_runs(code: Mapping[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    """Pixels from lengths of runs, off and on in turns, down the columns."""
    counts = code.get("counts")
    runs = _unpacked(counts) if isinstance(counts, str) else list(counts or ())
    if tuple(code.get("size", ())) != size or sum(runs) != size[0] * size[1] or min(runs) < 0:
        raise ValueError(
            f"{where}: its code is of {code.get('size')} and {sum(runs)} pixels, but its image has "
            f"{size[0]} x {size[1]} (height x width); export the file again"
        )
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return values.reshape(size[::-1]).T


def _unpacked(text: str) -> Sequence[int]:
    """Run lengths from COCO's text: five bits a letter, and from the third on differences."""
    runs: list[int] = []
    value, shift = 0, 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:  # negative
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return runs
