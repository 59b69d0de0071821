"""Parts of images as images of their own."""

from pathlib import Path

import numpy as np
from PIL import Image

from wsss.artifacts import write_label_png

__all__ = ["write_crop"]


def write_crop(
    scratch: Path,
    name: str,
    image: Image.Image,
    box: tuple[int, int, int, int],
    mask: np.ndarray | None,
) -> tuple[Path, Path | None]:
    """Write a part of an image below `scratch`, and its mask.

    Args:
        scratch: of the data set.
        name: of the part.
        image: the whole one.
        box: left, top, right and bottom of the part in pixels.
        mask: (H, W) uint8, of the part alone; None where nobody drew.

    Returns:
        The files of the image and of the mask.
    """
    path = scratch / "images" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.crop(box).save(path, compress_level=1)
    if mask is None:
        return path, None
    target = scratch / "masks" / f"{name}.png"
    write_label_png(target, mask)
    return path, target
