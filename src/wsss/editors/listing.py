"""Lists of images that somebody is to look at, as other commands write them."""

import csv
import json
from pathlib import Path
from typing import Any

from wsss.artifacts import is_of_the_system

__all__ = ["image_names"]

_KEYS = ("image", "name")


def image_names(path: Path) -> list[str]:
    """The names of images in a file, each once, in their order.

    Args:
        path: a text with a name a line; a .csv with a column `image`; or a .json with a list of
            names or of objects with the key `image`, by itself or within an object.

    Raises:
        ValueError: the file cannot be read, or names nothing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and is_of_the_system(error):
            raise
        raise ValueError(f"{path} cannot be read as a list of images: {error}") from None
    if path.suffix.lower() == ".json":
        names = _of_json(text, path)
    elif path.suffix.lower() == ".csv":
        names = _of_table(text, path)
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    found = list(dict.fromkeys(names))
    if not found:
        raise ValueError(f"{path} names no image; write one a line")
    return found


def _of_table(text: str, path: Path) -> list[str]:
    rows = csv.DictReader(text.splitlines())
    key = next((key for key in _KEYS if key in (rows.fieldnames or ())), None)
    if key is None:
        raise ValueError(
            f"{path} has the columns {', '.join(rows.fieldnames or ())}, but none called image"
        )
    return [row[key] for row in rows if row[key]]


def _of_json(text: str, path: Path) -> list[str]:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    lists = [value] if isinstance(value, list) else list(value.values())
    for items in lists:
        if isinstance(items, list) and items:
            names = [_name(item) for item in items]
            if all(names):
                return [name for name in names if name]
    raise ValueError(f"{path} has no list of objects with the key image")


def _name(item: Any) -> str | None:
    if isinstance(item, dict):
        item = next((item[key] for key in _KEYS if key in item), None)
    return item if isinstance(item, str) else None
