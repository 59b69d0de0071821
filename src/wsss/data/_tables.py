"""Tables with a line per image: any separator and encoding, and which column says what."""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from wsss.data._layouts import split_of_word
from wsss.data._marks import NoMark, is_set, read_mark
from wsss.data._matching import Names
from wsss.data.listing import some

__all__ = ["Columns", "Table", "check_unused", "choose_columns", "read_table", "read_text"]

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
    | {"labelname", "labelnames"}
    | {"species", "tag", "tags", "target", "targets"}
)
_SPLIT = frozenset({"split", "subset", "set", "fold", "partition", "phase", "usage"})
_SPLIT_FLAGS = {
    **{word: {True: "val", False: "train"} for word in ("isval", "isvalid", "isvalidation")},
    "istest": {True: "test", False: "train"},
    "istrain": {True: "train", False: "val"},
}
_VOTER = frozenset(
    f"{who}{what}"
    for who in ("annotator", "labeler", "labeller", "rater", "user", "voter", "worker")
    for what in ("", "id", "name")
)
_ROLES = {
    "confidence": frozenset({"certainty", "confidence", "prob", "probability", "score"})
    | {"certainties", "confidences", "probs", "probabilities", "scores"},
    "vote": frozenset({"answer", "response", "verdict", "vote"}),
    "voter": _VOTER,
    "yes": frozenset({"yes", "yesvotes", "votesyes"}),
    "no": frozenset({"no", "novotes", "votesno"}),
    "total": frozenset({"total", "totalvotes", "voters", "votes", "numvotes", "nvotes"}),
}
"""Headers of columns that say how sure a tag is."""
_SURE = _ROLES["confidence"]
"""Headers of columns of numbers that are a class only where they hold 0 and 1."""
_THERE = frozenset(
    {"count", "counts", "exists", "ispositive", "ispresent", "isthere", "num", "number"}
    | {"occurrences", "positive", "presence", "present", "there", "value"}
)
"""Headers of columns that may say whether a tag is there."""


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
        tags: the one of tags; None where each class has a column of marks, see `read_mark`.
        split: the one of splits, if any.
        flags: the splits that true and false in it mean, where it is such as is_valid.
        classes: the columns of classes.
        roles: columns by what they say of tags: "confidence"; "vote" and perhaps "voter"; or "yes"
            beside "no" or "total", which count votes. Beside columns of classes "voter" alone, or
            votes on the only class there is.
        unused: the columns beside that of tags that are none of these.
    """

    image: int
    tags: int | None
    split: int | None
    flags: dict[bool, str]
    classes: list[int]
    roles: dict[str, int]
    unused: list[int]


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


def choose_columns(
    table: Table, names: Names, path: Path, classes: Sequence[str], unknown: Collection[str]
) -> Columns:
    """Tell the columns of a table by their headers, and by which hold images.

    Args:
        table: the rows, at least one.
        names: the images.
        path: of the file, for errors.
        classes: names that are classes, whatever else they might mean.
        unknown: see `read_mark`.

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
    found = {at: _split_flags(table, header, at, path, classes) for at in others}
    flagged = {at: flags for at, flags in found.items() if flags}
    splits = [at for at in others if plain[at] in _SPLIT or at in flagged]
    split = _only(splits, header, path, "splits", "remove all but one")
    others = [at for at in others if at not in splits]
    tags = [at for at in others if plain[at] == "tags"]
    tags = tags or [at for at in others if plain[at] in _TAGS]
    tag = _only(tags, header, path, "tags", "name the right one tags")
    if tag is None and not table.header and len(others) == 1:
        tag = others[0]
    roles = _roles(table, [at for at in others if at != tag], plain, len(classes), tag is not None)
    if tag is None and "yes" not in roles:
        others = [at for at in others if at not in roles.values()]
        _check_marks(table, others, header, path, unknown)
    flags = {} if split is None else flagged.get(split, {})
    unused = [at for at in others if at not in {tag, *roles.values()}] if tag is not None else []
    return Columns(image, tag, split, flags, [] if tag is not None else others, roles, unused)


def _split_flags(
    table: Table, header: Sequence[str], at: int, path: Path, classes: Sequence[str]
) -> dict[bool, str]:
    """The splits that true and false in a column mean, as is_valid, or `test` with 0 and 1."""
    word = header[at]
    if word in classes or not table.header:
        return {}
    if flags := _SPLIT_FLAGS.get(_plain(word)):
        return flags
    split = split_of_word(word)
    if split is None or any(is_set(value) is None for value in table.column(at)):
        return {}
    if _plain(word) == "valid":
        raise ValueError(
            f"{path}: column '{word}' may be the split val, or say which lines are right; name it "
            "is_val, or leave the wrong lines out and remove it"
        )
    return {True: split, False: "val" if split == "train" else "train"}


def check_unused(table: Table, columns: Columns, path: Path) -> str:
    """What a person must know of columns beside that of tags of which nothing is taken.

    Raises:
        ValueError: one of them says of some tag that it is not there, or votes in other words.
    """
    counts = _ROLES["yes"] | _ROLES["no"] | _ROLES["total"]
    for at in columns.unused:
        word = _plain(table.header[at])
        for where, values in table.rows:
            text = str(values[at]).strip()
            denies = is_set(values[at]) is False or (text.isdecimal() and not int(text))
            votes = word in _ROLES["vote"] and not _is_vote(values[at])
            if votes or (denies and word in _THERE | counts):
                raise ValueError(
                    f"{path}{where}: column '{table.header[at]}' holds '{text}', which may say "
                    "that the tag is not there; name the column confidence where it has "
                    "probabilities, or 1 and 0, and vote where each line is a vote, yes or no; "
                    "otherwise remove it, and the lines of tags that are not there"
                )
    words = [table.header[at] for at in columns.unused]
    return f"{path.name} has columns of which nothing is taken: {some(words, 12)}" if words else ""


def _roles(
    table: Table, columns: Sequence[int], plain: Sequence[str], num_classes: int, tagged: bool
) -> dict[str, int]:
    """See `Columns.roles`; none of columns that are called so, but hold something else."""
    found = {role: at for at in reversed(columns) for role in _ROLES if plain[at] in _ROLES[role]}
    counted = {role: at for role, at in found.items() if role in ("yes", "no", "total")}
    if "yes" in counted and len(counted) > 1 and _are_counts(table, counted.values()):
        alone = num_classes == 1 and sorted(counted.values()) == sorted(columns)
        return counted if tagged or alone else {}
    if not tagged:
        return {"voter": found["voter"]} if "voter" in found else {}
    if "vote" in found and all(map(_is_vote, table.column(found["vote"]))):
        return {role: found[role] for role in ("vote", "voter") if role in found}
    return {"confidence": found["confidence"]} if "confidence" in found else {}


def _are_counts(table: Table, columns: Iterable[int]) -> bool:
    return all(str(value).strip().isdecimal() for at in columns for value in table.column(at))


def _is_vote(value: Any) -> bool:
    with suppress(ValueError):
        return read_mark(value) in (0, 1, None)
    return False


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


def _check_marks(
    table: Table, columns: list[int], header: list[str], path: Path, unknown: Collection[str]
) -> None:
    """Raise ValueError unless columns hold marks only, as the columns of classes must."""
    if not columns:
        raise ValueError(f"{path} has no column of tags, only {header[0]}; name one tags")
    if not table.header:
        raise ValueError(
            f"{path} must begin with a header that names the classes of its {len(columns)} columns"
        )
    twice = [word for word, count in Counter(header[at] for at in columns).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has several columns called '{twice[0]}'; keep or rename one")
    sure = {at for at in columns if _plain(header[at]) in _SURE}
    for where, values in table.rows:
        for at in columns:
            value = values[at]
            fits = is_set(value) is not None
            try:
                share = read_mark(value, unknown)
                fits = fits or at not in sure or share is None
            except NoMark:
                pass
            except ValueError as error:
                if "/" in str(value):  # votes
                    said = f"column '{header[at]}' holds '{value}', {error}"
                    raise ValueError(f"{path}{where}: {said}") from None
            if not fits:
                raise ValueError(
                    f"{path}{where}: column '{header[at]}' holds '{value}', but must hold 0 or 1 "
                    "(or ?, a probability in [0, 1] or votes such as 3/5), as there is no column "
                    "called tags; name the column of tags so, or remove what is no class of "
                    f"{some([header[at] for at in columns], 12)}"
                )
