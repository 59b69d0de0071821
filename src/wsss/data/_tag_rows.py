"""What each line of a table says of an image: its tags, its split, and how sure they are."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.checks import full_key
from wsss.data._marks import MINUS_ONE, REST, Ballots, Said, is_set, minus_one, read_mark
from wsss.data._matching import Names
from wsss.data._tables import Columns, Table, check_unused, choose_columns

__all__ = ["Row", "table_rows"]


@dataclass(frozen=True)
class Row:
    """What a line or an object says: where it stands, its image, tags and split.

    Attributes:
        tags: a text or a list of texts, each of one tag or several; {tag: what `read_mark` reads}.
        single: whether others may add to the image's tags.
        confidence: what `read_mark` reads of the text's tags.
    """

    where: str
    entry: str
    tags: Any
    split: str | None = None
    single: bool = False
    confidence: Any = 1


def table_rows(
    table: Table,
    names: Names,
    path: Path,
    classes: Sequence[str],
    unknown: Collection[str],
    warnings: list[str],
) -> Iterator[Row]:
    """A row per line, or per image where lines are votes.

    Args:
        table: the lines, at least one.
        names: the images.
        path: of the file, for errors.
        classes: names that are known; empty when unknown.
        unknown: see `read_mark`.
        warnings: what a person must know is added to it.

    Raises:
        ValueError: columns or cells are not as they must be, or contradict one another.
    """
    columns = choose_columns(table, names, path, classes, unknown)
    if said := check_unused(table, columns, path):
        warnings.append(said)
    if "yes" in columns.roles or "vote" in columns.roles or "voter" in columns.roles:
        yield from _voted_rows(table, columns, path, classes, unknown)
        return
    cells = [values[at] for _, values in table.rows for at in columns.classes]
    sure = columns.roles.get("confidence")
    doubted = MINUS_ONE if sure is not None and minus_one(table.column(sure)) else ()
    if minus_one(cells):
        unknown = {*unknown, *MINUS_ONE}
    empty = sum(str(value).strip() == "" for value in cells)
    if empty and "" not in unknown and any(read_mark(value, unknown) is None for value in cells):
        warnings.append(
            f"{path.name} has {empty} empty cells beside others that say that nobody knows; they "
            "are taken for 0. Where nobody knows there either, write "
            f'{full_key("dataset.unknown_tags")}: [""]'
        )
    seen: dict[str, Said] = {}
    plain = 0  # tags without a confidence in a column of them
    for where, values in table.rows:
        entry = str(values[columns.image])
        confidence: Any = 1
        if columns.tags is not None:
            tags = values[columns.tags]
            if sure is not None:
                confidence = values[sure]
                if isinstance(confidence, list):
                    tags, confidence = _paired(tags, confidence, f"{path}{where}: '{entry}'"), 1
                elif str(confidence).strip() in doubted:
                    confidence = "?"
                elif str(confidence).strip() == "" and "" not in unknown:
                    confidence, plain = 1, plain + 1
        else:
            marks = ((table.header[at], read_mark(values[at], unknown)) for at in columns.classes)
            tags = _without_zeros(marks)
            if seen.setdefault(entry, tags) != tags:
                raise ValueError(f"{path}{where}: '{entry}' has a line already; keep one")
            tags = tags or []
        split = _split(values, columns, path, where)
        yield Row(where, entry, tags, split, columns.tags is not None, confidence)
    if plain:
        warnings.append(
            f"{path.name} has {plain} of {len(table.rows)} lines without a confidence; their tags "
            "are taken for certain"
        )


def _paired(tags: Any, confidences: list[Any], whose: str) -> dict[str, Any]:
    """Tags of a list, each with its own confidence of another list."""
    if not isinstance(tags, list) or len(tags) != len(confidences):
        count = f"{len(tags)} tags" if isinstance(tags, list) else "a tag"
        raise ValueError(
            f"{whose} has {len(confidences)} confidences for {count}; write one for each tag of a "
            'list, or {"cat": 0.9}'
        )
    if len(set(map(str, tags))) < len(tags):
        raise ValueError(f"{whose} has a tag twice; keep one with its confidence")
    return {str(tag): confidence for tag, confidence in zip(tags, confidences, strict=True)}


def _voted_rows(
    table: Table,
    columns: Columns,
    path: Path,
    classes: Sequence[str],
    unknown: Collection[str],
) -> Iterator[Row]:
    """A row per image of a table with votes, one a line or counted.

    Beside a column of classes, nobody knows of a class that nobody has voted on.
    """
    ballots, roles = Ballots(), columns.roles
    splits: dict[str, str | None] = {}
    for where, values in table.rows:
        entry = str(values[columns.image])
        split = _split(values, columns, path, where)
        if splits.setdefault(entry, split) != split:
            raise ValueError(f"{path}{where}: '{entry}' is in another split before; keep one")
        tag = "" if columns.tags is None else str(values[columns.tags]).strip()
        if columns.tags is not None and not tag:
            raise ValueError(f"{path}{where}: '{entry}' has a vote on no class; name the class")
        voter = str(values[roles["voter"]]).strip() if "voter" in roles else ""
        try:
            if "yes" in roles:
                yes = int(values[roles["yes"]])
                others = int(values[roles["total" if "total" in roles else "no"]])
                total = others if "total" in roles else yes + others
                ballots.add_counts(where, entry, tag or classes[0], yes, total)
            elif "vote" in roles:
                vote = values[roles["vote"]]
                blank = vote is None or str(vote).strip() == ""
                mark = None if blank else read_mark(vote, unknown)
                ballots.add(where, entry, tag, mark, voter)
            else:
                for at in columns.classes:
                    mark = read_mark(values[at], unknown)
                    ballots.add(where, entry, table.header[at], mark, voter)
        except ValueError as error:
            raise ValueError(f"{path}{where}: {error}") from None
    for entry, where in ballots.where.items():
        said = ballots.said(entry) | ({} if columns.tags is None else {REST: None})
        yield Row(where, entry, said, splits[entry])


def _without_zeros(marks: Iterable[tuple[str, float | None]]) -> dict[str, float | None]:
    """What is said of classes that may be there: columns say of all others that they are not."""
    return {tag: share for tag, share in marks if share != 0}


def _split(values: Sequence[Any], columns: Columns, path: Path, where: str) -> str | None:
    if columns.split is None:
        return None
    value = values[columns.split]
    if not columns.flags:
        return "" if value is None else str(value).strip()
    flag = is_set(value)
    if flag is None:
        raise ValueError(f"{path}{where}: '{value}' is neither true nor false; write one of them")
    return columns.flags[flag]
