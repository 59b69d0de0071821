"""Pictures of a page: a photograph, and what lies over it as layers that the browser puts together.

A layer is a PNG of few colours, some hundred bytes to a few thousand, so that hundreds of images
fit into one page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from wsss.artifacts import IGNORE_INDEX, ScoreMap, check_label_map
from wsss.checks import check_image
from wsss.report.overlays import COLOURS, outline

__all__ = [
    "SIZES",
    "PhotoSize",
    "fitted_size",
    "mask_layer",
    "outline_layer",
    "photo",
    "score_layer",
]

MASK_ALPHA = 0.62
SCORE_SIDE = 112  # of a layer of scores, which are smooth
LEVELS = 16  # of a score


@dataclass(frozen=True)
class PhotoSize:
    """How large a photograph is stored.

    Attributes:
        share: of the longer side that is asked for.
        quality: of JPEG.
    """

    share: float
    quality: int


SIZES = (PhotoSize(1, 80), PhotoSize(0.8, 70), PhotoSize(0.6, 60), PhotoSize(0.4, 50))
"""From large to small, for pages of few images and of many."""


def fitted_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Height and width, made smaller in proportion until neither is above `long_side`.

    Example:
        >>> fitted_size((300, 600), 100), fitted_size((20, 30), 100)
        ((50, 100), (20, 30))
    """
    scale = min(1.0, long_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def photo(image: np.ndarray, long_side: int, size: PhotoSize = SIZES[0]) -> bytes:
    """An image as JPEG.

    Args:
        image: (H, W, 3) uint8 RGB.
        long_side: in pixels, at most.
        size: what of it is kept.
    """
    check_image("image", image)
    height, width = fitted_size(image.shape[:2], max(1, round(long_side * size.share)))
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    data = BytesIO()
    picture.save(data, format="JPEG", quality=size.quality, optimize=True)
    return data.getvalue()


def mask_layer(mask: np.ndarray, long_side: int) -> bytes:
    """A mask as PNG: VOC colours that let the photograph through, and nothing on background.

    Args:
        mask: (H, W) uint8: 0 background, class ids, 255 ignored (nearly white).
        long_side: in pixels, at most.
    """
    check_label_map("mask", mask)
    height, width = fitted_size(mask.shape, long_side)
    small = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    values = np.asarray(small)
    present = np.unique(values)
    colours = {
        at: (*COLOURS[value].tolist(), 0 if value == 0 else round(255 * MASK_ALPHA))
        for at, value in enumerate(present.tolist())
    }
    return _png(np.searchsorted(present, values).astype(np.uint8), colours)


def score_layer(score_map: ScoreMap, size: tuple[int, int]) -> bytes:
    """The best score of each pixel as PNG: that much of the VOC colour of its class.

    Args:
        score_map: of P classes, at most 255.
        size: (height, width) of the image.
    """
    height, width = fitted_size(size, SCORE_SIDE)
    if not len(score_map.class_ids):
        return _png(np.zeros((height, width), np.uint8), {0: (0, 0, 0, 0)})
    scores = score_map.on_grid((height, width))
    levels = max(1, min(LEVELS - 1, 255 // len(scores)))
    best = scores.argmax(axis=0)
    level = np.rint(np.clip(scores.max(axis=0), 0, 1) * levels).astype(np.int64)
    colours = {0: (0, 0, 0, 0)}
    for at, class_id in enumerate(score_map.class_ids.tolist()):
        for step in range(1, levels + 1):
            alpha = round(255 * 0.85 * step / levels)
            colours[at * levels + step] = (*COLOURS[class_id].tolist(), alpha)
    return _png(np.where(level > 0, best * levels + level, 0).astype(np.uint8), colours)


def outline_layer(mask: np.ndarray, long_side: int) -> bytes:
    """The edges of the objects of a mask as PNG: white within them, black around.

    Args:
        mask: (H, W) uint8, as of `mask_layer`.
        long_side: in pixels, at most.
    """
    check_label_map("mask", mask)
    height, width = fitted_size(mask.shape, long_side)
    small = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    small = np.where(small == IGNORE_INDEX, 0, small).astype(np.uint8)
    inner = outline(small)
    padded = np.pad(inner, 1)
    beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    values = np.where(inner, 1, np.where(beside & (small == 0), 2, 0)).astype(np.uint8)
    return _png(values, {0: (0, 0, 0, 0), 1: (255, 255, 255, 255), 2: (0, 0, 0, 255)})


def _png(values: np.ndarray, colours: Mapping[int, tuple[int, ...]]) -> bytes:
    """A picture of at most 256 colours, each of red, green, blue and opacity."""
    table = np.zeros((max(colours) + 1, 4), np.uint8)
    for at, colour in colours.items():
        table[at] = colour
    picture = Image.fromarray(values, "P")
    picture.putpalette(table[:, :3].tobytes())
    data = BytesIO()
    picture.save(
        data, format="PNG", compress_level=9, transparency=table[:, 3].tobytes(), optimize=False
    )
    return data.getvalue()
