"""DeepLabV2: dilated convolutions of several reaches on a backbone at a small stride, summed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.models.timm_backbone import TimmBackbone

__all__ = ["DeepLabV2"]


class _Encoder(nn.Module):
    """A backbone that gives the maps of its stages.

    Attributes:
        output_stride: image pixels per cell of the last map.
    """

    def __init__(self, backbone: TimmBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.output_stride = backbone.output_stride

    @property
    def model(self) -> Any:
        """The network that weights files are of."""
        return self.backbone.net

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the images, the maps of all stages but the last, and the features."""
        features, stages = self.backbone.with_stages(images)
        return [images, *stages[:-1], features]


class DeepLabV2(nn.Module):
    """Features to logits by parallel 3x3 convolutions, made as large as the images.

    Args:
        num_classes: K + 1.
        backbone: gives the features.
        rates: dilations of the convolutions, in cells.

    References:
        Chen et al., DeepLab, TPAMI 2018; the form ASPP-L, without hidden layers.
    """

    requires_divisible_input_shape = False

    def __init__(self, num_classes: int, backbone: TimmBackbone, rates: Sequence[int]) -> None:
        super().__init__()
        self.encoder = _Encoder(backbone)
        self.head = nn.ModuleList(
            _dilated(backbone.num_features, num_classes, rate) for rate in rates
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to (B, K + 1, H, W) logits."""
        features = self.encoder.backbone(images)
        logits = torch.stack([layer(features) for layer in self.head]).sum(dim=0)
        height, width = images.shape[2:]
        covered = self.encoder.backbone.covered(images)
        large = functional.interpolate(logits, covered, mode="bilinear", align_corners=False)
        return large[:, :, :height, :width]


def _dilated(inputs: int, outputs: int, rate: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=rate, dilation=rate)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
