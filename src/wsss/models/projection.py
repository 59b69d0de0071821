"""A student's features mapped to the channels of its teachers' maps."""

from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import PARTS
from wsss.settings import Named

__all__ = ["Projection", "ProjectionSettings"]


class ProjectionSettings(Named):
    """Made by the training method `distillation`."""

    name: Literal["projection"] = "projection"
    channels: tuple[PositiveInt, ...] = Field(min_length=1)
    """Channels of each teacher's map."""


@PARTS.register(ProjectionSettings)
class Projection(nn.Module):
    """One learned 1x1 convolution per teacher, used in training alone."""

    def __init__(
        self, settings: ProjectionSettings, backbone: TimmBackbone, num_outputs: int
    ) -> None:
        super().__init__()
        del num_outputs
        self.convs = nn.ModuleList(
            nn.Conv2d(backbone.num_features, channels, 1) for channels in settings.channels
        )

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """(B, D, h, w) features to (B, C_i, h, w) for each teacher i."""
        return tuple(conv(features) for conv in self.convs)
