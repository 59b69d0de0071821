"""Masks that people have corrected: a layer over all that is made, in which nothing is lost.

Each correction is a file, and says itself who made it, when, and of what. So two people may correct
the same images, two copies of the folder may be put together, and an older correction stays beside
the newer one, which counts.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
from PIL import Image, PngImagePlugin

from wsss.artifacts.files import atomic_path, files_below
from wsss.artifacts.label_png import IGNORE_INDEX, check_label_map, palette, read_label_png
from wsss.artifacts.manifest import read_classes
from wsss.checks import check_shape, did_you_mean

__all__ = ["CORRECTIONS", "Correction", "Corrections", "as_utc", "mask_hash", "mask_of_size"]

CORRECTIONS = "data/corrections"
"""Where the layer lies, below the project."""

_KEY = "wsss.correction"  # of the text in the PNG
_LONGEST = 200  # letters of a person's name


@dataclass(frozen=True)
class Correction:
    """A mask that somebody has corrected.

    Attributes:
        image: the name of the sample.
        who: the person, such as a name or an address.
        when: ISO 8601 in UTC, such as "2026-03-01T09:30:00Z".
        origin: what was corrected: "pseudo_masks", "predictions", "corrections", or "" of nothing
            that is known.
        origin_hash: `mask_hash` of it; "" where that is not known.
        file: the label PNG.
        classes: the class ids in it with their names, as they were called then; of none where that
            was not said.
    """

    image: str
    who: str
    when: str
    origin: str
    origin_hash: str
    file: Path = field(compare=False)
    classes: tuple[tuple[int, str], ...] = ()

    def ids_now(self, class_names: Sequence[str]) -> dict[int, int]:
        """What its class ids are by now, where the order of the classes may be another.

        Args:
            class_names: K names.

        Raises:
            ValueError: one of its classes is gone; the text names the file.
        """
        found = {}
        for class_id, name in self.classes:
            if name not in class_names:
                raise ValueError(
                    f"{self.file} shows '{name}', which is no class of the data set any more "
                    f"({did_you_mean(name, class_names)}); name it in the data set's classes, or "
                    "move the file out of the folder"
                )
            found[class_id] = class_names.index(name) + 1
        return found


@dataclass(frozen=True)
class Corrections:
    """All corrections of a project, of which the newest of each image counts.

    Attributes:
        folder: data/corrections, which need not be there.
        entries: sorted by image, and of an image the oldest first.
    """

    folder: Path
    entries: tuple[Correction, ...] = ()

    @classmethod
    def read(cls, root: Path) -> Self:
        """The layer of a project; see `of_folder`."""
        return cls.of_folder(root / CORRECTIONS)

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Read a layer; a folder that is missing has no corrections.

        Raises:
            ValueError: a file is no correction, or DVC knows a folder that is not there.
        """
        tracked = folder.with_name(f"{folder.name}.dvc")
        if not folder.is_dir():
            if tracked.is_file():
                raise ValueError(
                    f"{tracked} says that there are corrections, but {folder} is not there; fetch "
                    f"them with `dvc pull {tracked}`, or, where none are wanted, set "
                    "prepare_data.corrections to none"
                )
            return cls(folder)
        found = (_read(path, folder) for path in files_below(folder, ".png"))
        order = sorted(found, key=lambda item: (item.image, as_utc(item.when), item.file.name))
        return cls(folder, tuple(order))

    @cached_property
    def newest(self) -> dict[str, Correction]:
        """The correction that counts, by image."""
        return {entry.image: entry for entry in self.entries}

    @property
    def names(self) -> frozenset[str]:
        """The images with a corrected mask."""
        return frozenset(self.newest)

    def mask_path(self, name: str) -> Path:
        """The newest label PNG of an image, of the size that it was drawn at; see `read_mask`."""
        return self.newest[name].file

    def read_mask(
        self, name: str, size: tuple[int, int], class_names: Sequence[str] = ()
    ) -> np.ndarray:
        """The newest mask of an image, on its pixels.

        Args:
            name: one of `names`.
            size: (height, width) of the image, whose shape the mask has to have; see
                `mask_of_size`.
            class_names: K names, by which class ids are as they are now; empty leaves them as
                they were.

        Returns:
            (H, W) uint8: 0 background, class ids, 255 ignored.

        Raises:
            ValueError: the mask is of another shape, or shows what is no class.
        """
        entry = self.newest[name]
        mask = read_label_png(entry.file)
        ids = np.arange(256, dtype=np.uint8)
        if class_names:
            for then, now in entry.ids_now(class_names).items():
                ids[then] = now
            mask = ids[mask]
            beyond = (mask > len(class_names)) & (mask != IGNORE_INDEX)
            if beyond.any():
                raise ValueError(
                    f"{entry.file} holds {int(mask[beyond][0])}, but masks hold 0 (background), "
                    f"1..{len(class_names)} and {IGNORE_INDEX} (ignored); correct it again"
                )
        try:
            return mask_of_size(mask, size)
        except ValueError as error:
            raise ValueError(f"{entry.file}: {error}") from None

    def drawn_size(self, name: str) -> tuple[int, int]:
        """(height, width) in pixels that the newest mask of an image was drawn at."""
        with Image.open(self.mask_path(name)) as image:
            return image.height, image.width

    def older(self, entry: Correction) -> bool:
        """Whether a newer correction of the same image counts."""
        return self.newest[entry.image] != entry

    @staticmethod
    def add(
        root: Path,
        name: str,
        mask: np.ndarray,
        *,
        who: str,
        when: str,
        origin: str,
        origin_hash: str,
        class_names: Sequence[str] | None = None,
    ) -> Path:
        """Add a correction beside all that are there; the same one a second time changes nothing.

        Args:
            root: the project.
            name: of the sample.
            mask: (H, W) uint8: 0 background, class ids, 255 ignored.
            who: the person.
            when: ISO 8601 with a time zone.
            origin: see `Correction`.
            origin_hash: likewise.
            class_names: K names; None takes those of data/splits, if that is there.

        Returns:
            The file.

        Raises:
            ValueError: the mask, the name, the person or the time will not do.
        """
        check_shape("mask", mask.shape, ("H", "W"))
        check_label_map("mask", mask)
        parts = PurePosixPath(name).parts
        if not name or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:
            raise ValueError(f"'{name}' is no name of an image; take one of data/splits")
        who = " ".join(who.split())
        if not who or len(who) > _LONGEST:
            raise ValueError(
                f"a correction needs to say who made it, in 1 to {_LONGEST} letters, but that is "
                f"'{who[:_LONGEST]}'"
            )
        moment = as_utc(when)
        if class_names is None:
            splits = root / "data/splits"
            class_names = read_classes(splits)[0] if (splits / "classes.json").is_file() else ()
        present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
        said = {
            "classes": {
                str(class_id): class_names[class_id - 1]
                for class_id in present
                if 1 <= class_id <= len(class_names)
            },
            "image": name,
            "who": who,
            "when": _iso(moment),
            "origin": origin,
            "origin_hash": origin_hash,
        }
        text = json.dumps(said, ensure_ascii=False, sort_keys=True)
        digest = hashlib.sha256(f"{text}\0{mask_hash(mask)}".encode()).hexdigest()[:12]
        path = root / CORRECTIONS / name / f"{moment:%Y%m%dT%H%M%S%f}-{digest}.png"
        if path.exists():
            return path
        image = Image.fromarray(mask)
        image.putpalette(palette().tobytes())
        note = PngImagePlugin.PngInfo()
        note.add_itxt(_KEY, text)
        with atomic_path(path) as temporary:
            image.save(temporary, format="PNG", pnginfo=note, compress_level=3)
        return path


def as_utc(when: str) -> datetime:
    """A moment of ISO 8601 in UTC.

    Raises:
        ValueError: it is none, or has no time zone.

    Example:
        >>> as_utc("2026-03-01T10:30:00+01:00").isoformat()
        '2026-03-01T09:30:00+00:00'
    """
    try:
        moment = datetime.fromisoformat(when)
    except ValueError:
        raise ValueError(
            f"'{when}' is no time; write it as ISO 8601, such as 2026-03-01T09:30:00Z"
        ) from None
    if moment.tzinfo is None:
        raise ValueError(f"the time '{when}' has no time zone; write {when}Z where it is UTC")
    return moment.astimezone(UTC)


def mask_hash(mask: np.ndarray) -> str:
    """A hash of a mask's size and values, however its file holds them.

    Args:
        mask: (H, W) uint8.

    Example:
        >>> mask_hash(np.zeros((2, 3), np.uint8)) == mask_hash(np.zeros((3, 2), np.uint8))
        False
    """
    check_label_map("mask", mask)
    digest = hashlib.sha256(f"{mask.shape[0]} {mask.shape[1]} ".encode())
    digest.update(mask.tobytes())
    return digest.hexdigest()


def mask_of_size(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask on the pixels of its image, where it was drawn on that at another scale.

    So a mask that was drawn on the original of an image that was shrunk becomes the nearest pixels'
    values, as the original's own mask does.

    Args:
        mask: (H, W) uint8.
        size: (height, width) of the image in pixels.

    Returns:
        The mask itself where it has that size.

    Raises:
        ValueError: it has another shape than the image.

    Example:
        >>> mask_of_size(np.array([[1, 1, 2, 2], [1, 1, 0, 0]], np.uint8), (1, 2))
        array([[1, 0]], dtype=uint8)
    """
    check_label_map("mask", mask)
    if mask.shape == tuple(size):
        return mask
    large, small = sorted((mask.shape, tuple(size)), key=max, reverse=True)
    factor = max(small) / max(large)
    if max(large) == max(small) or any(
        max(1, round(side * factor)) != other for side, other in zip(large, small, strict=True)
    ):
        height, width = mask.shape
        turned = "; it lies on its side: turn it" if (width, height) == tuple(size) else ""
        raise ValueError(
            f"the mask has {height} x {width} pixels (height x width), and its image has "
            f"{size[0]} x {size[1]}, which is another shape{turned or '; draw it on this image'}"
        )
    small_image = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(small_image, np.uint8)


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _read(path: Path, folder: Path) -> Correction:
    """What a file says of itself."""
    place = path.parent.relative_to(folder).as_posix()
    try:
        with Image.open(path) as image:
            said: dict[str, Any] = json.loads(image.info[_KEY])
        classes = tuple((int(class_id), str(word)) for class_id, word in said["classes"].items())
        found = Correction(
            image=str(said["image"]),
            who=str(said["who"]),
            when=str(said["when"]),
            origin=str(said["origin"]),
            origin_hash=str(said["origin_hash"]),
            file=path,
            classes=tuple(sorted(classes)),
        )
        as_utc(found.when)
    except (AttributeError, KeyError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no correction, as it does not say who made it and when ({error!r}); move "
            f"it out of {folder}, and add it with `wsss annotations import`"
        ) from None
    if found.image != place:
        raise ValueError(
            f"{path} is a correction of '{found.image}', and lies in the folder of '{place}'; move "
            f"it to {folder / found.image}"
        )
    return found
