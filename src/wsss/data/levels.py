"""Pixels of more than 8 bits, of floating-point numbers or of many bands, as 8-bit values."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from wsss.checks import full_key

if TYPE_CHECKING:
    from tifffile import TiffPage

__all__ = [
    "BadImageError",
    "Levels",
    "PixelRules",
    "check_tiff",
    "deep_pixels",
    "has_deep_channels",
    "scaled",
    "takes_bands",
    "tiff_pixels",
]

_ROWS = 2**21  # values that are scaled at once
_TOP = 65535
_MAX_SAMPLE, _BITS, _PHOTOMETRIC, _NODATA = 281, 258, 262, 42113  # tags of TIFF
_WHITE_IS_ZERO, _GREYS, _COLOURS, _PICTURES = 0, (0, 1), (2, 6), (3, 5)  # the last: palette, CMYK
_PLAIN = frozenset({"ADOBE_DEFLATE", "DEFLATE", "LZMA", "NONE", "PACKBITS"})
"""Compressions that tifffile reads by itself."""
_FLOATING = 3  # a predictor
_S_MAX_SAMPLE = 341


class BadImageError(ValueError):
    """A file that cannot be decoded; the text says why.

    Args:
        text: why.
        levels: where nothing says which of the values are black and white, their range.
    """

    def __init__(self, text: str, levels: "Levels | None" = None) -> None:
        super().__init__(text)
        self.levels = levels


@dataclass(frozen=True)
class PixelRules:
    """How files become 8-bit RGB that do not say it themselves.

    Attributes:
        span: the values that become black and white, of images of more than 8 bits or of
            floating-point numbers; None takes the range that the file states, or all 16 bits.
        bands: which bands, counted from 0, are red, green and blue, or the one that is grey, of
            files whose bands are not colours; None refuses those.
    """

    span: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls, span: Literal["auto"] | tuple[float, float], bands: Sequence[int] | None
    ) -> "PixelRules":
        """Take them from settings."""
        return cls(None if span == "auto" else span, None if bands is None else tuple(bands))


@dataclass(frozen=True)
class Levels:
    """The values of an image of more than 8 bits.

    Attributes:
        kind: the numbers, such as "16-bit", "float32" or "int32".
        low: the smallest value, without NaN and what the file says is no data.
        high: the largest.
        top: what is white by the file itself; None where nothing says it.
    """

    kind: str
    low: float
    high: float
    top: float | None

    @property
    def is_unstated(self) -> bool:
        """Whether it has 16 bits, and the file does not say how many of them it uses."""
        return self.kind == "16-bit" and self.top is None

    @property
    def is_dark(self) -> bool:
        """Whether it uses few of 16 bits, so that it is near black, and the file does not say."""
        return self.is_unstated and 0 < self.high < 2**14

    def span(self) -> tuple[int | float, int | float]:
        """The range to set: all values of as many bits as are used, or of 0..1, or what is there.

        Floating-point numbers that are not below 0 and not above 255 are taken for 8 bits.

        Example:
            >>> Levels("16-bit", 3, 4000, None).span(), Levels("float32", 0, 0.7, None).span()
            ((0, 4095), (0, 1))
        """
        if self.kind.startswith("float"):
            if self.low >= 0 and self.high <= 255:
                return 0, 1 if self.high <= 1 else 255
            low, high = float(f"{self.low:.4g}"), float(f"{self.high:.4g}")
            return low, high if high > low else low + 1
        if self.low < 0:
            return int(self.low), max(int(self.high), int(self.low) + 1)
        return 0, 2 ** max(8, int(self.high).bit_length()) - 1


@dataclass(frozen=True)
class DeepPixels:
    """Values of more than 8 bits, or of bands that are not 8-bit colours.

    Attributes:
        values: (H, W) or (H, W, C) numbers.
        top: what is white by the file, or None.
        nodata: the value that stands for no data, or None.
        inverted: whether small values are white.
    """

    values: np.ndarray
    top: float | None
    nodata: float | None = None
    inverted: bool = False


def has_deep_channels(image: Image.Image) -> bool:
    """Whether an image, opened but not loaded, has several channels of more than 8 bits.

    Its mode is RGB all the same, and Pillow gives the upper byte alone.
    """
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", []))


def deep_pixels(image: Image.Image) -> DeepPixels | None:
    """The values of an image that has more than 8 bits, opened but not loaded; None of others.

    Pillow gives 16 bits of one band, but only the upper byte of several. The lower one comes
    from a second look at the file, in the other order of bytes.

    Raises:
        BadImageError: the upper bytes alone can be had, and are dark.
    """
    opened: Any = image
    args = next((tile[3] for tile in getattr(opened, "tile", [])), None)
    raw = str(args[0] if isinstance(args, tuple) and args else args)
    tags = getattr(opened, "tag_v2", {})
    maximum = args[-1] if image.format == "PPM" and isinstance(args, tuple) else None
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        values = np.asarray(image)
        values = values.astype(values.dtype.newbyteorder("="))
        inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        if maximum is not None and maximum < _TOP:  # Pillow has stretched them
            return DeepPixels(np.rint(values * (maximum / _TOP)).astype(np.int64), float(maximum))
        return DeepPixels(values, _stated(tags), inverted=inverted)
    if image.mode not in ("RGB", "RGBA") or not (";16" in raw or maximum == _TOP):
        return None
    if raw not in _LOWER:
        upper = np.asarray(image).astype(np.uint16)
        if upper.max(initial=0) < 64:  # less than 2^14
            raise BadImageError(
                "its 16 bits hold small values only, and would be nearly black; save it with 8 "
                "bits, or as a TIFF or PNG of 16 bits in RGB"
            )
        return DeepPixels(upper * 257, float(_TOP))
    with Image.open(opened.filename) as found:
        other: Any = found
        swapped = _LOWER[raw]
        other.tile = [
            tile._replace(
                args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped
            )
            for tile in other.tile
        ]
        lower = np.asarray(found)
    return DeepPixels(np.asarray(image).astype(np.uint16) * 256 + lower, _stated(tags))


_OTHER = "B" if sys.byteorder == "little" else "L"
_LOWER = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("L", "B"), ("B", "L"), ("N", _OTHER))
}
_LOWER = {raw: lower for raw, lower in _LOWER.items() if raw != "RGBX;16N"}
"""By how Pillow unpacks the upper byte of each value: how it unpacks the lower one."""


def _stated(tags: Any) -> float | None:
    """What a TIFF says is white: by a tag, or by bits that are fewer than 16."""
    for tag in (_S_MAX_SAMPLE, _MAX_SAMPLE):
        stated = _first(tags.get(tag))
        if stated is not None and 255 < stated < _TOP:
            return float(stated)
    bits = _first(tags.get(_BITS))
    return float(2**bits - 1) if bits is not None and 8 < bits < 16 else None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value


def takes_bands(photometric: int, count: int) -> bool:
    """Whether `PixelRules.bands` says which bands of a TIFF are looked at.

    So it is with any number of bands that are called grey, and with others than 1 and 3.

    Args:
        photometric: what the file calls its bands: 0 and 1 are grey, 2 is RGB.
        count: how many there are.
    """
    return photometric in _GREYS or (photometric not in _PICTURES and count not in (1, 3))


def check_tiff(source: Path, bands: tuple[int, ...] | None) -> tuple[int, int]:
    """Look at the header of a TIFF that Pillow does not read.

    Returns:
        (height, width) in pixels of its first page.

    Raises:
        BadImageError: as `tiff_pixels`, of what the header tells.
    """
    import tifffile

    with tifffile.TiffFile(source) as file:
        page = file.pages.first
        _check_page(page, bands)
        return page.imagelength, page.imagewidth


def _check_page(page: "TiffPage", bands: tuple[int, ...] | None) -> None:
    axes, count = page.axes, page.samplesperpixel
    photometric = int(page.photometric)
    if sorted(axes) not in (["X", "Y"], ["S", "X", "Y"]):
        raise BadImageError(f"it is a TIFF of the axes {axes}, and no picture; save one of them")
    if bands is not None and takes_bands(photometric, count):
        if max(bands) >= count:
            has = f"the bands 0 to {count - 1}" if count > 1 else "the band 0 alone"
            raise BadImageError(
                f"it has {has}, but {full_key('bands')} is {list(bands)} and names {max(bands)}; "
                "name others, or leave the image out"
            )
    elif bands is None and count > 3 and photometric not in _COLOURS:
        raise BadImageError(
            f"it is a TIFF with {count} bands of {page.dtype}, and nothing says which of them "
            f"are red, green and blue; set {full_key('bands')}, such as "
            f"{full_key('bands')}: [0, 1, 2]"
        )
    compression = getattr(page.compression, "name", str(page.compression))
    packed = compression not in _PLAIN or page.predictor == _FLOATING
    if packed and find_spec("imagecodecs") is None:
        kind = compression if compression not in _PLAIN else f"{compression} of floating-point"
        raise BadImageError(
            f"its compression ({kind}) needs imagecodecs, which is not installed: pip install "
            '"wsss[geotiff]"; or save it without: gdal_translate -co COMPRESS=DEFLATE -co '
            "PREDICTOR=1 IN.tif OUT.tif"
        )


def tiff_pixels(source: Path, bands: tuple[int, ...] | None) -> DeepPixels:
    """The first page of a TIFF that Pillow does not read: many bands, planes, other numbers.

    Returns:
        Values of shape (H, W) or (H, W, 3).

    Raises:
        BadImageError: nothing says which bands are colours, there are not as many, or its
            compression needs a package that is not installed.
    """
    import tifffile

    with tifffile.TiffFile(source) as file:
        page = file.pages.first
        _check_page(page, bands)
        values, axes = page.asarray(), page.axes
        tags = {tag.code: tag.value for tag in page.tags}
        photometric = int(page.photometric)
        nodata = float(page.nodata) if _NODATA in tags else None
    values = values.transpose([axes.index(axis) for axis in "YXS" if axis in axes])
    values = values.reshape(*values.shape[:2], -1)
    if values.dtype.kind == "b":
        values = values.astype(np.uint8) * 255
    count = values.shape[2]
    if bands is not None and takes_bands(photometric, count):
        values = values[..., list(bands)]
    # of two bands the second is something besides grey that no picture shows
    values = values[..., 0] if values.shape[2] < 3 else values[..., :3]
    return DeepPixels(values, _stated(tags), nodata, photometric == _WHITE_IS_ZERO)


def scaled(
    pixels: DeepPixels, span: tuple[float, float] | None
) -> tuple[np.ndarray, Levels | None]:
    """Values as 8-bit ones; NaN, and what is no data, become black.

    Args:
        pixels: of any kind.
        span: what becomes black and white; None takes the range that the file states, or all 16
            bits.

    Returns:
        uint8 of the same shape, and the values' range where they were not 8-bit ones.

    Raises:
        BadImageError: no value is one, or nothing says which of them are black and white.
    """
    values, counted = pixels.values, pixels.values
    if values.dtype == np.uint8:
        return (255 - values if pixels.inverted else values), None
    if pixels.nodata is not None or values.dtype.kind == "f":
        there = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
        if pixels.nodata is not None:
            there &= values != pixels.nodata
        counted = values[there]
        values = np.where(there, values, np.nan)
    elif values.ndim == 3:
        counted = values[..., :3]  # without alpha
    if counted.size == 0:
        raise BadImageError("all its pixels are NaN, infinite or no data")
    low, high = float(counted.min()), float(counted.max())
    whole = counted.dtype.kind in "ui" and low >= 0 and high <= _TOP
    top = pixels.top
    if whole and top is None and high > 255 and not (counted % 257).any():
        top = float(_TOP)  # 8 bits that were stretched
    levels = Levels("16-bit" if whole else str(counted.dtype), low, high, top)
    if span is None and not whole:
        first, last = levels.span()
        raise BadImageError(
            f"its pixels are {_KINDS[counted.dtype.kind]} numbers ({counted.dtype}) from "
            f"{low:g} to {high:g}, and nothing says what is black and white; set "
            f"{full_key('pixel_range')}, such as {full_key('pixel_range')}: [{first:g}, {last:g}]",
            levels,
        )
    black, white = span or (0.0, _TOP if top is None else top)
    out = np.empty(values.shape, np.uint8)
    rows = max(1, _ROWS // max(1, int(np.prod(values.shape[1:]))))
    for start in range(0, len(values), rows):
        part = values[start : start + rows].astype(np.float64)
        share = np.clip((part - black) / (white - black), 0, 1)
        shown = 1 - share if pixels.inverted else share
        out[start : start + rows] = np.rint(np.nan_to_num(shown) * 255)
    return out, levels


_KINDS = {"f": "floating-point", "i": "whole", "u": "whole"}
