"""Where on the ground the pixels of a TIFF lie: its tags of GeoTIFF, and masks that keep them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import check_label_map
from wsss.checks import check_shape

__all__ = ["GeoTags", "geo_tags", "write_label_tiff"]

_SUFFIXES = (".tif", ".tiff", ".gtif", ".gtiff", ".geotiff")
_PLACES = (33550, 33922, 34264, 50844)
"""ModelPixelScale, ModelTiepoint, ModelTransformation; RPCCoefficient. With one of the first three
it is a GeoTIFF."""
_KEYS = (34735, 34736, 34737)
"""GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams: the reference system."""
_TILED = 1024  # pixels of a longer side from which on a mask is stored in tiles
_TILE = (256, 256)


@dataclass(frozen=True)
class GeoTags:
    """The tags of a GeoTIFF, as they are stored.

    Attributes:
        tags: number, type, count and value of each.
    """

    tags: tuple[tuple[int, int, int, Any], ...]


def geo_tags(path: Path) -> GeoTags | None:
    """Read the tags of a GeoTIFF's first page; None of any other file.

    References:
        OGC GeoTIFF Standard 1.1 (OGC 19-008r4).
    """
    if path.suffix.lower() not in _SUFFIXES:
        return None
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            tags = file.pages.first.tags
            held = {code: tags[code] for code in (*_PLACES, *_KEYS) if code in tags}
            found = tuple(
                (code, int(tag.dtype), tag.count, tag.value) for code, tag in sorted(held.items())
            )
    except tifffile.TiffFileError:  # another kind of image, whatever its suffix says
        return None
    return GeoTags(found) if held.keys() & set(_PLACES[:3]) else None


def write_label_tiff(path: Path, mask: np.ndarray, colours: np.ndarray, geo: GeoTags) -> None:
    """Write a mask as a GeoTIFF of its image's place: palette, deflated; it is not atomic.

    Args:
        path: the file.
        mask: (H, W) uint8.
        colours: (256, 3) uint8 RGB.
        geo: of the image, whose pixels are those of the mask.

    Raises:
        ValueError: the mask is no such array.
    """
    import tifffile

    check_shape("mask", mask.shape, ("H", "W"))
    check_label_map("mask", mask)
    tiles: Mapping[str, Any] = {"tile": _TILE} if max(mask.shape) >= _TILED else {}
    tifffile.imwrite(
        path,
        mask,
        photometric="palette",
        colormap=colours.T.astype(np.uint16) * 257,
        compression="zlib",
        extratags=[(*tag, True) for tag in geo.tags],
        metadata=None,
        software=False,
        **tiles,
    )
