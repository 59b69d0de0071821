"""Tables with a line per image: any separator and encoding, and which column says what."""

import csv
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from wsss.data._matching import Names
from wsss.data.listing import some

__all__ = ["Columns", "Table", "choose_columns", "is_set", "read_table", "read_text"]

_DELIMITERS = (",", ";", "\t", "|")
_IMAGE = (
    *("image", "images", "img", "filename", "file", "fname", "imagename", "imagefile", "filepath"),
    *("imagepath", "imgpath", "imgname", "path", "url", "imageurl", "picture", "photo", "imageid"),
    *("imgid", "name", "key", "id"),
)
"""Headers of a column of images, the surest first; compared without blanks, '_' and '-'."""
_TAGS = frozenset(
    {"annotation", "annotations", "categories", "category", "categoryname", "choice", "choices"}
    | {"class", "classes", "classname", "classnames", "keyword", "keywords", "label", "labels"}
    | {"species", "tag", "tags", "target", "targets"}
)
_SPLIT = frozenset({"split", "subset", "set", "fold", "partition", "phase", "usage"})
_SPLIT_FLAGS = {
    **{word: {True: "val", False: "train"} for word in ("isval", "isvalid", "isvalidation")},
    "istest": {True: "test", False: "train"},
    "istrain": {True: "train", False: "val"},
}
_YES = frozenset({"1", "1.0", "true", "yes", "x", "t", "y"})
_NO = frozenset({"", "-1", "0", "0.0", "false", "no", "f", "n"})


@dataclass(frozen=True)
class Table:
    """Rows of values under a header.

    Attributes:
        header: names of columns; empty where the file has none.
        rows: where each row stands, such as ", line 3", and its values: texts, or what JSON holds.
    """

    header: list[str]
    rows: list[tuple[str, list[Any]]]

    def column(self, at: int) -> list[Any]:
        """The values below a header."""
        return [values[at] for _, values in self.rows]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what.

    Attributes:
        image: the one of images.
        tags: the one of tags; None where each class has a column of 0 and 1.
        split: the one of splits, if any.
        flags: the splits that true and false in it mean, where it is such as is_valid.
        classes: the columns of classes.
    """

    image: int
    tags: int | None
    split: int | None
    flags: dict[bool, str]
    classes: list[int]


def read_text(path: Path) -> str:
    """Decode UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        ValueError: it is neither.
    """
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8 "
            "(CSV UTF-8 in Excel)"
        ) from None
    if "\0" in text:
        raise ValueError(f"{path} is no text, or UTF-16 without a mark; save it as UTF-8")
    return text


def read_table(path: Path, names: Names) -> Table:
    """Read a text file of a line per image.

    Args:
        path: the values of a line are separated by ',', ';', tabs or '|'.
        names: the images, by which separators and headers are told.

    Raises:
        ValueError: it is no such file; the text says what it must be.
    """
    text = re.sub(r"^sep=.\r?\n", "", read_text(path))  # which Excel reads
    lines = _lines(text, max(_DELIMITERS, key=lambda mark: _fits(text, mark, names)), path)
    first = lines[0][1] if lines else []
    if len(first) < 2:
        raise ValueError(
            f"{path} must begin with a header of the columns image and tags, or of image and one "
            f"column per class, but begins with {first}"
        )
    headed = any(_plain(word) in _IMAGE for word in first) or not names.match(first)
    rows = []
    for number, row in lines[headed:]:
        while len(row) > len(first) and not row[-1].strip():
            row.pop()
        if len(row) != len(first):
            raise ValueError(
                f"{path}, line {number}: {len(row)} values, but {len(first)} columns; write ';' "
                "between several tags, and put what holds the separator of columns into quotes"
            )
        rows.append((f", line {number}", [value.strip() for value in row]))
    return Table([word.strip() for word in first] if headed else [], rows)


def choose_columns(table: Table, names: Names, path: Path, classes: Sequence[str]) -> Columns:
    """Tell the columns of a table by their headers, and by which hold images.

    Args:
        table: the rows, at least one.
        names: the images.
        path: of the file, for errors.
        classes: names that are classes, whatever else they might mean.

    Raises:
        ValueError: no column, or several, may hold images or tags; the text names them.
    """
    header = table.header or [f"column {at}" for at in range(1, len(table.rows[0][1]) + 1)]
    plain = ["" if word in classes else _plain(word) for word in header]
    image = _image_column(table, names, plain)
    if image is None:
        raise ValueError(
            f"{path} must have a column of images, but of its columns, {some(header, 12)}, none is "
            "called image, and none holds the name of an image; name it image"
        )
    others = [at for at in range(len(header)) if at != image and not _is_index(header[at])]
    splits = [at for at in others if plain[at] in _SPLIT or plain[at] in _SPLIT_FLAGS]
    split = _only(splits, header, path, "splits", "remove all but one")
    others = [at for at in others if at not in splits]
    tags = [at for at in others if plain[at] == "tags"]
    tags = tags or [at for at in others if plain[at] in _TAGS]
    tag = _only(tags, header, path, "tags", "name the right one tags")
    if tag is None and not table.header and len(others) == 1:
        tag = others[0]
    elif tag is None:
        _check_marks(table, others, header, path)
    flags = _SPLIT_FLAGS.get(plain[split], {}) if split is not None else {}
    return Columns(image, tag, split, flags, [] if tag is not None else others)


def is_set(value: Any) -> bool | None:
    """What a cell of a class's column says; None where it is neither yes nor no."""
    word = "" if value is None else str(value).strip().casefold()
    return True if word in _YES else False if word in _NO else None


def _lines(text: str, delimiter: str, path: Path) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from None


def _fits(text: str, delimiter: str, names: Names) -> tuple[bool, bool, bool]:
    """How well a separator fits the first lines: the greatest fits best."""
    with suppress(csv.Error):
        rows = list(islice(csv.reader(io.StringIO(text), delimiter=delimiter), 50))
        if rows and len(rows[0]) > 1:
            width = len(rows[0])
            headed = any(_plain(word) in _IMAGE for word in rows[0])
            columns = [{row[at] for row in rows if row[at:]} for at in range(width)]
            found = headed or any(map(names.match, columns))
            return headed, found, len({len(row) for row in rows if row}) == 1
    return False, False, False


def _plain(word: Any) -> str:
    return re.sub(r"[\W_]", "", str(word).casefold())


def _image_column(table: Table, names: Names, plain: list[str]) -> int | None:
    """The column that is called as one of images, or holds the most of them."""
    called = [plain.index(word) for word in _IMAGE if word in plain]
    if len(called) == 1:
        return called[0]
    columns = called or range(len(table.rows[0][1]))
    found = {
        at: len(names.match({str(value) for value in table.column(at)[:500] if value is not None}))
        for at in columns
    }
    best = max(columns, key=lambda at: found[at])
    return best if found[best] else next(iter(called), None)


def _is_index(word: str) -> bool:
    """Whether a header is that of the rows' numbers, as pandas writes it."""
    return not word or word.startswith("Unnamed:")


def _only(columns: list[int], header: list[str], path: Path, what: str, way: str) -> int | None:
    if len(columns) > 1:
        listing = ", ".join(header[at] for at in columns)
        raise ValueError(f"{path} has several columns that may be the {what}: {listing}; {way}")
    return columns[0] if columns else None


def _check_marks(table: Table, columns: list[int], header: list[str], path: Path) -> None:
    """Raise ValueError unless columns hold 0 and 1 only, as the columns of classes must."""
    if not columns:
        raise ValueError(f"{path} has no column of tags, only {header[0]}; name one tags")
    for where, values in table.rows:
        for at in columns:
            if is_set(values[at]) is None:
                raise ValueError(
                    f"{path}{where}: column '{header[at]}' holds '{values[at]}', but must hold 0 "
                    "or 1, as there is no column called tags; name the column of tags so, or "
                    f"remove what is no class of {some([header[at] for at in columns], 12)}"
                )
