"""VGG-16 and its mirror image, which puts values back where their maxima were (SegNet)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["EncDecUnpool", "VggEncoder"]

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Of the five stages of VGG-16, each of which ends in a pooling."""

SMALLEST = 2 ** len(CONVOLUTIONS)
"""Pixels of a side, below which a pooling would leave nothing."""


class VggEncoder(nn.Module):
    """The convolutions of VGG-16 with batch norm, whose poolings tell where the maxima were.

    Its tensors have the names that torchvision and timm give those of vgg16_bn, `features.0.weight`
    and so on, and its maps are those of that network.

    Args:
        widths: channels of the five stages.

    Attributes:
        output_stride: image pixels per cell of the last map.
    """

    output_stride = SMALLEST

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, count in zip(widths, CONVOLUTIONS, strict=True):
            for _ in range(count):
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
                channels = width
            layers.append(nn.MaxPool2d(2, return_indices=True))
        self.features = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the images and the maps behind the five poolings."""
        return [images, *(pooled for pooled, _, _ in self.pooled(images))]

    def pooled(self, images: Tensor) -> list[tuple[Tensor, Tensor, torch.Size]]:
        """Of each pooling what it gives, the indices of the maxima, and the size of its input."""
        found = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                size = images.shape
                images, indices = layer(images)
                found.append((images, indices, size))
            else:
                images = layer(images)
        return found


class EncDecUnpool(nn.Module):
    """Each pooling is undone: values return to where the maxima were, and the rest is 0.

    The sizes that the poolings saw are kept, so that odd ones come back: 200, 100, 50, 25, 12, 6.
    Behind an unpooling come dropout and the convolutions of the encoder's stage in reverse, each
    with ReLU and then batch norm; the encoder keeps the order that its weights were trained in,
    batch norm before ReLU. Images of fewer than 32 pixels are padded with zeros.

    Args:
        num_classes: K + 1.
        widths: channels of the five stages.
        dropout: share of values that are set to 0 behind each unpooling.

    References:
        Badrinarayanan et al., SegNet, TPAMI 2017; for aerial images Audebert et al., 2018.
    """

    requires_divisible_input_shape = False

    def __init__(self, num_classes: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.encoder = VggEncoder(widths)
        self.unpool, self.dropout = nn.MaxUnpool2d(2), nn.Dropout(dropout)
        stages, below = [], [widths[0], *widths[:-1]]
        for depth in reversed(range(len(widths))):
            width, count = widths[depth], CONVOLUTIONS[depth] - (depth == 0)
            outputs = [width] * (count - 1) + [below[depth]]
            stages.append(
                nn.Sequential(
                    *(layer for channels in outputs for layer in _convolution(width, channels))
                )
            )
        self.decoder = nn.ModuleList(stages)
        self.head = nn.Conv2d(widths[0], num_classes, 3, padding=1)
        _initialise(self.decoder)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to (B, K + 1, H, W) logits."""
        height, width = images.shape[2:]
        missing = [max(0, SMALLEST - side) for side in (width, height)]
        found = self.encoder.pooled(functional.pad(images, (0, missing[0], 0, missing[1])))
        features = found[-1][0]
        for stage, (_, indices, size) in zip(self.decoder, reversed(found), strict=True):
            unpooled = self.unpool(features, indices, output_size=size)
            features = stage(self.dropout(unpooled))
        logits: Tensor = self.head(features)
        return logits[:, :, :height, :width]


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(outputs),
    ]


def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
