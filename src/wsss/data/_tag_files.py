"""Files that give images their tags, and perhaps their splits: tables and JSON."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss.data._cvat import read_cvat
from wsss.data._drawn import AnnotatedImage, class_words, entries_of
from wsss.data._label_studio import is_label_studio, read_label_studio
from wsss.data._layouts import split_of_word
from wsss.data._marks import MINUS_ONE, NoMark, Said, conflict, merged, minus_one, read_mark
from wsss.data._matching import Names
from wsss.data._tables import Table, read_table, read_text
from wsss.data._tag_cells import marks_of_mapping, parse_cells
from wsss.data._tag_rows import Row, table_rows
from wsss.data.listing import image_suffixes, some

__all__ = ["TagFile", "read_json_text", "read_tags"]


@dataclass
class TagFile:
    """What a file says of images.

    Attributes:
        tags: what is said of each image; None where that is blank, which may be forgotten, unlike
            [] in JSON or zeros in columns.
        splits: by image, as the file calls them; blank where it is.
        unknown: entries that are no image.
        warnings: what a person must know of how the file was read.
    """

    tags: dict[str, Said | None] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_tags(
    path: Path,
    names: Names,
    beside: str,
    classes: Sequence[str],
    empty_tag: str,
    unknown: Collection[str] = (),
) -> TagFile:
    """Read a file of tags.

    Args:
        path: a table (.csv, .tsv, .txt) with a column of images and one of tags, or one of marks
            per class (`read_mark`), and perhaps one of splits; images may have several lines. Or
            .json or .jsonl: {image: tags}, {tag: [images]}, a list of objects with an image and
            its tags, COCO's images, annotations and categories, or Label Studio's tasks. Or CVAT's
            .xml.
        names: the images.
        beside: the file's folder within that of the images; "" of any other.
        classes: names that are known; empty when unknown.
        empty_tag: the name for no class.
        unknown: other texts that say that nobody knows; see `read_mark`.

    Raises:
        ValueError: another layout, tags that may be one or several, contradicting lines or votes,
            a probability out of range, or no entry is an image; the text names the line or the
            entry.
    """
    kind, result = path.suffix.lower(), TagFile()
    unknown = {word.strip().casefold() for word in unknown}
    if kind in (".json", ".jsonl", ".ndjson"):
        rows = list(_json_rows(path, names, classes, empty_tag, unknown, result.warnings))
    elif kind == ".xml":
        rows = list(_cvat_rows(path, names, classes, empty_tag, result.warnings))
    elif kind in (".csv", ".tsv", ".tab", ".txt"):
        table = read_table(path, names)
        rows = []
        if table.rows:
            rows = list(table_rows(table, names, path, classes, unknown, result.warnings))
    else:
        raise ValueError(
            f"{path} must be a .csv, .tsv, .json, .jsonl or .xml file; save a spreadsheet as CSV "
            "(UTF-8)"
        )
    tags = _tags(rows, path, classes, empty_tag, unknown)
    _check_no_images(rows, tags, path)
    found = names.match(dict.fromkeys(row.entry for row in rows), beside=beside)
    if rows and not found:
        raise ValueError(
            f"none of the {len(rows)} entries of {path} is an image below {names.folder}: it has "
            f"'{rows[0].entry}', where the images are called "
            f"{some([f'{name!r}' for name in names.files], 2)}; write their paths so"
        )
    other = names.otherwise(found)
    result.unknown = list(dict.fromkeys(row.entry for row in rows if row.entry not in found))
    joined: dict[str, None] = {}
    first: dict[str, Said] = {}
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
            first[name] = own or {}
        elif result.tags[name] != own or list(result.tags[name] or ()) != list(own or ()):
            before, own = result.tags[name] or {}, dict(own or {})
            for tag in before.keys() & own.keys():
                shares = [share for share in (before[tag], own[tag]) if share is not None]
                if row.confidence != 1 and len(shares) == 2:
                    own[tag] = before[tag] = max(shares)  # as of several boxes
                if before[tag] != own[tag]:
                    said = conflict(tag, before[tag], own[tag])
                    raise ValueError(f"{path}{row.where}: '{row.entry}' has {said}")
            if not (row.single and len(own or ()) <= 1 and len(first[name]) <= 1):
                raise ValueError(
                    f"{path}{row.where}: '{row.entry}' has other tags than in another entry for "
                    f"the image '{name}', {some(list(before))}; keep one, or write one tag a line"
                )
            result.tags[name] = before | own
            joined[name] = None
    if other:
        result.warnings.append(
            f"{path.name} has {len(other)} entries for images that are called otherwise, such as "
            f"'{other[0]}' for '{found[other[0]]}'"
        )
    for what, images in _doubtful(result.tags).items():
        if images:
            result.warnings.append(
                f"{path.name} has {len(images)} images with classes {what}, such as '{images[0]}'"
            )
    if joined:
        name = next(iter(joined))
        result.warnings.append(
            f"{path.name} has several lines for {len(joined)} images, such as '{name}', whose tags "
            f"are taken together: {', '.join(result.tags[name] or ())}"
        )
    return result


def _check_no_images(rows: Sequence[Row], tags: Sequence[Said | None], path: Path) -> None:
    """Raise ValueError if a tag is an entry for an image, as where a quote is not closed."""
    entries = {row.entry for row in rows}
    for row, own in zip(rows, tags, strict=True):
        for tag in own or ():
            if tag in entries and Path(tag).suffix.lower() in image_suffixes():
                raise ValueError(
                    f"{path}{row.where}: '{row.entry}' has the tag '{tag}', which is the name of "
                    "an image; close the quotes before it, or write a line per image"
                )


def _doubtful(tags: Mapping[str, Said | None]) -> dict[str, list[str]]:
    """The images with tags that are not certain, by what is not."""
    found: dict[str, list[str]] = {"that nobody knows of": [], "of which it has a probability": []}
    for name, said in tags.items():
        shares = (said or {}).values()
        for images, doubted in zip(
            found.values(),
            (None in shares, any(share not in (None, 0, 1) for share in shares)),
            strict=True,
        ):
            images += [name] * doubted
    return found


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
    rows: Sequence[Row],
    path: Path,
    classes: Sequence[str],
    empty_tag: str,
    unknown: Collection[str],
) -> list[Said | None]:
    """What each row says, whatever form it has."""
    given = []
    for row in rows:
        try:
            given.append(_given(row.tags))
        except ValueError as error:
            raise ValueError(f"{path}{row.where}: '{row.entry}' has {error}") from None
    texts = (tag for tags in given if isinstance(tags, list) for tag in tags)
    try:
        cells = parse_cells(texts, classes, empty_tag, unknown)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    found: list[Said | None] = []
    for row, tags in zip(rows, given, strict=True):
        if tags is None or (isinstance(row.tags, str) and cells[row.tags] is None):
            found.append(None)
            continue
        pairs = list(tags.items()) if isinstance(tags, dict) else []
        if isinstance(tags, list):
            pairs = [pair for tag in tags for pair in cells[tag] or ()]
            pairs = [(tag, row.confidence if mark == 1 else mark) for tag, mark in pairs]
        found.append(_said(row, pairs, path, empty_tag, unknown))
    return found


def _said(
    row: Row,
    pairs: Sequence[tuple[str, Any]],
    path: Path,
    empty_tag: str,
    unknown: Collection[str],
) -> Said:
    """What marks of tags say; of an empty tag they must say that it is true."""
    read = []
    for tag, mark in pairs:
        try:
            share = read_mark(mark, unknown)
        except ValueError as error:
            said = f"'{tag}' with '{mark}', {error}"
            if mark is row.confidence and mark != 1:
                said += "; or rename the column where it says something else"
            raise ValueError(f"{path}{row.where}: '{row.entry}' has {said}") from None
        if tag == empty_tag and share not in (0, 1):
            raise ValueError(
                f"{path}{row.where}: '{row.entry}' has '{tag}', which says that no class is there, "
                f"with '{mark}'; give the classes probabilities, not '{tag}'"
            )
        if tag != empty_tag or share:
            read.append((tag, share))
    try:
        return merged(read)
    except ValueError as error:
        raise ValueError(f"{path}{row.where}: '{row.entry}' has {error}") from None


def _given(value: Any) -> list[str] | dict[str, Any] | None:
    """Tags as texts, those in a list perhaps of several, or marks by tag; None of nothing."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, dict):
        return marks_of_mapping(value)
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, bool) or not isinstance(item, str | int | float) for item in items):
        raise ValueError(
            f'{json.dumps(value)[:80]}; tags are a text, such as "cat", a list of texts or of '
            'class ids, or {"cat": 1, "dog": 0}'
        )
    return [str(item) for item in items]


def _json_rows(
    path: Path,
    names: Names,
    classes: Sequence[str],
    empty_tag: str,
    unknown: Collection[str],
    warnings: list[str],
) -> Iterator[Row]:
    values = read_json_text(path)
    if is_label_studio(values):
        yield from _drawn_rows(read_label_studio(values, path), names, classes, empty_tag)
        return
    if isinstance(values, dict) and {"images", "annotations", "categories"} <= values.keys():
        yield from _coco_rows(values, path)
        return
    if isinstance(values, dict):
        inner = [item for item in values.values() if _holds_objects(item)]
        values = inner[0] if len(inner) == 1 else values
    if _holds_objects(values) and not all(values):
        raise ValueError(f"{path} has objects without keys; write an image and its tags into each")
    if _holds_objects(values):
        header = list(dict.fromkeys(key for item in values for key in item))
        rows = [
            (f", object {number}", [item.get(key, "") for key in header])
            for number, item in enumerate(values, 1)
        ]
        yield from table_rows(Table(header, rows), names, path, classes, unknown, warnings)
    elif isinstance(values, dict):
        yield from _mapping_rows(values, names, path, classes, unknown, warnings)
    else:
        raise ValueError(
            f'{path} must map each image to its tags, {{"a.jpg": ["cat"]}}, or list objects such '
            'as {"image": "a.jpg", "tags": ["cat"]}'
        )


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, dict) for x in value)


def _mapping_rows(
    values: Mapping[str, Any],
    names: Names,
    path: Path,
    classes: Sequence[str],
    unknown: Collection[str],
    warnings: list[str],
) -> Iterator[Row]:
    objects = [item for item in values.values() if isinstance(item, dict)]
    if (
        objects
        and len(objects) == len(values)
        and not all(_is_mark(value) for item in objects for value in item.values())
    ):  # {"a.jpg": {"tags": ["cat"], "split": "val"}}
        header = [
            "image",
            *dict.fromkeys(key for item in objects for key in item if key != "image"),
        ]
        rows = [
            (f', "{image}"', [image, *(item.get(key, "") for key in header[1:])])
            for image, item in values.items()
        ]
        yield from table_rows(Table(header, rows), names, path, classes, unknown, warnings)
        return
    lists = [item for item in values.values() if isinstance(item, list)]
    if len(lists) == len(values) and not names.match(values):  # {"cat": ["a.jpg"]}
        tags_of: dict[str, list[str]] = {}
        for tag, images in values.items():
            for image in images:
                tags_of.setdefault(str(image), []).append(tag)
        texts = all(isinstance(image, str) for item in lists for image in item)
        if texts and names.match(tags_of):
            yield from (Row("", image, tags) for image, tags in tags_of.items())
            return
    marks = [mark for item in objects for mark in item.values()]
    for image, tags in values.items():
        if isinstance(tags, dict) and minus_one(marks):
            tags = {tag: "?" if str(mark) in MINUS_ONE else mark for tag, mark in tags.items()}
        yield Row("", image, tags)


def _is_mark(value: Any) -> bool:
    """Whether a value says something of a class, be it out of range."""
    try:
        read_mark(value)
    except NoMark:
        return False
    except ValueError:
        pass
    return True


def _coco_rows(values: Mapping[str, Any], path: Path) -> Iterator[Row]:
    """The categories of each image's annotations; an image without any has no class."""
    try:
        categories = {item["id"]: str(item["name"]) for item in values["categories"]}
        tags: dict[Any, dict[str, None]] = {item["id"]: {} for item in values["images"]}
        for item in values["annotations"]:
            tags[item["image_id"]][categories[item["category_id"]]] = None
        rows = [
            Row("", str(item["file_name"]), dict.fromkeys(tags[item["id"]], 1) or [])
            for item in values["images"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} looks like COCO's layout, but lacks {error}; write {{image: [tags]}} instead"
        ) from None
    yield from rows


def _cvat_rows(
    path: Path, names: Names, classes: Sequence[str], empty_tag: str, warnings: list[str]
) -> Iterator[Row]:
    """Of an image without any annotation it is not said whether somebody has looked at it."""
    images = read_cvat(path)
    bare = [image for image in images if not image.drawn]
    if bare:
        warnings.append(
            f"{path.name} has {len(bare)} of {len(images)} images without any annotation, such as "
            f"'{bare[0].entries['name']}'; they are taken for images without any class"
        )
    yield from _drawn_rows(images, names, classes, empty_tag)


def _drawn_rows(
    images: Sequence[AnnotatedImage], names: Names, classes: Sequence[str], empty_tag: str
) -> Iterator[Row]:
    """A row per annotated image; its split, where those of all images are known."""
    entries = entries_of(images, names) if images else []
    split = all(split_of_word(image.split) for image in images)
    for entry, image in zip(entries, images, strict=True):
        tags = class_words(image, classes, empty_tag)
        yield Row(f": {image.where}", entry, tags, image.split if split else None)
