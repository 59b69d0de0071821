"""Boxes as people have them: COCO's JSON, PASCAL VOC's XMLs, YOLO's texts, exports, or a table."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsss.artifacts import files_below
from wsss.data._base import RawBox
from wsss.data._class_names import read_class_names
from wsss.data._exports import exported_boxes, is_export, read_export
from wsss.data._matching import Names
from wsss.data._object_tables import class_ids_of, in_shares, matched, object_rows
from wsss.data._tables import read_text
from wsss.data._tag_files import read_json_text
from wsss.data._voc_xml import read_voc_xml, with_origin
from wsss.settings import ConfigError

__all__ = ["read_boxes"]

Corners = tuple[float, float, float, float]

_SIDES = {
    "left": ("left", "xmin", "x1", "x"),
    "top": ("top", "ymin", "y1", "y"),
    "right": ("right", "xmax", "x2"),
    "bottom": ("bottom", "ymax", "y2"),
    "width": ("width", "w"),
    "height": ("height", "h"),
}
_CLASS_FILES = ("classes.txt", "obj.names", "data.yaml", "dataset.yaml")
_NO_LABELS = frozenset({*_CLASS_FILES, "train.txt", "val.txt", "test.txt", "readme.txt"})


@dataclass(frozen=True)
class _Found:
    """A box, of what its file calls the image and the class; see `RawBox`."""

    entry: str
    word: str
    corners: Corners
    where: str
    relative: bool = False
    drawn_on: tuple[int, int] | None = None


def read_boxes(
    path: Path, root: Path, names: Names, class_names: Sequence[str], key: str
) -> tuple[dict[str, tuple[RawBox, ...]], list[str]]:
    """Read boxes, of which kind the contents tell.

    Args:
        path: COCO's or Label Studio's .json, CVAT's .xml; a table (.csv, .tsv, .json, .jsonl) with
            the columns image, class, left, top, right and bottom, or width and height instead of
            the last two; or a folder that holds, named as its images, PASCAL VOC's XMLs or YOLO's
            texts.
        root: of the data set, up to which the file that names YOLO's classes is searched.
        names: the images.
        class_names: K names.
        key: what names it in params.yaml, for errors.

    Returns:
        By image its boxes, and what a person must know.

    Raises:
        ConfigError: it is neither a file nor a folder.
        ValueError: it holds no boxes, or those of no image or of no class.
    """
    said: list[str] = []
    if path.is_dir():
        found = list(_of_folder(path, root, class_names, key, said))
    elif path.is_file():
        found = list(_of_file(path, names, class_names, key))
    else:
        raise ConfigError(
            f"{key}: {path} is neither a file nor a folder; set it to where boxes lie"
        )
    if not found:
        raise ValueError(f"{key}: {path} holds no box; leave it out, or name another one")
    images, listed = matched([box.entry for box in found], names, path, "boxes")
    said += listed
    in_file = [box.corners for box in found if not box.relative]
    if in_file and set(in_file) == {(0, 0, 1, 1)}:
        raise ValueError(
            f"{path}: all boxes are left 0, top 0, right 1, bottom 1, which may be a pixel or, in "
            "shares of the sides, the whole image; write pixels, or right and bottom as 0.9999"
        )
    if shares := in_shares(in_file, path, "boxes"):
        found = [replace(box, relative=True) for box in found]
        said.append(shares)
    known = [box for box in found if box.entry in images]
    words = {box.word: box.where for box in reversed(known)}
    ids = class_ids_of(words, class_names)
    boxes: dict[str, list[RawBox]] = {}
    for box in known:
        raw = RawBox(ids[box.word], box.corners, box.where, box.relative, box.drawn_on)
        boxes.setdefault(images[box.entry], []).append(raw)
    return {name: tuple(own) for name, own in boxes.items()}, said


def _of_file(path: Path, names: Names, class_names: Sequence[str], key: str) -> Iterator[_Found]:
    if path.suffix.lower() == ".json":
        values = read_json_text(path)
        if isinstance(values, dict):
            yield from _of_coco(values, path)
            return
    export = read_export(path, names, key) if is_export(path) else None
    if export is not None:
        for entry, item, corners, size in exported_boxes(export, class_names):
            yield _Found(entry, item.word, corners, item.where, False, size)
        return
    for row in object_rows(path, names, _SIDES, ("left", "top")):
        values = row.values
        left, top = values["left"], values["top"]
        drawn_on = None
        if "right" in values and "bottom" in values:
            right, bottom = values["right"], values["bottom"]
            if "width" in values and "height" in values:  # of the image, where corners are there
                drawn_on = int(values["height"]), int(values["width"])
        elif "width" in values and "height" in values:
            right, bottom = left + values["width"], top + values["height"]
        else:
            raise ValueError(
                f"{row.where}: a box needs right and bottom, or width and height, in pixels"
            )
        yield _Found(row.entry, row.word, (left, top, right, bottom), row.where, False, drawn_on)


def _of_coco(values: Mapping[str, Any], path: Path) -> Iterator[_Found]:
    try:
        categories = {item["id"]: str(item["name"]) for item in values["categories"]}
        images = {item["id"]: item for item in values["images"]}
        for number, item in enumerate(values["annotations"], 1):
            image, where = images[item["image_id"]], f"{path}, annotation {item.get('id', number)}"
            x, y, width, height = map(float, item["bbox"])
            size = image.get("height"), image.get("width")
            drawn_on = (int(size[0]), int(size[1])) if all(size) else None
            word = categories[item["category_id"]]
            corners = (x, y, x + width, y + height)
            yield _Found(str(image["file_name"]), word, corners, where, False, drawn_on)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not COCO's layout with boxes: {error!r}; each of its annotations has "
            "image_id, category_id and bbox, [left, top, width, height]"
        ) from None


def _of_folder(
    folder: Path, root: Path, class_names: Sequence[str], key: str, said: list[str]
) -> Iterator[_Found]:
    xmls = files_below(folder, ".xml")
    texts = [path for path in files_below(folder, ".txt") if path.name.lower() not in _NO_LABELS]
    if xmls and texts:
        raise ValueError(
            f"{key}: {folder} has both XMLs and texts, such as {xmls[0].name} and {texts[0].name}; "
            "leave those in it that hold the boxes"
        )
    if not xmls and not texts:
        raise ValueError(
            f"{key}: {folder} has neither PASCAL VOC's XMLs nor YOLO's texts; set it to the folder "
            "that has, or to a .json or .csv file"
        )
    if xmls:
        yield from _of_xmls(xmls, folder)
        return
    source = _class_file(folder, root)
    names = read_class_names(source) if source else class_names
    known = names if isinstance(names, Mapping) else dict(enumerate(names))
    if source is None:
        read = ", ".join(f"{at} {name}" for at, name in list(known.items())[:12])
        said.append(
            f"{key}: no {_CLASS_FILES[0]} or data.yaml lies in {folder} or above it, so that its "
            f"ids are read as {read}; write the names there in their order"
        )
    yield from _of_texts(texts, folder, known, source)


def _class_file(folder: Path, root: Path) -> Path | None:
    """The file that names YOLO's classes, in a folder or the nearest one above it."""
    parents = folder.parents
    above = [parent for parent in parents if parent == parents[0] or parent.is_relative_to(root)]
    listed = (item / file for item in (folder, *above) for file in _CLASS_FILES)
    return next((path for path in listed if path.is_file()), None)


def _of_xmls(paths: Sequence[Path], folder: Path) -> Iterator[_Found]:
    listed = [(path, item) for path in paths for item in read_voc_xml(path)]
    for (path, _), item in zip(listed, with_origin(item for _, item in listed), strict=True):
        if item.corners is None:
            raise ValueError(f"{item.where}, '{item.name}', has no bndbox; draw one, or remove it")
        entry = path.relative_to(folder).with_suffix("").as_posix()
        yield _Found(entry, item.name, item.corners, item.where, False, item.drawn_on)


def _of_texts(
    paths: Sequence[Path], folder: Path, known: Mapping[int, str], source: Path | None
) -> Iterator[_Found]:
    """Lines of a class, counted from 0, and a box's centre and size as shares of the image's.

    A polygon, which has more numbers, is taken for the box around it.

    Args:
        paths: the texts.
        folder: that they lie in.
        known: names of classes by id.
        source: the file that names them.
    """
    for path in paths:
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            parts = line.split()
            if not all(map(_NUMBER.fullmatch, parts)) or len(parts) < 5 or len(parts) % 2 == 0:
                raise ValueError(
                    f"{where}: '{line[:60]}' is no box of YOLO's, which is a class, counted from "
                    "0, and its centre and size as shares: 0 0.5 0.5 0.25 0.1"
                )
            class_id, *numbers = map(float, parts)
            if class_id not in known:
                raise ValueError(
                    f"{where}: the class {parts[0]} is none of {source or 'the data set'}, which "
                    f"has {', '.join(f'{at} {name}' for at, name in list(known.items())[:12])}"
                )
            if len(numbers) == 4:
                x, y, width, height = numbers
                corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            else:
                xs, ys = numbers[::2], numbers[1::2]
                corners = (min(xs), min(ys), max(xs), max(ys))
            entry = path.relative_to(folder).with_suffix("").as_posix()
            yield _Found(entry, known[int(class_id)], corners, where, relative=True)


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
