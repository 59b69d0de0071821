"""Label Studio's JSON: tasks with annotations, of which the latest of each image counts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsss.data._drawn import AnnotatedImage, Drawn
from wsss.data._shapes import Brush, Polygons, ellipse, turned_rectangle

__all__ = ["is_label_studio", "is_shortened", "read_label_studio"]

_WORDS = ("labels", "choices")
"""Where labels stand besides a key named after their kind."""


def is_label_studio(values: Any) -> bool:
    """Whether a JSON's contents are Label Studio's tasks with all of their annotations."""
    return (
        isinstance(values, list)
        and bool(values)
        and isinstance(values[0], dict)
        and isinstance(values[0].get("data"), dict)
        and isinstance(values[0].get("annotations"), list)
    )


def is_shortened(values: Any) -> bool:
    """Whether they are its JSON-MIN."""
    first = values[0] if isinstance(values, list) and values else None
    return isinstance(first, dict) and {"annotation_id", "annotator"} <= first.keys()


def read_label_studio(
    values: Sequence[Any], path: Path, *, every: bool = False
) -> list[AnnotatedImage]:
    """The images that somebody has annotated.

    Of several annotations of an image, the one that was changed last counts; those that were
    cancelled do not, nor do drafts and predictions. Coordinates are percents of the image's sides
    and become pixels; of a turned rectangle, the box around it counts. Choices about a region say
    nothing of the image.

    Args:
        values: the JSON's contents.
        path: its file, for errors.
        every: give all annotations of an image that count at all, each as an image of its own.

    Raises:
        ValueError: a task or what was drawn in it is of another layout.
    """
    images = []
    for number, task in enumerate(values, 1):
        where = f"{path}, task {_named(task, number)}"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise ValueError(f"{where} has no data; export the project as JSON again")
        annotations = _by_age(task.get("annotations") or [])
        for annotation in annotations if every else annotations[-1:]:
            size, drawn = _result(annotation.get("result") or [], where)
            who, when = _person(annotation.get("completed_by")), _changed(annotation)
            images.append(AnnotatedImage(_entries(task), where, size, drawn, who=who, when=when))
    return images


def _named(task: Any, number: int) -> str:
    return str(task.get("id", f"number {number}")) if isinstance(task, dict) else f"number {number}"


def _by_age(annotations: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Those that count, the one that was changed last at the end."""
    kept = [
        item
        for item in annotations
        if isinstance(item, dict) and not (item.get("was_cancelled") or item.get("skipped"))
    ]
    return sorted(kept, key=_changed)


def _changed(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _person(value: Any) -> str:
    """Who completed an annotation: an address or a name, or the number of the user."""
    if isinstance(value, dict):
        names = (value.get("first_name"), value.get("last_name"))
        full = " ".join(str(name) for name in names if name)
        return str(value.get("email") or value.get("username") or full or value.get("id") or "")
    return "" if value is None else str(value)


def _entries(task: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a task that may be its image's path: those of "image" first."""
    data = {key: value for key, value in task["data"].items() if isinstance(value, str)}
    found = {"image": data["image"]} if "image" in data else {}
    found |= data
    if isinstance(task.get("file_upload"), str):
        found["file_upload"] = task["file_upload"]
    return found


def _result(items: Sequence[Any], where: str) -> tuple[tuple[int, int] | None, list[Drawn]]:
    """The size of the image and what was drawn in it."""
    size: tuple[int, int] | None = None
    drawn: list[Drawn] = []
    regions = {
        item.get("id")
        for item in items
        if isinstance(item, dict) and item.get("type") != "choices" and item.get("id")
    }
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict) or not isinstance(item.get("value"), dict):
            continue
        kind, value = str(item.get("type")), item["value"]
        if kind == "choices" and item.get("id") in regions:
            continue
        labels = next(
            (value[key] for key in (kind, *_WORDS) if isinstance(value.get(key), list)), ()
        )
        words = [word.strip() for word in labels if isinstance(word, str)]
        if not words:  # texts, ratings and relations; or a shape whose labels follow
            continue
        place = f"{where}, region {item.get('id', number)}"
        if kind == "choices":
            drawn += [Drawn(word, "tag", place) for word in words]
            continue
        height, width = item.get("original_height"), item.get("original_width")
        if type(height) is not int or type(width) is not int or min(height, width) < 1:
            raise ValueError(
                f"{place} has no original_width and original_height, without which its percents "
                "are no pixels; export the project as JSON again"
            )
        if item.get("image_rotation"):
            raise ValueError(
                f"{place} was drawn on an image that was turned by {item['image_rotation']} "
                "degrees; turn it back in Label Studio, or turn the image's file and draw again"
            )
        size = height, width
        try:
            drawn += _shapes(words, value, size, place)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"{place} cannot be read: {error!r}; export the project as JSON again"
            ) from None
    return size, drawn


def _shapes(
    words: Sequence[str], value: Mapping[str, Any], size: tuple[int, int], where: str
) -> Iterator[Drawn]:
    """What was drawn, once for each of its labels; what is not known gives its labels as tags."""
    sides = np.array(size[::-1], float)
    for word in words:
        if "rle" in value:
            yield Drawn(word, "region", where, shape=Brush(value["rle"]))
        elif "points" in value:
            points = np.array(value["points"], float).reshape(-1, 2) / 100 * sides
            if len(points) < 3:
                raise ValueError(f"a polygon of {len(points)} points")
            yield Drawn(word, "region", where, shape=Polygons((points,)))
        elif "radiusX" in value:
            x, y = _pixels(value, "x", "y", sides)
            shape = ellipse(x, y, _pixels(value, "radiusX", "radiusY", sides), _turn(value))
            yield Drawn(word, "region", where, shape=shape)
        elif "height" in value:
            (x, y), (width, height) = (
                _pixels(value, *keys, sides) for keys in (("x", "y"), ("width", "height"))
            )
            corners = (x, y, x + width, y + height)
            if _turn(value):
                left, top, right, bottom = turned_rectangle(corners, _turn(value), (x, y))
                corners = (max(left, 0), max(top, 0), min(right, sides[0]), min(bottom, sides[1]))
            yield Drawn(word, "box", where, corners)
        elif "x" in value:
            yield Drawn(word, "points", where, points=(_pixels(value, "x", "y", sides),))
        else:
            yield Drawn(word, "tag", where)


def _pixels(
    value: Mapping[str, Any], across: str, down: str, sides: np.ndarray
) -> tuple[float, float]:
    """Two percents as pixels, without the noise of floating-point numbers."""
    x, y = np.round(np.array([value[across], value[down]], float) / 100 * sides, 6).tolist()
    return x, y


def _turn(value: Mapping[str, Any]) -> float:
    return float(value.get("rotation") or 0)
