"""Files to pixels as the network has learned from: what prepare_data does, and nothing else."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wsss.artifacts import is_of_the_system
from wsss.checks import naming
from wsss.data.images import BadImageError, PixelRules, image_frame, open_rgb
from wsss.prediction.at_learned_size import learned_size, shrunk
from wsss.prediction.geotiff import GeoTags, geo_tags

__all__ = ["Picture", "Reader", "check_videos", "frames"]


@dataclass(frozen=True)
class Picture:
    """An image as the network gets it.

    Attributes:
        pixels: (h, w, 3) uint8 RGB.
        size: (height, width) of the image itself, upright.
        conversions: what had to be done to get there, such as "grey" or "rotated".
        is_dark: whether it uses few of 16 bits, and nothing says so.
        geo: where it lies on the ground; None of most images.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    conversions: tuple[str, ...] = ()
    is_dark: bool = False
    geo: GeoTags | None = None


class Reader:
    """Reads images as prepare_data would.

    Args:
        settings: `pixel_range`, `bands` and `long_side_max` of prepare_data.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._rules = PixelRules.of(settings["pixel_range"], settings["bands"])
        self._long_side = settings["long_side_max"]

    def size(self, path: Path) -> tuple[int, int]:
        """(height, width) of the pixels that `read` will give, mostly from the header alone.

        Raises:
            BadImageError: the file is no image.
        """
        with naming("prepare_data"):
            try:
                return learned_size(image_frame(path, self._rules).upright, self._long_side)
            except BadImageError as error:
                if "exceeds limit" not in str(error):
                    raise
                raise BadImageError(
                    f"{error}; cut it into parts, such as with gdal_retile.py -ps 20000 20000"
                ) from None

    def geo(self, path: Path) -> GeoTags | None:
        """Where an image lies on the ground; None of most.

        Raises:
            BadImageError: its tags are broken.
        """
        try:
            return geo_tags(path)
        except Exception as error:  # tifffile raises almost anything of broken tags
            if is_of_the_system(error) and not isinstance(error, PermissionError):
                raise
            raise BadImageError(f"its tags of GeoTIFF cannot be read: {error}") from None

    def read(self, path: Path) -> Picture:
        """Decode an image.

        Raises:
            BadImageError: it cannot be decoded, nothing says what its values or bands mean, or it
                would lose its place on the ground.
        """
        with naming("prepare_data"):
            opened = open_rgb(path, self._rules)
        geo = self.geo(path)
        if geo is not None and opened.orientation != 1:
            raise BadImageError(
                f"it is a GeoTIFF whose pixels are turned (orientation {opened.orientation}), so "
                "that its mask would lie elsewhere; save it upright, such as with gdalwarp"
            )
        dark = opened.levels is not None and opened.levels.is_dark
        return self._picture(opened.rgb, opened.conversions, dark, geo)

    def of_frame(self, pixels: np.ndarray) -> Picture:
        """A frame of a video, (H, W, 3) uint8."""
        return self._picture(Image.fromarray(pixels), (), False, None)

    def _picture(
        self, image: Image.Image, conversions: tuple[str, ...], dark: bool, geo: GeoTags | None
    ) -> Picture:
        size, image = (image.height, image.width), shrunk(image, self._long_side)
        if (image.height, image.width) != size:
            conversions = (*conversions, "shrunk")
        return Picture(np.asarray(image), size, conversions, dark, geo)


def check_videos() -> None:
    """Raise ImportError where what reads videos is not installed."""
    if find_spec("imageio") is None or find_spec("imageio_ffmpeg") is None:
        raise ImportError(
            "reading videos needs imageio with ffmpeg: pip install 'wsss[video]'; or make images "
            "of the frames: ffmpeg -i VIDEO frames/%06d.png"
        )


def frames(path: Path, every: int) -> Iterator[tuple[int, np.ndarray]]:
    """Each `every`th frame of a video, from the first, with its number; one is in memory at a time.

    Yields:
        The number, from 0, and (H, W, 3) uint8.

    Raises:
        ImportError: what reads videos is not installed.
        BadImageError: it is no video.
    """
    check_videos()
    from imageio.v3 import imiter

    try:
        for number, frame in enumerate(imiter(path)):
            if number % every == 0:
                yield number, np.ascontiguousarray(np.asarray(frame)[..., :3])
    except (OSError, ValueError, RuntimeError, StopIteration) as error:
        raise BadImageError(f"cannot be read as a video: {str(error).splitlines()[0]}") from None
