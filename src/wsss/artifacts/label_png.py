"""Masks as 8-bit palette PNGs: 0 background, 1..K classes, 255 ignored."""

from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from wsss.artifacts.expected import EXPECTED_KEY, ExpectedPixels
from wsss.artifacts.files import atomic_path
from wsss.artifacts.image import open_image
from wsss.checks import check_shape

__all__ = ["IGNORE_INDEX", "check_label_map", "palette", "read_label_png", "write_label_png"]

IGNORE_INDEX = 255


def palette() -> np.ndarray:
    """The PASCAL VOC colours.

    Returns:
        (256, 3) uint8 RGB; entry 0 is black and entry 255 nearly white.

    Example:
        >>> palette()[1].tolist()
        [128, 0, 0]
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return colours


def check_label_map(name: str, mask: np.ndarray) -> None:
    """Raise ValueError unless a mask is uint8.

    Other dtypes have values that are no class and not 255, such as -1 or 300. Where a mask has none
    of them, but -1 at most, the message tells how it becomes uint8.

    Example:
        >>> check_label_map("mask", np.array([[0, 1]]))
        Traceback (most recent call last):
        ...
        ValueError: mask must be uint8, but is int64; take mask.astype(np.uint8)
    """
    if mask.dtype == np.uint8:
        return
    found = f"{name} must be uint8, but is {mask.dtype}"
    whole = mask.dtype.kind in "bui"
    if not whole and not (mask == np.rint(mask)).all():
        raise ValueError(f"{found}; take the index of each pixel's class, as an argmax gives it")
    least, most = (int(extreme) for extreme in (mask.min(initial=0), mask.max(initial=0)))
    if least < -1 or most > IGNORE_INDEX:
        raise ValueError(
            f"{found} with values from {least} to {most}; a mask has 0..{IGNORE_INDEX}"
        )
    cast = "astype(np.uint8)" if whole else "astype(int).astype(np.uint8)"
    note = ", where -1 becomes 255, ignored" if least < 0 else ""
    raise ValueError(f"{found}; take {name}.{cast}{note}")


def write_label_png(path: Path, mask: np.ndarray, expected: ExpectedPixels | None = None) -> None:
    """Write a mask with the VOC palette, atomically.

    Args:
        path: the file to write; its folder is made.
        mask: (H, W) uint8.
        expected: what its maker expects in it, for `read_expected`; None says nothing.
    """
    check_shape("mask", mask.shape, ("H", "W"))
    check_label_map("mask", mask)
    image = Image.fromarray(mask)
    image.putpalette(palette().tobytes())
    note = None
    if expected is not None:
        note = PngImagePlugin.PngInfo()
        note.add_text(EXPECTED_KEY, expected.text())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=note, compress_level=3)


def read_label_png(path: Path) -> np.ndarray:
    """Read the indices of a palette or grey PNG.

    Returns:
        (H, W) uint8, the stored indices and not their colours.

    Raises:
        ValueError: the file is not an image, or has colours instead of indices.
    """
    with open_image(path) as image:
        if image.mode not in ("P", "L", "1"):
            raise ValueError(
                f"{path} has mode {image.mode}; a mask holds class ids, so save it as palette "
                "or grey PNG"
            )
        return np.asarray(image, dtype=np.uint8)
