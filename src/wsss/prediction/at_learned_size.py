"""Images at the size that a network has learned from, and masks back at that of the images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from wsss.prediction._base import Model, Predicted

__all__ = ["enlarged", "learned_size", "predict_at_learned_size", "shrunk"]


def predict_at_learned_size(
    model: Model, images: Sequence[np.ndarray], **how: Any
) -> list[Predicted]:
    """As `model.predict`, of images that are shrunk as those were that the model learned from.

    Args:
        model: whose `about` says so, under images: `prepare_data.long_side_max`.
        images: each (H, W, 3) uint8 RGB, upright.
        how: of `Model.predict`.

    Returns:
        Masks, and probabilities if asked, of the images' own sizes.
    """
    known: Mapping[str, Any] = model.about.get("images") or {}
    long_side = int(known.get("long_side_max", 0))
    if not long_side:
        return model.predict(images, **how)
    small = [np.asarray(shrunk(Image.fromarray(image), long_side)) for image in images]
    found = []
    for image, one in zip(images, model.predict(small, **how), strict=True):
        size = image.shape[0], image.shape[1]
        probs = None if one.probs is None else enlarged(one.probs, size)
        found.append(replace(one, mask=enlarged(one.mask, size), probs=probs))
    return found


def shrunk(image: Image.Image, long_side: int) -> Image.Image:
    """An image of `learned_size`."""
    height, width = learned_size((image.height, image.width), long_side)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)


def learned_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """(height, width) with at most so many pixels along the longer side; 0 shrinks none."""
    if not long_side or max(size) <= long_side:
        return size
    from wsss.loading.same_size import with_long_side  # which brings PyTorch

    return with_long_side(size, long_side)


def enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask, (h, w), or what has several channels, (C, h, w), at another size, by nearest pixels.

    Example:
        >>> enlarged(np.array([[1, 2]]), (2, 4)).tolist()
        [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    height, width = values.shape[-2:]
    if (height, width) == size:
        return values
    rows = (2 * np.arange(size[0]) + 1) * height // (2 * size[0])  # at the centres of pixels
    columns = (2 * np.arange(size[1]) + 1) * width // (2 * size[1])
    return values[..., rows[:, None], columns]
