"""A head that labels pixels while tags alone are known: that of the single-stage network."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from wsss.checks import full_key
from wsss.models.pooling import normalised_mean, size_penalty
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import PARTS
from wsss.settings import Named

__all__ = ["SegmentationHead", "SegmentationHeadSettings", "gated"]

SKIPPED = 48
"""Channels that the shallow features are reduced to beside the deep ones, at 256 of these."""


class SegmentationHeadSettings(Named):
    """Set by train_classifier.method: single_stage."""

    name: Literal["segmentation_head"] = "segmentation_head"
    stage: Literal[1, 2] = 1
    """Whose features are the shallow ones; masks have their grid."""
    rates: tuple[PositiveInt, ...] = Field(default=(1, 12, 24, 36), min_length=1)
    """Dilations of the convolutions that look around a deep cell; 1 is a convolution of 1 x 1."""
    channels: PositiveInt = 256
    gate: float = Field(default=0.3, ge=0, lt=1)
    """How much the shallow features count beside the deep ones; see `gated`."""
    background: bool = True
    """Masks have a background, whose logit is 1 everywhere, ahead of the classes."""


@PARTS.register(SegmentationHeadSettings)
class SegmentationHead(nn.Module):
    """Deep features decide what is where, shallow ones along which edges.

    Dilated convolutions and the mean over the image (atrous spatial pyramid pooling) read the deep
    features, which are resized to the grid of the shallow ones and joined with them. What all of
    the image says about a channel then scales and shifts the shallow features (global cue
    injection), a gate mixes both, and two convolutions give the logits of the classes.

    Args:
        settings: sizes, and whether there is a background.
        backbone: whose stages are read.
        num_outputs: L classes, the extra ones included.

    Raises:
        ValueError: the backbone has fewer stages.

    References:
        Single-Stage Semantic Segmentation from Image Labels (Araslanov and Roth, CVPR 2020), on
        top of the decoder of DeepLabV3+ (Chen et al., ECCV 2018).
    """

    def __init__(
        self, settings: SegmentationHeadSettings, backbone: TimmBackbone, num_outputs: int
    ) -> None:
        super().__init__()
        self.settings = settings
        widths = backbone.stage_widths()
        if settings.stage > len(widths):
            raise ValueError(
                f"the part 'segmentation_head' reads stage {settings.stage}, but of the backbone "
                f"{len(widths)} are run; choose another {full_key('method.stage')}, or more of "
                f"the backbone with {full_key('backbone.last_stage')}"
            )
        shallow, deep, width = widths[settings.stage - 1], backbone.num_features, settings.channels
        skipped = max(1, width * SKIPPED // 256)
        # batch norms stand right behind convolutions: for inference they are folded into these
        self.around = nn.ModuleList(_layer(deep, width, rate=rate) for rate in settings.rates)
        self.whole = _layer(deep, width)
        self.join = _layer(width * (len(settings.rates) + 1), width, dropout=0.5)
        self.skip = _layer(shallow, skipped)
        self.decode = _layer(width + skipped, width, kernel=3)
        self.plain = nn.Sequential(
            nn.Conv2d(shallow, width, 1, bias=False), nn.BatchNorm2d(width, affine=False)
        )
        self.cues = _layer(width, 2 * width)
        self.inject = _layer(width, width)
        self.last = nn.Sequential(
            _layer(width, width, kernel=3, dropout=0.5),
            _layer(width, width, kernel=3, dropout=0.1),
            nn.Conv2d(width, num_outputs, 1),
        )

    def forward(
        self, features: Tensor, stages: tuple[Tensor, ...], rng: np.random.Generator | None = None
    ) -> Tensor:
        """The logits of the classes in every cell of the shallow grid.

        Args:
            features: (B, D, h', w') of the backbone.
            stages: (B, D_i, h_i, w_i) of its stages.
            rng: that the gate draws from in training; without one it mixes as it does in use.

        Returns:
            (B, L, h, w) float32.
        """
        shallow = stages[self.settings.stage - 1]
        grid = (shallow.shape[2], shallow.shape[3])
        parts = [layer(features) for layer in self.around]
        whole = self.whole(features.mean(dim=(2, 3), keepdim=True))
        deep = self.join(torch.cat([*parts, whole.expand_as(parts[0])], dim=1))
        if deep.shape[2:] != grid:
            deep = functional.interpolate(deep, grid, mode="bilinear", align_corners=True)
        deep = self.decode(torch.cat([deep, self.skip(shallow)], dim=1))
        scale, shift = self.cues(deep).amax(dim=(2, 3), keepdim=True).chunk(2, dim=1)
        injected = self.inject((self.plain(shallow) * (scale + 1) + shift).relu())
        logits: Tensor = self.last(gated(deep, injected, self.settings.gate, rng))
        return logits.float()

    def with_background(self, logits: Tensor) -> Tensor:
        """(B, L, h, w) logits to (B, C, h, w): C is 1 + L with a background, which comes first."""
        if not self.settings.background:
            return logits
        return torch.cat([torch.ones_like(logits[:, :1]), logits], dim=1)

    def scores(self, logits: Tensor, area: float) -> Tensor:
        """One number per class of an image, the higher the surer.

        Args:
            logits: (B, L, h, w) float32.
            area: see `normalised_mean`.

        Returns:
            (B, L), the mean logit over the mask of a class, and the penalty of a small mask.
        """
        masks = self.with_background(logits).softmax(dim=1)[:, -logits.shape[1] :]
        return normalised_mean(logits, masks, area) + size_penalty(masks)


def gated(
    deep: Tensor, shallow: Tensor, share: float, rng: np.random.Generator | None = None
) -> Tensor:
    """Deep and shallow features mixed, in training by chance, channel by channel and cell by cell.

    Training takes the shallow value with the probability `share`, and else the deep one, of which
    that much of the shallow one is taken away: the mean is the deep value. In use it is (1 - share)
    deep + share shallow, as published, which is another mean.

    Args:
        deep: (B, D, h, w).
        shallow: (B, D, h, w).
        share: in [0, 1).
        rng: of training; None in use.

    Example:
        >>> float(gated(torch.tensor(2.0), torch.tensor(5.0), 0.3))
        2.9000000953674316
        >>> deep, rng = torch.full((10**6,), 2.0), np.random.default_rng(0)
        >>> round(float(gated(deep, torch.tensor(5.0), 0.3, rng).mean()), 1)
        2.0
    """
    if rng is None:
        return (1 - share) * deep + share * shallow
    draw = torch.Generator(deep.device).manual_seed(int(rng.integers(2**63)))
    kept = torch.rand(deep.shape, generator=draw, device=deep.device) >= share
    return torch.where(kept, (deep - share * shallow) / (1 - share), shallow)


def _layer(
    into: int, width: int, *, kernel: int = 1, rate: int = 1, dropout: float = 0
) -> nn.Sequential:
    """A convolution, batch norm, ReLU and dropout; of 3 x 3 where it is dilated."""
    kernel = 3 if rate > 1 else kernel
    conv = nn.Conv2d(into, width, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False)
    layers: list[nn.Module] = [conv, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, *[nn.Dropout(dropout)] * bool(dropout))
