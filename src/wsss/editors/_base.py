"""What annotation tools are given of an image, and what comes back."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from wsss.artifacts import IGNORE_INDEX, Manifest, Paths, palette

__all__ = [
    "IGNORED",
    "Answers",
    "Format",
    "Given",
    "Known",
    "Returned",
    "colour",
    "label_of",
    "layered",
    "regions",
    "stable_id",
]

IGNORED = "ignored"
"""The label of pixels that are 255; no class may be called so."""


@dataclass(frozen=True)
class Given:
    """A mask that somebody is to correct.

    Attributes:
        name: of the sample.
        file: of the image, below the folder of images.
        mask: (H, W) uint8: 0 background, class ids, 255 ignored.
        made_by: what made the mask, and a part of its hash, for people.
    """

    name: str
    file: str
    mask: np.ndarray
    made_by: str = ""


@dataclass(frozen=True)
class Known:
    """The images of a project, by which files of tools are read.

    Attributes:
        images: the image files by name.
        folder: where they lie.
        class_names: K names.
    """

    images: Mapping[str, Path]
    folder: Path
    class_names: Sequence[str]

    @classmethod
    def of(cls, manifest: Manifest, paths: Paths) -> "Known":
        """Those of a manifest."""
        files = {sample.name: paths.images / sample.image for sample in manifest.all_samples()}
        return cls(files, paths.images, manifest.class_names)


@dataclass(frozen=True)
class Returned:
    """A mask that came back.

    Attributes:
        name: of the sample.
        where: the file and the place in it, for errors.
        draw: gives the mask, (H, W) uint8, from the size of the image, where the file does not say
            on which one was drawn, and the value of pixels that nothing covers.
        who: the person; "" where the file does not say.
        when: ISO 8601; "" likewise.
        is_seen: whether the file says that a person has looked at this very image.
    """

    name: str
    where: str
    draw: Callable[[tuple[int, int], int], np.ndarray]
    who: str = ""
    when: str = ""
    is_seen: bool = False


@dataclass(frozen=True)
class Answers:
    """All that came back.

    Attributes:
        masks: in the order of the file.
        unknown: what the file calls images that the project does not have.
        unfinished: names of images in which something was drawn that is no region.
    """

    masks: Sequence[Returned]
    unknown: Sequence[str] = ()
    unfinished: Sequence[str] = ()


class Format(Protocol):
    """A module of a tool's files."""

    IMAGES: str
    """The folder of images, below that of an export."""
    LOSSLESS: bool
    """Whether it holds masks, and not outlines."""

    def write(
        self, given: Iterable[Given], class_names: Sequence[str], out: Path, tolerance: float
    ) -> str:
        """Write pre-annotations into a folder.

        Args:
            given: the masks.
            class_names: K names.
            out: the folder, which is there.
            tolerance: of outlines, in pixels; see `wsss.editors.outlines.simplified`.

        Returns:
            The file or folder that the tool is given, below `out`; "" of all of it.
        """

    def reads(self, path: Path) -> bool:
        """Whether a file or folder is of this kind."""

    def read(self, path: Path, known: Known) -> Answers:
        """Read what came back. Raises ValueError where it cannot be read, or has unknown labels."""


def stable_id(*parts: object) -> int:
    """A whole number for an image or a region of it, the same in every export.

    It is less than 2**53, so that programs that know no larger ones keep it.

    Example:
        >>> stable_id("a", 1) == stable_id("a", 1), stable_id("a", 1) == stable_id("a", 2)
        (True, False)
    """
    text = "\0".join(map(str, parts))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return (int.from_bytes(digest, "big") >> 3) or 1


def label_of(class_id: int, class_names: Sequence[str]) -> str:
    """The label of a value of masks that is not 0."""
    return IGNORED if class_id == IGNORE_INDEX else class_names[class_id - 1]


def colour(class_id: int) -> str:
    """The colour of a value of masks, as web pages write it.

    Example:
        >>> colour(1)
        '#800000'
    """
    return "#{:02x}{:02x}{:02x}".format(*palette()[class_id].tolist())


def regions(mask: np.ndarray) -> Iterable[tuple[int, np.ndarray]]:
    """Each value of a mask but 0, ascending, and the pixels of it, (H, W) bool."""
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return ((value, mask == value) for value in present.tolist() if value)


def layered(
    parts: Sequence[tuple[int, np.ndarray]], size: tuple[int, int], empty: int
) -> np.ndarray:
    """Regions of files without an order, one above the other: the larger the lower.

    Args:
        parts: value and pixels, (H, W) bool; of two of the same size the later one is above.
        size: (height, width).
        empty: the value of pixels that no region covers.

    Returns:
        (H, W) uint8.
    """
    mask = np.full(size, empty, np.uint8)
    for value, inside in sorted(parts, key=lambda part: -int(part[1].sum())):
        mask[inside] = value
    return mask
