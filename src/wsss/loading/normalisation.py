"""The range of values in which a network expects images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Normalisation"]


@dataclass(frozen=True)
class Normalisation:
    """Images minus a mean, divided by a standard deviation, per channel.

    Attributes:
        mean: three values, of an image in [0, 1].
        std: three values, of an image in [0, 1].
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: "Tensor") -> "Tensor":
        """(B, 3, H, W) uint8 to normalised float32, channels last."""
        import torch

        shift, scale = np.reshape([self.mean, self.std], (2, 3, 1, 1))
        factor = torch.from_numpy((1 / (255 * scale)).astype(np.float32)).to(pixels.device)
        offset = torch.from_numpy((shift / scale).astype(np.float32)).to(pixels.device)
        floats = pixels.float().mul_(factor).sub_(offset)
        return floats.contiguous(memory_format=torch.channels_last)

    def from_unit(self, images: "Tensor") -> "Tensor":
        """(..., 3, H, W) in [0, 1] to normalised."""
        mean, std = self._columns(images)
        return (images - mean) / std

    def to_unit(self, images: "Tensor") -> "Tensor":
        """(..., 3, H, W) normalised to [0, 1]."""
        mean, std = self._columns(images)
        return images * std + mean

    def convert(self, images: "Tensor", source: "Normalisation") -> "Tensor":
        """(..., 3, H, W) normalised by `source` to this normalisation."""
        return images if source == self else self.from_unit(source.to_unit(images))

    def _columns(self, images: "Tensor") -> "tuple[Tensor, Tensor]":
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return mean, std
