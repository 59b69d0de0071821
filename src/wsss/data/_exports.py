"""Exports of Label Studio and CVAT: boxes, points, masks and scribbles of the images in them."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wsss.artifacts import IGNORE_INDEX, write_label_png
from wsss.cores import usable_cores
from wsss.data._base import RawPoint
from wsss.data._cvat import read_cvat
from wsss.data._drawn import (
    AnnotatedImage,
    Drawn,
    class_words,
    entries_of,
    is_ignored,
    is_nothing,
)
from wsss.data._label_studio import is_label_studio, is_shortened, read_label_studio
from wsss.data._matching import Names
from wsss.data._object_tables import class_ids_of, matched
from wsss.data._shapes import Brush, Corners, Runs
from wsss.data._tag_files import read_json_text
from wsss.data.images import BadImageError, PixelRules, image_frame
from wsss.progress import track
from wsss.settings import ConfigError

__all__ = [
    "Export",
    "draw_masks",
    "draw_scribbles",
    "exported_boxes",
    "exported_points",
    "ids_of_words",
    "is_export",
    "painted",
    "read_export",
]

_ANY_BANDS = PixelRules(bands=(0,))  # the size is that of all bands


@dataclass(frozen=True)
class Export:
    """The annotated images of a file.

    Attributes:
        path: the file.
        images: by what it calls their files, each once.
        names: of those that are found, by that.
        warnings: what a person must know.
    """

    path: Path
    images: Mapping[str, AnnotatedImage]
    names: Mapping[str, str]
    warnings: list[str] = field(default_factory=list)

    def found(self) -> Iterator[tuple[str, AnnotatedImage]]:
        """The names of images, and what was drawn in them."""
        return ((self.names[entry], self.images[entry]) for entry in self.names)


def is_export(path: Path) -> bool:
    """Whether a setting names a file of an annotation tool, and not a folder, by its suffix."""
    return path.suffix.lower() in (".json", ".xml") and not path.is_dir()


def read_export(path: Path, names: Names, key: str) -> Export | None:
    """Read a file of Label Studio or CVAT; None of a JSON that is neither.

    Args:
        path: a .json or .xml file.
        names: the images.
        key: what names it in params.yaml, for errors.

    Raises:
        ConfigError: it is no file.
        ValueError: it cannot be read, has an image twice or none of the data set's.
    """
    if not path.is_file():
        raise ConfigError(f"{key}: {path} is not a file; set it to an export of annotations")
    if path.suffix.lower() == ".xml":
        images = read_cvat(path)
    else:
        values = read_json_text(path)
        if is_shortened(values):
            raise ValueError(
                f"{key}: {path} is Label Studio's JSON-MIN; export the project as JSON, which has "
                "all that was drawn"
            )
        if not is_label_studio(values):
            return None
        images = read_label_studio(values, path)
    if not images:
        raise ValueError(f"{key}: nobody has annotated an image in {path}; leave it out")
    entries = entries_of(images, names)
    found, said = matched(entries, names, path, "annotations")
    owner: dict[str, AnnotatedImage] = {}
    for entry, image in zip(entries, images, strict=True):
        if entry in found:
            before = owner.setdefault(found[entry], image)
            if before is not image:
                raise ValueError(
                    f"{image.where} is the image of {before.where}, too; remove one of them"
                )
    return Export(path, dict(zip(entries, images, strict=True)), found, list(said))


def exported_boxes(
    export: Export, class_names: Sequence[str]
) -> Iterator[tuple[str, Drawn, Corners, tuple[int, int]]]:
    """The boxes that were drawn, and those around regions.

    Args:
        export: of an annotation tool.
        class_names: K names.

    Returns:
        What the export calls the image, the thing, its corners in pixels, and the image's size.

    Raises:
        ValueError: a region does not fit its image.
    """
    for entry, image in export.images.items():
        for item in image.drawn:
            corners = item.corners
            if is_nothing(item.word, class_names, "") or is_ignored(item.word, class_names):
                continue
            if item.kind == "region" and item.shape and image.size:
                try:
                    corners = item.shape.bounds(image.size)
                except ValueError as error:
                    raise ValueError(f"{item.where}: {error}") from None
            if corners is not None and image.size is not None:
                yield entry, item, corners, image.size


def exported_points(
    export: Export, class_names: Sequence[str], empty_tag: str
) -> dict[str, tuple[RawPoint, ...]]:
    """The points of each image.

    Raises:
        ValueError: there are none, or one is of no class.
    """
    listed = [(name, item) for name, image in export.found() for item in image.drawn if item.points]
    if not listed:
        raise ValueError(f"{export.path} holds no point; leave it out, or name another file")
    ids = class_ids_of(
        {item.word: item.where for _, item in reversed(listed)},
        class_names,
        (empty_tag, "background"),
    )
    points: dict[str, list[RawPoint]] = {}
    for name, item in listed:
        points.setdefault(name, []).extend(
            RawPoint(ids[item.word], x, y, item.where) for x, y in item.points
        )
    return {name: tuple(own) for name, own in points.items()}


def draw_masks(
    export: Export, names: Names, class_names: Sequence[str], empty_tag: str, folder: Path
) -> dict[str, Path]:
    """Draw the masks of images whose classes all have a region; what nobody drew is background.

    Args:
        export: of an annotation tool.
        names: the images.
        class_names: K names.
        empty_tag: the label that is the background, as "background" is.
        folder: where masks are written.

    Returns:
        The file by image.

    Raises:
        ValueError: there are no regions, one does not fit its image, or is of no class.
    """

    def regions(image: AnnotatedImage) -> list[Drawn] | None:
        own = [item for item in image.drawn if item.kind == "region"]
        lacking = set(class_words(image, class_names, empty_tag)) - {item.word for item in own}
        return None if lacking else own

    found = {name: own for name, image in export.found() if (own := regions(image)) is not None}
    if not any(found.values()):
        raise ValueError(
            f"{export.path} has no image of which all classes are drawn as polygons, ellipses, "
            "with a brush or as masks; leave it out, or draw them"
        )
    without = [name for name in export.names.values() if name not in found]
    if without:
        export.warnings.append(
            f"{export.path}: {len(without)} of {len(export.names)} images have no mask, as not all "
            f"of their classes are drawn as regions, such as '{without[0]}'"
        )
    return _draw(export, found, names, class_names, empty_tag, folder, 0)


def draw_scribbles(
    export: Export, names: Names, class_names: Sequence[str], empty_tag: str, folder: Path
) -> dict[str, Path]:
    """Draw the scribbles of images: lines, and what was painted with a brush.

    Args:
        export: see `draw_masks`, as the others.
        names: the images.
        class_names: K names.
        empty_tag: the label that is the background, as "background" is.
        folder: where scribbles are written.

    Raises:
        ValueError: there are none, one does not fit its image, or is of no class.
    """
    found = {
        name: [x for x in image.drawn if x.kind == "line" or isinstance(x.shape, Brush | Runs)]
        for name, image in export.found()
    }
    found = {name: own for name, own in found.items() if own}
    if not found:
        raise ValueError(
            f"{export.path} holds neither a polyline nor anything painted; leave it out, or name "
            "another file"
        )
    return _draw(export, found, names, class_names, empty_tag, folder, IGNORE_INDEX)


def _draw(
    export: Export,
    found: Mapping[str, Sequence[Drawn]],
    names: Names,
    class_names: Sequence[str],
    empty_tag: str,
    folder: Path,
    empty: int,
) -> dict[str, Path]:
    """Draw things of each image on pixels of the value `empty`, what is on top last."""
    ids = ids_of_words((item for own in found.values() for item in own), class_names, empty_tag)
    images = dict(export.found())
    changed = export.path.stat().st_mtime_ns

    def draw(name: str) -> Path | None:
        size = images[name].size
        if size is None:  # nothing was drawn, so that nothing says it
            try:
                size = image_frame(names.files[name], _ANY_BANDS).upright
            except BadImageError:
                return None  # the image is left out, and listed
        mask = painted(found[name], size, ids, empty)
        path = folder / f"{name}.png"
        write_label_png(path, mask)
        os.utime(path, ns=(changed, changed))  # a run that goes on knows that it is the same
        return path

    with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
        files = list(track(pool.map(draw, found), folder.name, len(found)))
    return {name: path for name, path in zip(found, files, strict=True) if path}


def ids_of_words(
    drawn: Iterable[Drawn], class_names: Sequence[str], empty_tag: str
) -> dict[str, int]:
    """What the labels of things are in masks: class ids, 0 of the background, and 255.

    Args:
        drawn: the things.
        class_names: K names.
        empty_tag: the label that is the background, as "background" is.

    Raises:
        ValueError: a label is no class; the text says where it stands first.
    """
    words: dict[str, str] = {}
    for item in drawn:
        words.setdefault(item.word, item.where)
    ignored = {word for word in words if is_ignored(word, class_names)}
    known = {word: where for word, where in words.items() if word not in ignored}
    ids = class_ids_of(known, class_names, (empty_tag, "background"))
    return ids | dict.fromkeys(ignored, IGNORE_INDEX)


def painted(
    regions: Sequence[Drawn], size: tuple[int, int], ids: Mapping[str, int], empty: int
) -> np.ndarray:
    """Regions on the pixels of their image, what is on top last.

    Args:
        regions: each with a shape.
        size: (height, width) in pixels.
        ids: of labels; see `ids_of_words`.
        empty: the value of pixels that no region covers.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: a region does not fit the image; the text says which.
    """
    mask = np.full(size, empty, np.uint8)
    for item in sorted(regions, key=lambda item: item.order):
        assert item.shape is not None
        try:
            at, inside = item.shape.pixels(size)
        except ValueError as error:
            raise ValueError(f"{item.where}: {error}") from None
        mask[at][inside] = ids[item.word]
    return mask
