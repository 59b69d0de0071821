"""Masks as annotators drew them to class ids: of any values, colours, bits and orientation."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from wsss.artifacts import (
    IGNORE_INDEX,
    atomic_path,
    is_of_the_system,
    open_file,
    read_image,
    write_label_png,
)
from wsss.data.images import ORIENTATION, PreparedImage, turned
from wsss.evaluate.ground_truth import listing, value_counts, wrong_ids, wrong_size

__all__ = ["Meanings", "PlacedMask", "colour_name", "place_mask", "read_mask", "shrink_mask"]

Meanings = Mapping[int | str, int]
"""What each value of a mask, or each colour such as "#ff0000", means: a class id, 0 or 255."""

_NAMED_VALUES = 256  # of one mask that are counted
_INDICES = ("P", "L", "1")  # modes whose 8 bits are values


@dataclass(frozen=True)
class PlacedMask:
    """What became of a mask.

    Attributes:
        problem: why it cannot be used; None where it was written.
        values: how many pixels of the file have each value, or each of the most frequent colours.
        fits: of an image that EXIF turns: "stored" where the mask had the size of the stored
            pixels, "upright" where it had that of the turned ones, "either" where these are equal;
            "" of other images.
        outlines: where either fits and no setting says which, how well the mask's outlines follow
            the image's edges, as stored and upright.
    """

    problem: str | None
    values: Mapping[int | str, int] = field(default_factory=dict)
    fits: str = ""
    outlines: tuple[float, float] = (0, 0)


def place_mask(
    source: Path,
    target: Path | None,
    image: Path | Callable[[], np.ndarray],
    prepared: PreparedImage,
    num_fg_classes: int,
    meanings: Meanings,
    turned_masks: Literal["auto", "stored", "upright"] = "auto",
    *,
    has_background: bool = True,
) -> PlacedMask:
    """Write a mask as a palette or grey PNG of class ids beside its prepared image.

    One that needs nothing keeps its bytes. RGB with three equal channels is grey; 16 bits are
    values; EXIF of the mask itself is carried out. A mask with the size of the stored pixels of an
    image that EXIF turned is turned alike.

    Args:
        source: what annotators drew.
        target: the file to write; None only looks.
        image: the prepared image's file, or what gives its pixels as `read_image` does.
        prepared: what became of the image.
        num_fg_classes: K.
        meanings: of the values; empty where they are class ids. Where it has colours, the mask is
            read by them.
        turned_masks: where the sizes do not tell: "upright" leaves the mask as it is, and the
            others turn it alike.
        has_background: whether a pixel may show none of the classes.

    Returns:
        What was found; nothing is written where there is a problem.

    Raises:
        OSError: the disk is to blame, and not the mask.
    """
    try:
        read = _opened(source, meanings)
    except ValueError as error:
        return PlacedMask(str(error))
    counts = value_counts(read.values)
    frequent = _frequent(counts)
    values = {colour_name(v) if read.coloured else v: counts[v] for v in frequent}
    unfit = _unfit(source, read, counts, meanings)
    if unfit:
        return PlacedMask(unfit, values)
    mask, wrong = _with_meanings(read, meanings, counts)
    present = list(value_counts(mask) if meanings else counts)
    wrong = wrong or wrong_ids(present, num_fg_classes, has_background=has_background)
    if wrong:
        return PlacedMask(f"{source} {wrong}", values)
    stored = prepared.size[::-1] if prepared.orientation > 4 else prepared.size
    fits, outlines = "", (0.0, 0.0)
    kept = read.keeps_bytes and not meanings
    if prepared.orientation != 1 and not read.was_turned:
        either = stored == prepared.size == mask.shape
        fits = "either" if either else "stored" if mask.shape == stored else "upright"
        alike = turned(mask, prepared.orientation)
        if either and turned_masks == "auto":
            pixels = read_image(image) if isinstance(image, Path) else image()
            outlines = _on_edges(pixels, alike), _on_edges(pixels, mask)
        if fits == "stored" or (either and turned_masks != "upright"):
            mask, kept = alike, False
    wrong = wrong_size(mask, prepared.size)
    if wrong:
        return PlacedMask(f"{source} {wrong}", values)
    if target is None:
        pass
    elif kept:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    else:
        write_label_png(target, mask.astype(np.uint8))
    return PlacedMask(None, values, fits, outlines)


def read_mask(source: Path, meanings: Meanings, num_fg_classes: int) -> tuple[np.ndarray, bool]:
    """A mask as `place_mask` reads it, before its image turns it.

    Args:
        source: what annotators drew.
        meanings: see `place_mask`.
        num_fg_classes: K.

    Returns:
        (H, W) uint8 class ids, and whether EXIF of the mask itself has turned it.

    Raises:
        ValueError: it cannot be read, or holds a value that is no class; the text has the first
            pixel of that value.
        OSError: the disk is to blame, and not the mask.
    """
    read = _opened(source, meanings)
    counts = value_counts(read.values)
    wrong = _unfit(source, read, counts, meanings)
    if wrong:
        raise ValueError(wrong)
    mask, wrong = _with_meanings(read, meanings, counts)
    known = {int(key[1:], 16) if isinstance(key, str) else key for key in meanings}
    wrong = wrong or wrong_ids(list(value_counts(mask) if meanings else counts), num_fg_classes)
    if wrong:
        known = known or {*range(num_fg_classes + 1), IGNORE_INDEX}
        y, x = np.argwhere(~np.isin(read.values, list(known)))[0].tolist()
        raise ValueError(f"{source} {wrong}; the first such pixel is at x {x}, y {y}")
    return mask.astype(np.uint8), read.was_turned


def colour_name(value: int) -> str:
    """A colour as web pages write it.

    Example:
        >>> colour_name(0xFF8000)
        '#ff8000'
    """
    return f"#{value:06x}"


@dataclass(frozen=True)
class _Read:
    """A mask as its file has it: (H, W) whole numbers, which are 0xRRGGBB where it is coloured."""

    values: np.ndarray
    coloured: bool = False
    see_through: bool = False
    was_turned: bool = False
    keeps_bytes: bool = False


def _by_colour(meanings: Meanings) -> bool:
    """Whether a mask is read by its colours."""
    return any(isinstance(key, str) for key in meanings)


def _opened(source: Path, meanings: Meanings) -> _Read:
    """What a mask's file has. Raises ValueError for a bad file, and OSError for a bad disk."""
    try:
        return _read_values(source, by_colour=_by_colour(meanings))
    except (OSError, SyntaxError, ValueError) as error:
        if is_of_the_system(error) and not isinstance(error, PermissionError):
            raise
        raise ValueError(f"{source} cannot be read as a mask: {error}; save it again") from None


def _read_values(path: Path, *, by_colour: bool) -> _Read:
    with Image.open(path) as opened:
        opened.load()
        orientation = opened.getexif().get(ORIENTATION, 1)
        mode, kind = opened.mode, opened.format
        image: Image.Image = opened
        see_through = False
        if "A" in image.getbands():
            see_through = image.getchannel("A").getextrema() != (255, 255)
            image = image.convert(mode.replace("A", ""))
        deep = image.mode in ("F", "I") or image.mode.startswith("I;")
        if not deep and (by_colour or image.mode not in _INDICES):
            image = image.convert("RGB")
        values = np.asarray(image)
    coloured = values.ndim == 3
    if coloured:
        bands = [values[..., band].astype(np.int32) for band in range(3)]
        coloured = by_colour or any((band != bands[0]).any() for band in bands[1:])
        values = (bands[0] << 16) + (bands[1] << 8) + bands[2] if coloured else bands[0]
    elif values.dtype.kind == "f" and not (values == np.rint(values)).all():
        raise ValueError("its values are fractions")
    if not coloured and values.dtype != np.uint8:
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise ValueError("its values leave 0..65535")
        values = values.astype(np.uint16 if values.max(initial=0) > 255 else np.uint8)
    was_turned = orientation in range(2, 9)
    keeps_bytes = kind == "PNG" and mode in _INDICES and not was_turned
    return _Read(turned(values, orientation), coloured, see_through, was_turned, keeps_bytes)


def _unfit(source: Path, read: _Read, counts: Mapping[int, int], meanings: Meanings) -> str | None:
    """What is wrong with a mask whatever its values mean."""
    if read.see_through:
        return f"{source} is see-through in places; save it without alpha"
    if read.coloured and not _by_colour(meanings):
        shown = ", ".join(map(colour_name, _frequent(counts)[:4]))
        return (
            f"{source} has colours, such as {shown}, instead of class ids; say in mask_values what "
            "each colour means, or save it as palette or grey PNG of ids"
        )
    return None


def _frequent(counts: Mapping[int, int]) -> list[int]:
    """The values of most pixels, ascending."""
    return sorted(sorted(counts, key=lambda value: -counts[value])[:_NAMED_VALUES])


def _with_meanings(
    read: _Read, meanings: Meanings, counts: Mapping[int, int]
) -> tuple[np.ndarray, str | None]:
    """The class ids, or what is wrong."""
    if not meanings:
        return read.values, None
    ids = {int(key[1:], 16) if isinstance(key, str) else key: to for key, to in meanings.items()}
    unknown = [value for value in counts if value not in ids]
    if unknown:
        names = [*map(colour_name, unknown)] if read.coloured else [*map(str, unknown)]
        what = "colour" if read.coloured else "value"
        known = sorted(map(str, meanings), key=lambda name: (len(name), name))
        return read.values, (
            f"holds {listing(names, what)}, but masks of this data set hold only "
            f"{', '.join(known[:12])}{', ...' * (len(known) > 12)}"
        )
    present = np.array(sorted(counts))
    means = np.array([ids[value] for value in present.tolist()], np.uint8)
    return means[np.searchsorted(present, read.values)], None


def _on_edges(pixels: np.ndarray, mask: np.ndarray) -> float:
    """The mean difference of colours across a mask's outlines, over that of all neighbours."""
    grey = pixels.mean(axis=2, dtype=np.float32)
    across, total, count, pairs = 0.0, 0.0, 0, 0
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis))
        edges = np.diff(mask.astype(np.int16), axis=axis) != 0
        across, count = across + float(steps[edges].sum()), count + int(edges.sum())
        total, pairs = total + float(steps.sum()), pairs + steps.size
    return across / count / max(total / pairs, 1e-6) if count and pairs else 0.0


def shrink_mask(path: Path, size: tuple[int, int]) -> None:
    """Give a placed mask another size, of the nearest pixels' values; one that has it stays.

    Args:
        path: the mask, which is replaced.
        size: (height, width) in pixels.
    """
    with open_file(path) as file, Image.open(file) as mask:
        if (mask.height, mask.width) == size:
            return
        small = mask.resize(size[::-1], Image.Resampling.NEAREST)
    with atomic_path(path) as temporary:
        small.save(temporary, format="PNG")
