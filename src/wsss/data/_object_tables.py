"""Tables with a line per object of an image: its class and its coordinates in pixels."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.checks import did_you_mean
from wsss.data._matching import Names
from wsss.data._tables import Table, choose_columns, read_table
from wsss.data._tag_files import read_json_text
from wsss.data.listing import some

__all__ = ["ObjectRow", "Sides", "class_ids_of", "in_shares", "matched", "object_rows"]

Sides = Mapping[str, Collection[str]]
"""By coordinate, what the header of its column may be, in small letters and digits."""


@dataclass(frozen=True)
class ObjectRow:
    """A line of a table.

    Attributes:
        where: the file and the line, for errors.
        entry: what it calls the image.
        word: what it calls the class.
        values: the numbers by coordinate, of those that there are columns of.
    """

    where: str
    entry: str
    word: str
    values: Mapping[str, float]


def object_rows(path: Path, names: Names, sides: Sides, required: Sequence[str]) -> list[ObjectRow]:
    """Read a .csv, .tsv or .txt table, a .json list of objects, or .jsonl with one a line.

    Args:
        path: the file.
        names: the images.
        sides: the columns of coordinates.
        required: those of which every line has a number.

    Raises:
        ValueError: it has no columns of images, classes and coordinates, or no number there.
    """
    if path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        table = _objects(path)
    else:
        table = read_table(path, names)
    if not table.rows:
        raise ValueError(f"{path} is empty; write a line per object, or leave the setting out")
    columns = choose_columns(table, names, path, (), ())
    if not table.header or columns.tags is None:
        raise ValueError(
            f"{path} must begin with a header of the columns image, class, {', '.join(required)}"
        )
    plain = [re.sub(r"[^a-z0-9]", "", str(word).casefold()) for word in table.header]
    at = {
        side: plain.index(word) for side, words in sides.items() for word in words if word in plain
    }
    missing = [side for side in required if side not in at]
    if missing:
        raise ValueError(
            f"{path} has the columns {some(table.header, 12)}, but none called {missing[0]}; the "
            f"columns are image, class, {', '.join(required)}, in pixels"
        )
    rows = []
    for where, values in table.rows:
        numbers = {}
        for side, column in at.items():
            try:
                numbers[side] = float(values[column])
            except (TypeError, ValueError):
                if side in required:
                    raise ValueError(
                        f"{path}{where}: {table.header[column]} is '{values[column]}', and no "
                        "number of pixels"
                    ) from None
        entry, word = str(values[columns.image]), str(values[columns.tags]).strip()
        rows.append(ObjectRow(f"{path}{where}", entry, word, numbers))
    return rows


def _objects(path: Path) -> Table:
    values: Any = read_json_text(path)
    if not isinstance(values, list) or not all(isinstance(item, dict) for item in values):
        raise ValueError(
            f"{path} must be a list of objects with the keys image and class, or COCO's layout "
            "with the keys images, annotations and categories"
        )
    header = list(dict.fromkeys(key for item in values for key in item))
    return Table(
        header,
        [(f", object {n}", [item.get(key) for key in header]) for n, item in enumerate(values, 1)],
    )


def matched(
    entries: Sequence[str], names: Names, path: Path, what: str
) -> tuple[dict[str, str], Iterator[str]]:
    """The images that entries mean, and what a person must know of those that mean none.

    Raises:
        ValueError: none of them means an image.
    """
    found = names.match(dict.fromkeys(entries))
    unknown = [entry for entry in dict.fromkeys(entries) if entry not in found]
    if entries and not found:
        raise ValueError(
            f"{path} has {what} of '{entries[0]}', where images are called "
            f"{some([f'{name!r}' for name in names.files], 2)}; write their paths so"
        )
    said = (
        f"{path} has {what} of {len(unknown)} files that are no image, such as '{name}'"
        for name in unknown[:1]
    )
    return found, said


def in_shares(numbers: Sequence[Sequence[float]], path: Path, what: str) -> str:
    """That coordinates are shares of the images' sides: all lie in [0, 1], and some between.

    Args:
        numbers: of each box or point of a file.
        path: the file.
        what: what it holds, such as "boxes".

    Returns:
        What a person must know of it; "" where they are pixels.

    Example:
        >>> in_shares([(0, 0.25, 0.5, 1)], Path("a.csv"), "boxes")
        "a.csv: all boxes lie in [0, 1] and are read as shares of their images' width and height"
        >>> in_shares([(0, 0.25, 0.5, 1), (3, 4, 20, 10)], Path("a.csv"), "boxes")
        ''
    """
    values = [value for own in numbers for value in own]
    inside = all(-_ROUNDED <= value <= 1 + _ROUNDED for value in values)
    if not inside or all(value == int(value) for value in values):
        return ""
    return (
        f"{path}: all {what} lie in [0, 1] and are read as shares of their images' width and height"
    )


_ROUNDED = 1e-4  # by which sums of shares may miss 0 and 1


def class_ids_of(
    words: Mapping[str, str], class_names: Sequence[str], background: Collection[str] = ()
) -> dict[str, int]:
    """The class ids that words mean: names, in any case; numbers only where they are names.

    Args:
        words: what files call classes, and where each stands first.
        class_names: K names.
        background: what means the background, 0; empty where nothing does.

    Raises:
        ValueError: a word means no class.
    """
    ids = {name: number for number, name in enumerate(class_names, 1)}
    loose = {_loose(name): number for name, number in ids.items()}
    loose |= {_loose(word): 0 for word in background}
    found = {word: ids.get(word, loose.get(_loose(word), -1)) for word in words}
    for word, class_id in found.items():
        if class_id < 0 and word.isdecimal():
            raise ValueError(
                f"{words[word]}: the class is '{word}', and nothing says whether ids count from 0 "
                f"or from 1; write the names: {some([*class_names, *background], 12)}"
            )
        if class_id < 0:
            raise ValueError(
                f"{words[word]}: the class '{word}' is none of the data set's; "
                f"{did_you_mean(word, [*class_names, *background])}"
            )
    return found


def _loose(word: str) -> str:
    return " ".join(word.split()).casefold()
