"""The pixel correlation module: maps averaged over cells that look alike."""

from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from wsss.checks import full_key
from wsss.models.pooling import peaks
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import PARTS
from wsss.settings import Named

__all__ = ["PixelCorrelation", "PixelCorrelationSettings", "normalised", "with_background"]

COLUMNS_AT_ONCE = 4096
"""Cells whose affinities are in memory at once where no gradient is needed."""


class PixelCorrelationSettings(Named):
    """Sizes of the pixel correlation module; the defaults are SEAM's."""

    name: Literal["pcm"] = "pcm"
    stages: tuple[Literal[1, 2, 3, 4], Literal[1, 2, 3, 4]] = (3, 4)
    """Whose features are compared, besides the image's colours; 2 and 3 of resnet38d in SEAM."""
    channels: tuple[PositiveInt, PositiveInt] = (64, 128)
    """What each of the two is reduced to."""
    embedding: PositiveInt = 192
    """Channels in which cells are compared."""
    relu: bool = True
    """After the reduction."""
    align_corners: bool = True
    """How the image and the features are resized to the grid of the maps."""


@PARTS.register(PixelCorrelationSettings)
class PixelCorrelation(nn.Module):
    """M K, where K says how much one cell resembles another.

        f = L2norm(conv[image, ReLU(conv f3), ReLU(conv f4)]),    K = ReLU(f^T f),

    with every column of K divided by its sum, so that a cell of the result is a mean of the map.
    All convolutions are 1 x 1 without bias. The features are cut from the graph: this module
    learns to read the backbone and does not change it. The maps are not: M K is linear in them,
    and whatever range or background channel they should have is up to the caller
    (SEAM's are `with_background(normalised(maps))`).

    Args:
        settings: the sizes.
        backbone: whose stages are compared.
        num_outputs: of the maps; any number can be refined.

    Raises:
        ValueError: the backbone has fewer stages.

    References:
        SEAM (Wang et al., CVPR 2020).
    """

    def __init__(
        self, settings: PixelCorrelationSettings, backbone: TimmBackbone, num_outputs: int
    ) -> None:
        super().__init__()
        del num_outputs
        self.settings = settings
        widths = backbone.stage_widths()
        if max(settings.stages) > len(widths):
            raise ValueError(
                f"the part 'pcm' compares the stages {settings.stages}, but the backbone has "
                f"{len(widths)}; choose others as {full_key('method.stages')}"
            )
        self.reduce = nn.ModuleList(
            nn.Conv2d(widths[stage - 1], channels, 1, bias=False)
            for stage, channels in zip(settings.stages, settings.channels, strict=True)
        )
        self.embed = nn.Conv2d(3 + sum(settings.channels), settings.embedding, 1, bias=False)

    def forward(self, images: Tensor, stages: tuple[Tensor, ...], maps: Tensor) -> Tensor:
        """Refined maps.

        Args:
            images: (B, 3, H, W) normalised, as the classifier got them.
            stages: its output's, for the same images.
            maps: (B, L, h, w) of any number of channels and any range.

        Returns:
            (B, L, h, w) float32: a constant map stays as it is, and no value leaves the range of
            the map.
        """
        with torch.autocast(images.device.type, enabled=False):  # cosines are delicate
            f = self.embedded(images, stages, maps.shape[2:]).flatten(2)  # (B, D, h w)
            flat = maps.float().flatten(2)  # (B, L, h w)
            refined = []
            at_once = f.shape[2] if torch.is_grad_enabled() else COLUMNS_AT_ONCE
            for columns in torch.split(f, at_once, dim=2):
                affinity = (f.transpose(1, 2) @ columns).relu()  # (B, h w, some)
                total = affinity.sum(dim=1, keepdim=True)
                refined.append(flat @ affinity / total.clamp_min(1e-5))
        return torch.cat(refined, dim=2).reshape(maps.shape)

    def embedded(self, images: Tensor, stages: tuple[Tensor, ...], grid: Any) -> Tensor:
        """(B, D, h, w) float32, of length 1 in every cell of the (h, w) grid."""
        sources = [self._resized(images, grid)]
        for stage, reduce in zip(self.settings.stages, self.reduce, strict=True):
            reduced = reduce(self._resized(stages[stage - 1].detach(), grid))
            sources.append(reduced.relu() if self.settings.relu else reduced)
        return functional.normalize(self.embed(torch.cat(sources, dim=1)), dim=1)

    def _resized(self, features: Tensor, grid: Any) -> Tensor:
        features = features.float()
        if features.shape[2:] == grid:
            return features
        return functional.interpolate(
            features, tuple(grid), mode="bilinear", align_corners=self.settings.align_corners
        )


def normalised(maps: Tensor) -> Tensor:
    """(B, L, h, w) maps cut at 0 and divided by their maxima: float32 in [0, 1]."""
    maps = maps.float().relu()
    return maps / peaks(maps, least=1e-5)


def with_background(maps: Tensor) -> Tensor:
    """What SEAM refines: who is strongest where, and how much background there is.

    The background is 1 minus the strongest class; a class that is not the strongest of its cell
    is 0 there. Equally strong ones stay, as where maps peak in the same cell.

    Args:
        maps: (B, L, h, w) in [0, 1], such as `normalised` ones.

    Returns:
        (B, 1 + L, h, w) without a gradient, the background first.

    Example:
        >>> with_background(torch.tensor([[[[1.0, 0.4]], [[0.1, 0.5]]]]))
        tensor([[[[0.0000, 0.5000]],
        <BLANKLINE>
                 [[1.0000, 0.0000]],
        <BLANKLINE>
                 [[0.0000, 0.5000]]]])
    """
    maps = maps.detach()
    strongest = maps.amax(dim=1, keepdim=True)
    return torch.cat([1 - strongest, maps.where(maps == strongest, 0)], dim=1)
