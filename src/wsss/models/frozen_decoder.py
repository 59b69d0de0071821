"""A light decoder on the blocks of one or two backbones that stay as they are (WeCLIP)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.models.frozen_backbones import FrozenBackbones

__all__ = ["FrozenDecoder"]


class _Head(nn.Module):
    """Maps of the blocks of one backbone to one map, on the grid of the last.

    Args:
        channels: of each block.
        width: that each is brought to, and of the result.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in channels)
        self.fuse = nn.Conv2d(width * len(channels), width, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, D_i, h_i, w_i) of each block to (B, width, h, w)."""
        grid = maps[-1].shape[2:]
        parts = []
        for layer, block in zip(self.blocks, maps, strict=True):
            part = functional.relu(layer(block))
            if part.shape[2:] != grid:
                # CPUs have no antialiasing in bfloat16
                part = functional.interpolate(part.float(), grid, mode="bilinear", antialias=True)
            parts.append(part)
        fused: Tensor = self.fuse(torch.cat(parts, dim=1))
        return fused


class FrozenDecoder(nn.Module):
    """Each block through a linear layer and ReLU, all fused, then a transformer over the cells.

    Two backbones have a head each and share what follows, and their logits are averaged at the size
    of the images. There are no embeddings of positions: what the backbones know of them is in their
    features.

    Args:
        num_classes: K + 1.
        encoder: the backbones.
        width: channels of the decoder.
        layers: of the transformer.
        heads: of its attention; they divide the width.

    References:
        Zhang et al., Frozen CLIP: A Strong Backbone for Weakly Supervised Semantic Segmentation,
        CVPR 2024; with two backbones as in WeCLIP+.
    """

    requires_divisible_input_shape = False

    def __init__(
        self, num_classes: int, encoder: FrozenBackbones, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(_Head(found, width) for found in _channels(encoder))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, batch_first=True, norm_first=True, activation="gelu"
        )
        self.decoder = nn.TransformerEncoder(
            layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.classes = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to (B, K + 1, H, W) logits."""
        height, width = images.shape[2:]
        found = []
        for number, maps in enumerate(self.encoder.blocks(images)):
            features = self.heads[number](maps)
            grid = features.shape[2:]
            tokens = self.decoder(features.flatten(2).transpose(1, 2))  # (B, h*w, width)
            logits = self.classes(tokens.transpose(1, 2).unflatten(2, grid))
            covered = self.encoder[number].covered(images)
            large = functional.interpolate(logits, covered, mode="bilinear", align_corners=False)
            found.append(large[:, :, :height, :width])
        return torch.stack(found).mean(dim=0)


def _channels(encoder: FrozenBackbones) -> list[list[int]]:
    """Of each backbone the channels of its blocks."""
    found = encoder.blocks(torch.zeros(1, 3, 128, 128))
    return [[block.shape[1] for block in blocks] for blocks in found]
