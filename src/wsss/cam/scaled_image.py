"""An image at another size, of which only windows are made."""

import math
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from wsss.checks import check_image

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ScaledImage", "bilinear_taps"]


class ScaledImage:
    """What torch.nn.functional.interpolate makes of an image, bilinearly, window by window.

    The image stays as it was decoded, 3 bytes per pixel. A window is resized from the pixels that
    it shows and the few beyond its border that count, so that it equals its part of the whole.

    Args:
        image: (H, W, 3) uint8.
        normalise: (1, 3, h, w) uint8 on the CPU to float32 on the network's device.
        size: (height, width) to resize to.
        align_corners: as of functional.interpolate.
        antialias: as of functional.interpolate.
        mirrored: left and right change places, after the resize.

    Raises:
        ValueError: the image is no such array.
    """

    def __init__(
        self,
        image: np.ndarray,
        normalise: "Callable[[Tensor], Tensor]",
        size: tuple[int, int],
        *,
        align_corners: bool,
        antialias: bool,
        mirrored: bool = False,
    ) -> None:
        check_image("image", image)
        self.image, self.normalise, self.size, self.mirrored = image, normalise, size, mirrored
        self.align_corners, self.antialias = align_corners, antialias

    def window(self, top: int, left: int, height: int, width: int) -> "Tensor":
        """(1, 3, height, width) float32 of the resized image, from its pixel (top, left) on."""
        import torch

        if self.mirrored:
            left = self.size[1] - left - width
        axes = zip(self.image.shape[:2], self.size, (top, left), (height, width), strict=True)
        taps = [
            bilinear_taps(*axis, align_corners=self.align_corners, antialias=self.antialias)
            for axis in axes
        ]
        shown = tuple(slice(index.min(), index.max() + 1) for index, _ in taps)
        part = self.normalise(torch.from_numpy(self.image[shown].copy()).permute(2, 0, 1)[None])
        # Few pixels make one: a sum over them is less work than a product with the resampling
        # matrix, and no autocast rounds it.
        for axis, (index, weights) in zip((2, 3), taps, strict=True):
            indices = torch.from_numpy(index - index.min()).to(part.device)
            factors = torch.from_numpy(weights).to(part.device)
            factors = factors[..., None] if axis == 2 else factors
            pairs = zip(indices, factors, strict=True)
            part = reduce(torch.add, (part.index_select(axis, i) * w for i, w in pairs))
        return part.flip(-1) if self.mirrored else part


def bilinear_taps(
    length: int, scaled: int, start: int, count: int, *, align_corners: bool, antialias: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels of an axis make up those of it resized, and with which weights.

    Args:
        length: pixels of the axis.
        scaled: pixels after the resize.
        start: the first wanted one of them.
        count: how many are wanted.
        align_corners: corner pixels stay corner pixels, instead of corners corners.
        antialias: where pixels get fewer, all that a new one covers count.

    Returns:
        (T, count) int64 indices, and (T, count) float32 weights that add up to 1 over T: rows
        `start` on of the resampling matrix, without its zeros.

    Example:
        >>> index, weights = bilinear_taps(4, 8, 3, 2, align_corners=False, antialias=False)
        >>> index.tolist(), weights.tolist()
        ([[1, 1], [2, 2]], [[0.75, 0.25], [0.25, 0.75]])
    """
    step = (length - 1) / max(1, scaled - 1) if align_corners else length / scaled
    at = np.arange(start, start + count)
    # With antialias, torch centres pixels as if corners were not aligned.
    centre = step * at + 0.5 if align_corners and not antialias else step * (at + 0.5)
    radius = max(1.0, step) if antialias else 1.0
    index = (
        np.floor(centre - radius + 0.5).astype(np.int64) + np.arange(math.ceil(2 * radius))[:, None]
    )
    weights = (1 - np.abs(index + 0.5 - centre) / radius).clip(min=0)
    weights[(index < 0) | (index >= length)] = 0
    weights /= weights.sum(axis=0)
    return index.clip(0, length - 1), weights.astype(np.float32)
