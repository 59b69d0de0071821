"""Files that give images their tags, and perhaps their splits: tables and JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss.data._matching import Names
from wsss.data._tables import Columns, Table, choose_columns, is_set, read_table, read_text
from wsss.data._tag_cells import parse_cells, tags_of_mapping
from wsss.data.listing import some

__all__ = ["TagFile", "read_json_text", "read_tags"]


@dataclass
class TagFile:
    """What a file says of images.

    Attributes:
        tags: by image; None where they are blank, which may be forgotten, unlike [] in JSON or
            zeros in columns.
        splits: by image, as the file calls them; blank where it is.
        unknown: entries that are no image.
        warnings: what a person must know of how the file was read.
    """

    tags: dict[str, list[str] | None] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Row:
    """What a line or an object says: where it stands, its image, tags and split.

    Attributes:
        tags: a text or a list of texts, each of one tag or several; a tuple of tags.
        single: whether others may add to the image's tags.
    """

    where: str
    entry: str
    tags: Any
    split: str | None = None
    single: bool = False


def read_tags(
    path: Path, names: Names, beside: str, classes: Sequence[str], empty_tag: str
) -> TagFile:
    """Read a file of tags.

    Args:
        path: a table (.csv, .tsv, .txt) with a column of images and one of tags, or one of 0 and 1
            per class, and perhaps one of splits; images may have several lines. Or .json or
            .jsonl: {image: tags}, {tag: [images]}, a list of objects with an image and its tags,
            or COCO's images, annotations and categories.
        names: the images.
        beside: the file's folder within that of the images; "" of any other.
        classes: names that are known; empty when unknown.
        empty_tag: the name for no class.

    Raises:
        ValueError: another layout, tags that may be one or several, contradicting lines, or no
            entry is an image; the text names the line or the entry.
    """
    kind = path.suffix.lower()
    if kind in (".json", ".jsonl", ".ndjson"):
        rows = list(_json_rows(path, names, classes))
    elif kind in (".csv", ".tsv", ".tab", ".txt"):
        table = read_table(path, names)
        rows = list(_table_rows(table, names, path, classes)) if table.rows else []
    else:
        raise ValueError(
            f"{path} must be a .csv, .tsv, .json or .jsonl file; save a spreadsheet as CSV (UTF-8)"
        )
    tags = _tags(rows, path, classes, empty_tag)
    found = names.match(dict.fromkeys(row.entry for row in rows), beside=beside)
    if rows and not found:
        raise ValueError(
            f"none of the {len(rows)} entries of {path} is an image below {names.folder}: it has "
            f"'{rows[0].entry}', where the images are called "
            f"{some([f'{name!r}' for name in names.files], 2)}; write their paths so"
        )
    other = names.otherwise(found)
    result = TagFile(unknown=[row.entry for row in rows if row.entry not in found])
    result.unknown = list(dict.fromkeys(result.unknown))
    joined: dict[str, None] = {}
    first: dict[str, list[str]] = {}
    for row, own in zip(rows, tags, strict=True):
        name = found.get(row.entry)
        if name is None:
            continue
        if row.split is not None and result.splits.setdefault(name, row.split) != row.split:
            raise ValueError(
                f"{path}{row.where}: '{row.entry}' is in the split '{row.split}', and in "
                f"'{result.splits[name]}' before; keep one"
            )
        if name not in result.tags:
            result.tags[name] = own
            first[name] = own or []
        elif result.tags[name] != own:
            before = result.tags[name] or []
            if not (row.single and len(own or ()) <= 1 and len(first[name]) <= 1):
                raise ValueError(
                    f"{path}{row.where}: '{row.entry}' has other tags than in another entry for "
                    f"the image '{name}', {some(before)}; keep one, or write one tag a line"
                )
            result.tags[name] = before + [tag for tag in own or () if tag not in before]
            joined[name] = None
    if other:
        result.warnings.append(
            f"{path.name} has {len(other)} entries for images that are called otherwise, such as "
            f"'{other[0]}' for '{found[other[0]]}'"
        )
    if joined:
        name = next(iter(joined))
        result.warnings.append(
            f"{path.name} has several lines for {len(joined)} images, such as '{name}', whose tags "
            f"are taken together: {', '.join(result.tags[name] or ())}"
        )
    return result


def read_json_text(path: Path) -> Any:
    """Read JSON in UTF-8 or UTF-16; or .jsonl, a value a line.

    Raises:
        ValueError: it is not JSON, or an object has a key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if found.setdefault(key, value) != value:
                raise ValueError(f'{path} has two values for "{key}"; keep one')
        return found

    text = read_text(path)
    try:
        if path.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=unique)
        lines = [line for line in text.splitlines() if line.strip()]
        return [json.loads(line, object_pairs_hook=unique) for line in lines]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None


def _tags(
    rows: Sequence[_Row], path: Path, classes: Sequence[str], empty_tag: str
) -> list[list[str] | None]:
    """The tags of each row, whatever form they have."""
    given = []
    for row in rows:
        try:
            given.append(_given(row.tags))
        except ValueError as error:
            raise ValueError(f"{path}{row.where}: '{row.entry}' has {error}") from None
    texts = (tag for tags in given if isinstance(tags, list) for tag in tags)
    try:
        cells = parse_cells(texts, classes, empty_tag)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    found: list[list[str] | None] = []
    for row, tags in zip(rows, given, strict=True):
        if isinstance(tags, list) and not (isinstance(row.tags, str) and cells[row.tags] is None):
            found.append([*dict.fromkeys(part for tag in tags for part in cells[tag] or ())])
        else:
            found.append(list(tags) if isinstance(tags, tuple) else None)
    return found


def _given(value: Any) -> list[str] | tuple[str, ...] | None:
    """Tags as texts, of which those in a list may hold several; None of nothing."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, tuple):
        return value
    if isinstance(value, dict):
        return tuple(tags_of_mapping(value))
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, bool) or not isinstance(item, str | int | float) for item in items):
        raise ValueError(
            f'{json.dumps(value)[:80]}; tags are a text, such as "cat", a list of texts or of '
            'class ids, or {"cat": 1, "dog": 0}'
        )
    return [str(item) for item in items]


def _table_rows(table: Table, names: Names, path: Path, classes: Sequence[str]) -> Iterator[_Row]:
    columns = choose_columns(table, names, path, classes)
    seen: dict[str, tuple[str, ...]] = {}
    for where, values in table.rows:
        entry = str(values[columns.image])
        if columns.tags is not None:
            tags = values[columns.tags]
        else:
            tags = tuple(table.header[at] for at in columns.classes if is_set(values[at]))
            if seen.setdefault(entry, tags) != tags:
                raise ValueError(f"{path}{where}: '{entry}' has a line already; keep one")
        yield _Row(
            where, entry, tags, _split(values, columns, path, where), columns.tags is not None
        )


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


def _json_rows(path: Path, names: Names, classes: Sequence[str]) -> Iterator[_Row]:
    values = read_json_text(path)
    if isinstance(values, dict) and {"images", "annotations", "categories"} <= values.keys():
        yield from _coco_rows(values, path)
        return
    if isinstance(values, dict):
        inner = [item for item in values.values() if _holds_objects(item)]
        values = inner[0] if len(inner) == 1 else values
    if _holds_objects(values):
        if "data" in values[0] and "annotations" in values[0]:
            raise ValueError(
                f"{path} is Label Studio's JSON with all its regions; export JSON-MIN or CSV"
            )
        header = list(dict.fromkeys(key for item in values for key in item))
        rows = [
            (f", object {number}", [item.get(key) for key in header])
            for number, item in enumerate(values, 1)
        ]
        yield from _table_rows(Table(header, rows), names, path, classes)
    elif isinstance(values, dict):
        yield from _mapping_rows(values, names, path, classes)
    else:
        raise ValueError(
            f'{path} must map each image to its tags, {{"a.jpg": ["cat"]}}, or list objects such '
            'as {"image": "a.jpg", "tags": ["cat"]}'
        )


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, dict) for x in value)


def _mapping_rows(
    values: Mapping[str, Any], names: Names, path: Path, classes: Sequence[str]
) -> Iterator[_Row]:
    objects = [item for item in values.values() if isinstance(item, dict)]
    if (
        objects
        and len(objects) == len(values)
        and not all(is_set(value) is not None for item in objects for value in item.values())
    ):  # {"a.jpg": {"tags": ["cat"], "split": "val"}}
        header = [
            "image",
            *dict.fromkeys(key for item in objects for key in item if key != "image"),
        ]
        rows = [
            (f', "{image}"', [image, *(item.get(key) for key in header[1:])])
            for image, item in values.items()
        ]
        yield from _table_rows(Table(header, rows), names, path, classes)
        return
    lists = [item for item in values.values() if isinstance(item, list)]
    if len(lists) == len(values) and not names.match(values):  # {"cat": ["a.jpg"]}
        tags_of: dict[str, list[str]] = {}
        for tag, images in values.items():
            for image in images:
                tags_of.setdefault(str(image), []).append(tag)
        texts = all(isinstance(image, str) for item in lists for image in item)
        if texts and names.match(tags_of):
            yield from (_Row("", image, tags) for image, tags in tags_of.items())
            return
    for image, tags in values.items():
        yield _Row("", image, tags)


def _coco_rows(values: Mapping[str, Any], path: Path) -> Iterator[_Row]:
    """The categories of each image's annotations; an image without any has no class."""
    try:
        categories = {item["id"]: str(item["name"]) for item in values["categories"]}
        tags: dict[Any, dict[str, None]] = {item["id"]: {} for item in values["images"]}
        for item in values["annotations"]:
            tags[item["image_id"]][categories[item["category_id"]]] = None
        rows = [
            _Row("", str(item["file_name"]), tuple(tags[item["id"]])) for item in values["images"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} looks like COCO's layout, but lacks {error}; write {{image: [tags]}} instead"
        ) from None
    yield from rows
