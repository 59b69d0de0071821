"""Masks that people drew in an annotation tool, with who drew them and when.

Files of COCO, Label Studio and CVAT are read here for those who bring such masks back; a data set
whose annotations are files of these reads them itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsss.data._coco_file import CocoImage, read_coco
from wsss.data._cvat import read_cvat
from wsss.data._drawn import AnnotatedImage, Drawn, class_words, entries_of
from wsss.data._exports import ids_of_words, painted
from wsss.data._label_studio import is_label_studio, is_shortened, read_label_studio
from wsss.data._matching import Names
from wsss.data._shapes import Polygons
from wsss.data._tag_files import read_json_text

__all__ = [
    "DrawnMask",
    "DrawnMasks",
    "filled_polygons",
    "label_ids",
    "matched_names",
    "read_drawn_masks",
]

_EMPTY_TAG = "background"


@dataclass(frozen=True)
class DrawnMask:
    """A mask of an image, drawn when it is asked for.

    Attributes:
        name: of the image.
        size: (height, width) in pixels that it was drawn on; None where nothing was drawn, so that
            nothing says it.
        who: the person; "" where the file does not say.
        when: ISO 8601; "" likewise.
        where: the file and the place in it, for errors.
        is_seen: whether the file says of each image that a person has looked at it.
        regions: what was drawn.
        ids: what its labels are in masks.
    """

    name: str
    size: tuple[int, int] | None
    who: str
    when: str
    where: str
    is_seen: bool
    regions: Sequence[Drawn] = field(repr=False, default=())
    ids: Mapping[str, int] = field(repr=False, default_factory=dict)

    def mask(self, size: tuple[int, int], empty: int) -> np.ndarray:
        """(H, W) uint8: 0, class ids and 255 of what is ignored.

        Args:
            size: (height, width) of the image, where nothing was drawn.
            empty: the value of pixels that no region covers.

        Raises:
            ValueError: a region does not fit the image.
        """
        return painted(self.regions, self.size or size, self.ids, empty)


@dataclass(frozen=True)
class DrawnMasks:
    """What a file has.

    Attributes:
        masks: in the order of the file; of an image several, where several people drew it.
        unknown: what the file calls images that are not there.
        unfinished: the names of images in which something is no region, and of which there is
            therefore no mask.
    """

    masks: Sequence[DrawnMask]
    unknown: Sequence[str]
    unfinished: Sequence[str]


def read_drawn_masks(
    path: Path, images: Mapping[str, Path], folder: Path, class_names: Sequence[str]
) -> DrawnMasks:
    """Read COCO's JSON of instances, Label Studio's JSON or CVAT's XML for images.

    Of COCO, smaller regions lie on top of larger ones, and crowds are regions as others: tools
    write run lengths as such. Regions labelled ignored or void are 255.

    Args:
        path: a .json or .xml file.
        images: the image files by name.
        folder: where they lie.
        class_names: K names.

    Raises:
        ValueError: the file cannot be read or is of another kind, or a label is no class.
    """
    is_seen = False
    if path.suffix.lower() == ".xml":
        found = read_cvat(path)
    else:
        values = _json(path)
        if is_shortened(values):
            raise ValueError(
                f"{path} is Label Studio's JSON-MIN; export the project as JSON, which has all "
                "that was drawn"
            )
        is_seen = is_label_studio(values)
        if not is_seen and isinstance(values, list):
            raise ValueError(
                f"{path} has no annotations of Label Studio; annotate its tasks there, and export "
                "the project as JSON"
            )
        if is_seen:
            found = read_label_studio(values, path, every=True)
        else:
            found = [_annotated(image) for image in read_coco(path).images]
    if not found:
        return DrawnMasks((), (), ())
    names = Names(images, folder)
    entries = entries_of(found, names)
    matched = names.match(dict.fromkeys(entries))
    known = [(matched[at], item) for at, item in zip(entries, found, strict=True) if at in matched]
    unknown = [entry for entry in dict.fromkeys(entries) if entry not in matched]
    whole = [(name, item) for name, item in known if not _lacking(item, class_names)]
    unfinished = [name for name, item in known if _lacking(item, class_names)]
    regions = {id(item): [x for x in item.drawn if x.kind == "region"] for _, item in whole}
    ids = ids_of_words((x for own in regions.values() for x in own), class_names, _EMPTY_TAG)
    masks = [
        DrawnMask(name, item.size, item.who, item.when, item.where, is_seen, regions[id(item)], ids)
        for name, item in whole
    ]
    return DrawnMasks(masks, unknown, unfinished)


def matched_names(
    entries: Sequence[str], images: Mapping[str, Path], folder: Path
) -> dict[str, str]:
    """The images that paths in a file mean, whoever wrote them.

    Args:
        entries: what a file calls images.
        images: the image files by name.
        folder: where they lie.

    Returns:
        The names by entry, of those that mean an image.
    """
    return Names(images, folder).match(dict.fromkeys(entries))


def label_ids(words: Iterable[str], where: str, class_names: Sequence[str]) -> dict[str, int]:
    """What the labels of a file are in masks: class ids, 0 of background, 255 of ignored.

    Args:
        words: the labels.
        where: they stand, for errors.
        class_names: K names.

    Raises:
        ValueError: a label is no class.

    Example:
        >>> label_ids(["Cat", "background", "void"], "a.txt", ("dog", "cat"))
        {'Cat': 2, 'background': 0, 'void': 255}
    """
    return ids_of_words((Drawn(word, "tag", where) for word in words), class_names, _EMPTY_TAG)


def filled_polygons(parts: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre lies in any of some polygons.

    Args:
        parts: each (N, 2) x and y of at least 3 corners, in pixels from the upper left corner.
        size: (height, width) in pixels.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: a corner lies outside of the image.

    Example:
        >>> filled_polygons([np.array([[1, 0], [3, 0], [3, 1], [1, 1]], float)], (2, 3)).tolist()
        [[False, True, True], [False, False, False]]
    """
    inside = np.zeros(size, bool)
    at, own = Polygons(tuple(parts)).pixels(size)
    inside[at] = own
    return inside


def _json(path: Path) -> Any:
    try:
        return read_json_text(path)
    except ValueError as error:
        raise ValueError(f"{error}; if it was cut short, export it again") from None


def _annotated(image: CocoImage) -> AnnotatedImage:
    """An image of COCO's, with its regions as things drawn: the larger the lower."""
    drawn = []
    for item in image.objects:
        if item.wrong:
            raise ValueError(f"{item.where}: {item.wrong}; mend it, or remove it")
        if item.shape is None:
            if item.corners is not None:
                drawn.append(Drawn(item.word, "box", item.where, item.corners))
            continue
        try:
            area = int(item.shape.pixels(image.size)[1].sum())
        except ValueError as error:
            raise ValueError(f"{item.where}: {error}") from None
        drawn.append(Drawn(item.word, "region", item.where, shape=item.shape, order=-area))
    return AnnotatedImage({"file_name": image.entry}, image.where, image.size, drawn)


def _lacking(image: AnnotatedImage, class_names: Sequence[str]) -> set[str]:
    """The labels of an image of which nothing is drawn as a region."""
    regions = {item.word for item in image.drawn if item.kind == "region"}
    shapes = replace(image, drawn=[item for item in image.drawn if item.kind != "tag"])
    return set(class_words(shapes, class_names, _EMPTY_TAG)) - regions
