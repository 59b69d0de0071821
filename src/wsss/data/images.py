"""Images of any kind to 8-bit upright RGB; what is that keeps its bytes."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from wsss.artifacts import atomic_path, is_of_the_system
from wsss.data.levels import (
    BadImageError,
    Levels,
    PixelRules,
    check_tiff,
    deep_pixels,
    has_deep_channels,
    scaled,
    takes_bands,
    tiff_pixels,
)

__all__ = [
    "ORIENTATION",
    "BadImageError",
    "ImageFrame",
    "Levels",
    "OpenedImage",
    "PixelRules",
    "PreparedImage",
    "from_pillow",
    "header_fault",
    "image_frame",
    "open_rgb",
    "prepare_image",
    "turned",
    "turned_box",
]

ORIENTATION = 0x0112
"""The tag of EXIF that says how a stored image is to be turned."""

_BITS, _PHOTOMETRIC, _SAMPLES, _PLANES = 258, 262, 277, 284  # tags of TIFF
_SEPARATE = 2  # a value of the last
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KEPT = {"JPEG": ".jpg", "PNG": ".png"}
_CONVERTED = {
    **{"L": "grey", "LA": "grey", "1": "grey"},
    **{"P": "palette", "PA": "palette", "CMYK": "CMYK"},
}
_OTHER_KINDS = {
    **{b"<!doctype": "a web page", b"<html": "a web page", b"<?xml": "XML", b"<svg": "SVG"},
    **{
        b"%pdf": "a PDF",
        b"pk\x03\x04": "a ZIP archive",
        b"{": "JSON",
        b"\x93numpy": "a NumPy array",
    },
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ARRAY_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.T,
    6: lambda values: values.T[:, ::-1],
    7: lambda values: values[::-1, ::-1].T,
    8: lambda values: values.T[::-1],
}


@dataclass(frozen=True)
class OpenedImage:
    """A decoded image.

    Attributes:
        rgb: 8-bit and upright.
        conversions: what had to be done, such as "grey" or "rotated", sorted.
        kind: of the file, such as "JPEG".
        orientation: by EXIF, 1..8; 1 needs no turning.
        stored: (height, width) in pixels, before it was turned.
        levels: of more than 8 bits, the values' range.
    """

    rgb: Image.Image
    conversions: tuple[str, ...]
    kind: str
    orientation: int
    stored: tuple[int, int]
    levels: Levels | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, upright."""
        return self.rgb.height, self.rgb.width


@dataclass(frozen=True)
class PreparedImage:
    """What became of an image.

    Attributes:
        file: name of the written file within the target folder.
        size: (height, width) in pixels, upright.
        conversions: what had to be done, such as "grey" or "rotated"; empty when the bytes
            were kept.
        orientation: by EXIF, 1..8; 1 needs no turning.
        levels: of more than 8 bits, the values' range.
    """

    file: str
    size: tuple[int, int]
    conversions: tuple[str, ...]
    orientation: int = 1
    levels: Levels | None = None


@dataclass(frozen=True)
class ImageFrame:
    """The size of an image file, and how it is to be turned.

    Attributes:
        stored: (height, width) in pixels, before it is turned.
        orientation: by EXIF, 1..8; 1 needs no turning.
    """

    stored: tuple[int, int]
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) in pixels, after it is turned."""
        return self.stored[::-1] if self.orientation > 4 else self.stored


def image_frame(source: Path, rules: PixelRules | None = None) -> ImageFrame:
    """What `open_rgb` will find, mostly without decoding the pixels. Raises as that does."""
    try:
        with Image.open(source) as image:
            if not (image.format == "TIFF" and _beyond_pillow(image, rules or PixelRules())):
                orientation = image.getexif().get(ORIENTATION, 1)
                return ImageFrame((image.height, image.width), orientation)
    except (OSError, ValueError):
        pass  # whatever else it is, or is wrong, is found by decoding it
    with suppress(OSError, ValueError):
        if _beginning(source).startswith(_TIFF):
            return ImageFrame(check_tiff(source, (rules or PixelRules()).bands), 1)
    opened = open_rgb(source, rules)
    return ImageFrame(opened.stored, opened.orientation)


def header_fault(source: Path, rules: PixelRules) -> str:
    """Why a TIFF cannot be used, as far as its header tells, such as bands it does not have.

    Returns:
        The reason, or "": of other files, too, and where only decoding tells.
    """
    try:
        with Image.open(source) as image:
            if image.format != "TIFF" or not _beyond_pillow(image, rules):
                return ""
    except (OSError, ValueError):
        pass
    try:
        if _beginning(source).startswith(_TIFF):
            check_tiff(source, rules.bands)
    except BadImageError as error:
        return str(error)
    except Exception:  # of a broken file; decoding it says what is wrong
        return ""
    return ""


def open_rgb(source: Path, rules: PixelRules | None = None) -> OpenedImage:
    """Decode a whole image file, so that a truncated one is noticed, as 8-bit upright RGB.

    Grey is repeated, alpha is laid on white, CMYK and others are converted without colour profiles,
    the first of several frames is taken, and the EXIF orientation is carried out. More than 8 bits
    are scaled as `rules` says, or by the range that the file states, or by all 16 bits.

    Raises:
        BadImageError: the file cannot be decoded, or may not be read, or nothing says what its
            values or bands mean.
        OSError, MemoryError: the disk or the memory is to blame, and not the file.
    """
    try:
        return _decoded(source, rules or PixelRules())
    except (BadImageError, MemoryError):
        raise
    except FileNotFoundError:
        raise BadImageError("the file does not exist") from None
    except Exception as error:  # decoders of broken files raise almost anything
        if is_of_the_system(error) and not isinstance(error, PermissionError):
            raise
        raise BadImageError(f"cannot be decoded: {error}") from None


def prepare_image(
    source: Path, folder: Path | None, name: str, rules: PixelRules | None = None
) -> PreparedImage:
    """Write an image as `folder`/`name`.jpg or .png: 8-bit upright RGB.

    A JPEG or PNG that needs nothing keeps its bytes; anything else becomes a PNG. Without a folder
    the image is looked at all the same, and nothing is written.

    Raises:
        BadImageError: the file cannot be decoded; see `open_rgb`.
        OSError: the result cannot be written.
    """
    opened = open_rgb(source, rules)
    conversions = opened.conversions
    if opened.kind not in _KEPT and not conversions:
        conversions = (opened.kind,)
    file = name + (".png" if conversions else _KEPT[opened.kind])
    if folder is not None:
        with atomic_path(folder / file) as temporary:
            if conversions:
                opened.rgb.save(temporary, format="PNG", compress_level=3)
            else:
                shutil.copyfile(source, temporary)
    return PreparedImage(file, opened.size, conversions, opened.orientation, opened.levels)


def _decoded(source: Path, rules: PixelRules) -> OpenedImage:
    try:
        with Image.open(source) as image:
            if not (image.format == "TIFF" and _beyond_pillow(image, rules)):
                return from_pillow(image, rules)
    except UnidentifiedImageError:
        begins = _beginning(source)
        if not begins.startswith(_TIFF):
            raise BadImageError(_what_begins(begins)) from None
    return _from_tiff(source, rules)


def _beyond_pillow(image: Image.Image, rules: PixelRules) -> bool:
    """Whether Pillow would give a TIFF's pixels wrongly: deep planes, or bands to choose from."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (8,))
    planes = tags.get(_PLANES) == _SEPARATE and max(bits) > 8
    count = tags.get(_SAMPLES, 1)
    chosen = rules.bands is not None and takes_bands(tags.get(_PHOTOMETRIC, 1), count)
    return planes or (chosen and (count > 1 or rules.bands != (0,)))


def from_pillow(image: Image.Image, rules: PixelRules | None = None) -> OpenedImage:
    """An opened image as `open_rgb` has one of a file. Raises as that does of its values."""
    rules = rules or PixelRules()
    done, levels = set(), None
    sixteen = has_deep_channels(image)
    if getattr(image, "n_frames", 1) > 1:
        done.add("first frame")
    see_through = "A" in image.mode.upper().replace("LAB", "") or "transparency" in image.info
    mode, kind = image.mode, image.format or "unknown"
    deep = deep_pixels(image)
    orientation = image.getexif().get(ORIENTATION, 1)
    if deep is not None:
        values, levels = scaled(deep, rules.span)
        image = Image.fromarray(values)
    if levels is not None:
        done.add(levels.kind)
    elif sixteen:
        done.add("16-bit")
    if see_through:
        done.add("alpha")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if mode in _CONVERTED or mode.startswith("I") or mode == "F":
        done.add(_CONVERTED.get(mode, "grey"))
    elif mode not in ("RGB", "RGBA"):
        done.add(mode)
    return _upright(image.convert("RGB"), done, kind, orientation, levels)


def _from_tiff(source: Path, rules: PixelRules) -> OpenedImage:
    values, levels = scaled(tiff_pixels(source, rules.bands), rules.span)
    done = {"TIFF", *([levels.kind] if levels else []), *(["grey"] if values.ndim == 2 else [])}
    return _upright(Image.fromarray(values).convert("RGB"), done, "TIFF", 1, levels)


def _upright(
    image: Image.Image, done: set[str], kind: str, orientation: int, levels: Levels | None
) -> OpenedImage:
    stored = (image.height, image.width)
    if orientation in _TURNS:
        done.add("rotated")
        image = image.transpose(_TURNS[orientation])
    return OpenedImage(image, tuple(sorted(done)), kind, orientation, stored, levels)


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """A mask, (H, W), as EXIF turns an image.

    Example:
        >>> turned(np.array([[1, 2, 3]]), 6).tolist()
        [[1], [2], [3]]
    """
    return _ARRAY_TURNS[orientation](values) if orientation in _ARRAY_TURNS else values


def turned_box(
    box: tuple[float, float, float, float], stored: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """A box as EXIF turns its image.

    Args:
        box: left, top, right and bottom in pixels.
        stored: (height, width) of the image before it is turned.
        orientation: by EXIF.

    Example:
        >>> turned_box((1, 0, 3, 1), (2, 5), 6)  # clockwise
        (1, 1, 2, 3)
    """
    left, top, right, bottom = box
    height, width = stored
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation > 4 else (left, top, right, bottom)


def _beginning(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(512)


def _what_begins(begins: bytes) -> str:
    """What a file is that is no image, by its first bytes."""
    if not begins:
        return "the file is empty"
    if begins[4:8] == b"ftyp":
        return (
            "the file is a HEIC or a video, whatever its name says; save it as JPEG, "
            "such as with ImageMagick: magick FILE FILE.jpg"
        )
    if begins.startswith(b"version https://git-lfs"):
        return "the file is a pointer of Git LFS; fetch what it points to: git lfs pull"
    for start, kind in _OTHER_KINDS.items():
        if begins.lstrip().lower().startswith(start):
            return f"the file is {kind}, and no image"
    if not begins.strip(b"\0"):
        return "the file holds zeros alone, as after a copy that broke off; copy it again"
    return "the file is no image that Pillow or tifffile read"
