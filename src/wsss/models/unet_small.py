"""A small U-Net without a pretrained encoder."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["SmallUnet"]


class _Encoder(nn.Module):
    """Pairs of convolutions with a pooling between them.

    Attributes:
        output_stride: image pixels per cell of the last map.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.output_stride = 2 ** (len(widths) - 1)
        self.stages = nn.ModuleList(_pair(*sides) for sides in pairwise([3, *widths]))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # so that a side of one pixel keeps it

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the images and a map per width, the first of the images' size."""
        maps = [images]
        for depth, stage in enumerate(self.stages):
            maps.append(stage(self.pool(maps[-1]) if depth else images))
        return maps


class SmallUnet(nn.Module):
    """Maps of the encoder, from deep to shallow, made twice as large and put beside the next.

    Images may have any size: what transposed convolutions make too large is cut off.

    Args:
        num_classes: K + 1.
        widths: channels of the encoder's maps, at all, a half, a quarter of the size, and so on.

    References:
        Ronneberger et al., U-Net, MICCAI 2015.
    """

    requires_divisible_input_shape = False

    def __init__(self, num_classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = _Encoder(widths)
        steps = list(pairwise(reversed(widths)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(*step, 2, stride=2) for step in steps)
        self.decoder = nn.ModuleList(_pair(2 * finer, finer) for _, finer in steps)
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to (B, K + 1, H, W) logits."""
        *finer, features = self.encoder(images)[1:]
        for skip, up, stage in zip(reversed(finer), self.up, self.decoder, strict=True):
            height, width = skip.shape[2:]
            features = stage(torch.cat([skip, up(features)[:, :, :height, :width]], dim=1))
        logits: Tensor = self.head(features)
        return logits


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
