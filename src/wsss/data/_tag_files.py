"""Files that give images their tags: CSV with a list or with a column per class, and JSON."""

import csv
from pathlib import Path

from wsss.artifacts import read_json

__all__ = ["read_tags"]

_YES, _NO = {"1", "1.0", "true", "yes"}, {"", "0", "0.0", "false", "no"}


def read_tags(path: Path) -> dict[str, list[str] | None]:
    """Read a file of tags.

    Args:
        path: .json with {image: [tags]}, or .csv with a header: columns image and tags
            (separated by ';'), or image and one 0/1 column per class.

    Returns:
        Per image as the file writes it, its tags without spaces around them; None where a
        CSV's tags are blank, which may be forgotten, unlike [] in JSON or zeros in columns.

    Raises:
        ValueError: another layout, an image twice, or a value that is not 0 or 1; the text
            names the line.
    """
    if path.suffix.lower() == ".json":
        return _read_json(path)
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    raise ValueError(f"{path} must be a .csv or a .json file")


def _read_json(path: Path) -> dict[str, list[str] | None]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} must map each image to a list of tags")
    for image, tags in values.items():
        if not isinstance(tags, list) or any(not isinstance(tag, str) for tag in tags):
            raise ValueError(f'{path}: "{image}" must have a list of tags, but has {tags!r}')
    return {image: [tag.strip() for tag in tags] for image, tags in values.items()}


def _read_csv(path: Path) -> dict[str, list[str] | None]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from None
    header = [word.strip() for word in rows[0]] if rows else []
    if "image" not in header or len(header) < 2:
        raise ValueError(
            f"{path} must begin with a header of the columns image and tags, or of image and one "
            f"column per class, but begins with {header}"
        )
    column = header.index("image")
    tags: dict[str, list[str] | None] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(word.strip() for word in row):
            continue
        if len(row) != len(header):
            raise ValueError(f"{path}, line {number}: {len(row)} values, but {len(header)} columns")
        image = row[column].strip()
        if image in tags:
            raise ValueError(f"{path}, line {number}: '{image}' has a line already; keep one")
        if "tags" in header:
            words = row[header.index("tags")].split(";")
            tags[image] = [word.strip() for word in words if word.strip()] or None
        else:
            cells = [
                (name, value) for name, value in zip(header, row, strict=True) if name != "image"
            ]
            tags[image] = [name for name, value in cells if _is_set(value, name, path, number)]
    return tags


def _is_set(value: str, name: str, path: Path, number: int) -> bool:
    word = value.strip().lower()
    if word not in _YES | _NO:
        raise ValueError(
            f"{path}, line {number}: column '{name}' holds '{value}', but must hold 0 or 1"
        )
    return word in _YES
