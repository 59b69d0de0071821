"""One channel that parts the cells of an image into two sides: object and background."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import PARTS
from wsss.settings import Named

__all__ = ["Disentangler", "DisentanglerSettings"]


class DisentanglerSettings(Named):
    """Set by train_classifier.method: ccam."""

    name: Literal["disentangler"] = "disentangler"
    class_specific: bool = False
    """One channel per class, not one for all."""
    fixed_norm: bool = False
    """The batch norm has no scale and shift that learn."""


@PARTS.register(DisentanglerSettings)
class Disentangler(nn.Module):
    """A 3x3 convolution and batch norm on the features of the last two stages, as in CCAM.

    What is learned is a partition; which of the sides is the object, training cannot know.

    Args:
        settings: how many channels, and of what norm.
        backbone: whose stages there will be.
        num_outputs: classes of the classifier, the extra ones included.

    Attributes:
        inverted: (C,) bool, whether a channel is high on the background; C is 1, or
            `num_outputs` if class_specific.

    Raises:
        ValueError: the backbone has fewer than two stages.
    """

    inverted: Tensor

    def __init__(
        self, settings: DisentanglerSettings, backbone: TimmBackbone, num_outputs: int
    ) -> None:
        super().__init__()
        widths = backbone.stage_widths()
        if len(widths) < 2:
            raise ValueError(
                f"ccam takes the last two stages of a backbone, and {type(backbone.net).__name__} "
                f"has {len(widths)}; choose another backbone.model_name"
            )
        channels = num_outputs if settings.class_specific else 1
        self.conv = nn.Conv2d(sum(widths[-2:]), channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=not settings.fixed_norm)
        self.register_buffer("inverted", torch.zeros(channels, dtype=torch.bool))

    def join(self, stages: Sequence[Tensor]) -> Tensor:
        """The last two of `ClassifierOutput.stages` in one: (B, D, h, w) on the finer's grid."""
        finer, deeper = stages[-2:]
        if finer.shape[2:] != deeper.shape[2:]:
            deeper = functional.interpolate(deeper, finer.shape[2:], mode="bilinear")
        return torch.cat([finer, deeper], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, h, w) of `join` to (B, C, h, w) float32 logits of one of the sides."""
        # rounded to bfloat16, the complement of a probability near one would be gone
        logits: Tensor = self.norm(self.conv(features).float())
        return logits

    def object_logits(self, stages: Sequence[Tensor]) -> Tensor:
        """(B, C, h, w) float32 logits of the object: turned round where `inverted`."""
        logits: Tensor = self(self.join(stages))
        return torch.where(self.inverted[:, None, None], -logits, logits)
