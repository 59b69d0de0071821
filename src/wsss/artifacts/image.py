"""Opening the images that stages read: one wording for a file that is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from wsss.artifacts.files import is_of_the_system
from wsss.artifacts.shards import open_file

__all__ = ["open_image", "read_image"]

BAND = 2**22
"""Pixels of a large image that are copied at once."""

# Pillow warns of images beyond this, and refuses them beyond twice this: 23170 x 23170 pixels
Image.MAX_IMAGE_PIXELS = 2**28


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image of the project, in a shard or not, and decode it within the block.

    Raises:
        ValueError: it is missing, or cannot be decoded; the text names the file.
        OSError: the system, and not the file, is to blame; so in all that reads files here.
    """
    try:
        with open_file(path) as file, Image.open(file) as image:
            yield image
    except OSError as error:
        if is_of_the_system(error):
            raise
        raise ValueError(
            f"{path} cannot be read as an image: {error}; rerun the stage that made it"
        ) from None


def read_image(path: Path) -> np.ndarray:
    """Read a prepared image as (H, W, 3) uint8 RGB. Raises ValueError naming a bad file.

    While a large one is read, memory is 7 bytes per pixel; then it is 3.
    """
    with open_image(path) as image:
        rows = max(1, BAND // image.width)
        if image.height <= rows:
            return np.asarray(image.convert("RGB"))
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        for top in range(0, image.height, rows):
            bottom = min(top + rows, image.height)
            band = image.crop((0, top, image.width, bottom))
            pixels[top:bottom] = np.asarray(band.convert("RGB"))
        return pixels
