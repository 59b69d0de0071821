"""IRN: where boundaries are, and where each cell's object has its centre, from frozen features."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.config.sections import BackboneSettings
from wsss.models.affinity_net import level_features, levels, read_spec
from wsss.models.timm_backbone import TimmBackbone
from wsss.models.weights import load_matching, read_weights

__all__ = ["Irn", "load_irn"]


class Irn(nn.Module):
    """A boundary branch and a displacement branch on a backbone that does not learn.

    Both read the stem and the four stages, on the grid of the first stage (a quarter of the
    image's size in a ResNet): every level goes through a 1x1 convolution, group norm and ReLU and
    is stretched over that grid. The boundary branch joins five maps of 32 channels. The
    displacement branch joins the last three levels first, on the grid of the second stage. A
    backbone without a stem of a finer grid has one level less.

    A displacement field is known only up to a constant from what it is trained with, so that its
    mean, kept while training, is taken from it afterwards.

    Args:
        settings: of the backbone. What it says of frozen parts changes nothing.
        load_weights: as of `TimmBackbone`.

    Attributes:
        spec: what `save_network` keeps of the settings.

    Raises:
        ValueError: the backbone has fewer than four stages, or as `TimmBackbone`.

    References:
        Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations (Ahn, Cho
        and Kwak, CVPR 2019).
    """

    displacement_mean: Tensor

    def __init__(self, settings: BackboneSettings, *, load_weights: bool = True) -> None:
        super().__init__()
        backbone = TimmBackbone(settings, load_weights=load_weights)
        self.backbone = backbone.requires_grad_(False).eval()
        self.spec = {"kind": "irn", "backbone": settings.model_dump(mode="json")}
        self._levels = levels(self.backbone, at_least=4)
        self._first = len(self._levels) - 4  # the first stage
        channels = [level.channels for level in self._levels]
        self.edge = _Edge(channels)
        self.displacement = _Displacement(channels)
        self.register_buffer("displacement_mean", torch.zeros(2))

    @property
    def new_modules(self) -> list[nn.Module]:
        """What learns at the rate of new layers; boundaries have the plain one."""
        return [self.displacement]

    def train(self, mode: bool = True) -> "Irn":
        """As nn.Module.train, but the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boundaries and displacements of (B, 3, H, W) normalised images.

        Returns:
            (B, h, w) logits of being a boundary; (B, 2, h, w) rows and columns, in cells, to the
            centre of a cell's object.
        """
        features = self._features(images)
        grid = features[self._first].shape[2:]
        displacement: Tensor = self.displacement(features, self._first).float()
        if self.training:
            mean = displacement.detach().mean(dim=(0, 2, 3))
            self.displacement_mean.lerp_(mean, 0.1)
        else:
            displacement = displacement - self.displacement_mean[:, None, None]
        return self.edge(features, grid), displacement

    def boundary_logits(self, images: Tensor) -> Tensor:
        """The first of what `forward` gives, alone."""
        features = self._features(images)
        logits: Tensor = self.edge(features, features[self._first].shape[2:])
        return logits

    def _features(self, images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return level_features(self.backbone, self._levels, images)


def load_irn(folder: Path) -> Irn:
    """Read what `save_network` wrote: in eval mode, on the CPU. Raises as `read_spec`."""
    spec = read_spec(folder, "irn")
    model = Irn(BackboneSettings.model_validate(spec["backbone"]), load_weights=False)
    load_matching(model, read_weights(folder / "weights.safetensors"), f"{folder}")
    return model.eval().to(memory_format=torch.channels_last)


class _Edge(nn.Module):
    """Boundary logits from features of all levels."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(_reduction(width_in, 32, 4) for width_in in channels)
        self.join = nn.Conv2d(32 * len(channels), 1, 1)

    def forward(self, features: list[Tensor], grid: Any) -> Tensor:
        """(B, D_i, h_i, w_i) features to (B, h, w) logits."""
        reduced = [
            _stretched(reduce(feature), grid)
            for reduce, feature in zip(self.reduce, features, strict=True)
        ]
        logits: Tensor = self.join(torch.cat(reduced, dim=1))[:, 0].float()
        return logits


class _Displacement(nn.Module):
    """Displacements from features of all levels."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        shallow, deep = channels[:-3], channels[-3:]
        widths = ((64, 8), (128, 16))[-len(shallow) :]
        self.shallow = nn.ModuleList(
            _reduction(width_in, *width) for width_in, width in zip(shallow, widths, strict=True)
        )
        self.deep = nn.ModuleList(_reduction(width_in, 256, 16) for width_in in deep)
        self.join_deep = _reduction(3 * 256, 256, 16)
        self.join = nn.Sequential(
            _reduction(sum(width for width, _ in widths) + 256, 256, 16),
            nn.Conv2d(256, 2, 1, bias=False),
        )

    def forward(self, features: list[Tensor], first: int) -> Tensor:
        """Features to (B, 2, h, w) on the grid of level `first`, the deep ones on that after it."""
        fine, coarse = (features[level].shape[2:] for level in (first, first + 1))
        deep = [
            _stretched(reduce(feature), coarse)
            for reduce, feature in zip(self.deep, features[-3:], strict=True)
        ]
        joined = _stretched(self.join_deep(torch.cat(deep, dim=1)), fine)
        shallow = [
            _stretched(reduce(feature), fine)
            for reduce, feature in zip(self.shallow, features[:-3], strict=True)
        ]
        found: Tensor = self.join(torch.cat([*shallow, joined], dim=1))
        return found


def _reduction(channels: int, width: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(groups, width), nn.ReLU()
    )


def _stretched(features: Tensor, grid: Any) -> Tensor:
    """On a grid that is finer, or half as coarse: bilinear with half-pixel centres."""
    if features.shape[2:] == grid:
        return features
    return functional.interpolate(features, tuple(grid), mode="bilinear", align_corners=False)
