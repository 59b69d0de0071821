"""Cross-entropy in which background and objects weigh the same."""

from typing import TYPE_CHECKING, Literal

from wsss.registry import PIXEL_LOSSES
from wsss.segment.losses._base import (
    LossSettings,
    PixelBatch,
    PixelLoss,
    pixel_nll,
    weighted_mean,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Balanced", "BalancedSettings"]


class BalancedSettings(LossSettings):
    """Half the mean over pixels of the background and half that over pixels of classes."""

    name: Literal["balanced"] = "balanced"


@PIXEL_LOSSES.register(BalancedSettings)
class Balanced(PixelLoss[BalancedSettings]):
    """The segmentation loss of ToCo (Ru et al., Token Contrast, CVPR 2023)."""

    def __call__(self, logits: "Tensor", batch: PixelBatch) -> "Tensor":
        nll, weights = pixel_nll(logits, batch.masks), batch.weights
        background = batch.masks == 0
        of_background = weighted_mean(nll, weights * background)
        return (of_background + weighted_mean(nll, weights * ~background)) / 2
