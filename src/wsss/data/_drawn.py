"""What annotators drew in an image, as the exports of annotation tools have it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from wsss.data._matching import Names
from wsss.data._shapes import Corners, Shape

__all__ = ["AnnotatedImage", "Drawn", "class_words", "entries_of", "is_ignored", "is_nothing"]

_IGNORED = frozenset({"ignore", "ignored", "void"})
"""Labels of regions that are 255 in masks, unless a class is called so."""


@dataclass(frozen=True)
class Drawn:
    """A tag of an image, or something in it that was drawn and labelled.

    Attributes:
        word: the label.
        kind: what it is; a line or a region has a `shape`.
        where: the file and the place in it, for errors.
        corners: left, top, right and bottom of a box, in pixels.
        points: x and y of points, in pixels.
        shape: of a line or a region.
        order: what lies on top has the greater one, and of equal ones it is the later.
    """

    word: str
    kind: Literal["tag", "box", "points", "line", "region"]
    where: str
    corners: Corners | None = None
    points: tuple[tuple[float, float], ...] = ()
    shape: Shape | None = None
    order: int = 0


@dataclass(frozen=True)
class AnnotatedImage:
    """An image that somebody has annotated, perhaps with nothing.

    Attributes:
        entries: what its file may be called, by where that stands.
        where: the file and the place in it, for errors.
        size: (height, width) in pixels, which things were drawn on; None where it is not said.
        drawn: in the order of the file.
        split: what the export calls its split; "" of none.
        who: the person; "" where that is not said.
        when: they last changed it, ISO 8601; "" likewise.
    """

    entries: Mapping[str, str]
    where: str
    size: tuple[int, int] | None = None
    drawn: Sequence[Drawn] = field(default_factory=list)
    split: str = ""
    who: str = ""
    when: str = ""


def is_nothing(word: str, classes: Collection[str], empty_tag: str) -> bool:
    """Whether a label is that of the background, and not a class."""
    return word not in classes and word.casefold() in (empty_tag.casefold(), "background")


def is_ignored(word: str, classes: Collection[str]) -> bool:
    """Whether a label says that a region is to be left out of account."""
    return word not in classes and word.casefold() in _IGNORED


def class_words(image: AnnotatedImage, classes: Collection[str], empty_tag: str) -> list[str]:
    """The labels of an image that are classes, each once.

    Args:
        image: what was drawn in it.
        classes: names that are known; empty when unknown.
        empty_tag: the name for no class.
    """
    words = dict.fromkeys(item.word for item in image.drawn)
    return [
        word
        for word in words
        if not is_nothing(word, classes, empty_tag) and not is_ignored(word, classes)
    ]


def entries_of(images: Sequence[AnnotatedImage], names: Names) -> list[str]:
    """What each image is called, at the place by which most are found.

    Args:
        images: at least one.
        names: the image files.
    """
    keys = dict.fromkeys(key for image in images for key in image.entries)
    found = {
        key: len(names.match(dict.fromkeys(filter(None, (x.entries.get(key) for x in images)))))
        for key in keys
    }
    best = max(keys, key=lambda key: found[key], default="")
    return [
        image.entries.get(best) or next(iter(image.entries.values()), image.where)
        for image in images
    ]
