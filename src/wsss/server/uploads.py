"""Bytes from anyone to pixels: the header is judged before anything is decoded."""

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from wsss.artifacts import is_of_the_system
from wsss.data.images import from_pillow
from wsss.data.levels import has_deep_channels
from wsss.server.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FORMATS", "decode_upload"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""Of image files, by their names in Pillow; each decoder that runs is one that may be attacked."""

_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def decode_upload(data: bytes, max_pixels: int) -> np.ndarray:
    """Turn the bytes of an image file into pixels, upright.

    Args:
        data: of a file in one of `FORMATS`.
        max_pixels: an image with more is refused before it is decoded.

    Returns:
        (H, W, 3) uint8 RGB; what is transparent is laid on white, as prepare_data does.

    Raises:
        Refusal: 400 if the image is damaged, 413 if it is too large, 415 if it is none of a kind
            that is taken.
    """
    if not data:
        raise Refusal(400, "the body is empty; send the bytes of an image file")
    with _judged(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise Refusal(
                413,
                f"the image has {width} x {height} = {width * height} pixels, and {max_pixels} are "
                "taken; send a smaller one, or parts of it",
            )
        if image.mode not in _EIGHT_BITS or has_deep_channels(image):
            deep = "16 bits a channel" if image.mode in _EIGHT_BITS else f"the mode {image.mode}"
            raise Refusal(
                415, f"the image has {deep}; send one of 8 bits a channel, scaled as for training"
            )
        # photographs of phones (MPO) have a small picture of depth or brightness behind them
        count = getattr(image, "n_frames", 1)
        if image.format != "MPO" and count > 1:
            raise Refusal(415, f"the file has {count} images; send one file for each of them")
        return np.asarray(from_pillow(image).rgb)


@contextmanager
def _judged() -> "Iterator[None]":
    try:
        yield
    except Refusal:
        raise
    except UnidentifiedImageError:
        raise Refusal(
            415, f"the body is no image file of a kind that is taken: {', '.join(FORMATS)}"
        ) from None
    except Image.DecompressionBombError as error:
        raise Refusal(413, f"the image is too large: {error}") from None
    except Exception as error:  # damaged files raise many types, by format
        if is_of_the_system(error):
            raise
        raise Refusal(
            400, f"the image is damaged ({error}); see that all of the file was sent"
        ) from None
