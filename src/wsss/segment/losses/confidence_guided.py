"""Cross-entropy that listens less to labels which the network finds unlikely."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

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

__all__ = ["ConfidenceGuided", "ConfidenceGuidedSettings"]


class ConfidenceGuidedSettings(LossSettings):
    """Pixels learn as by cross-entropy, times the probability p of their label to a power."""

    name: Literal["confidence_guided"] = "confidence_guided"
    power: float = Field(default=0.7, gt=0, le=1)
    """Near 0 it is cross-entropy; at 1 the mean absolute error, which trusts least. 0.7 is the
    authors'."""


@PIXEL_LOSSES.register(ConfidenceGuidedSettings)
class ConfidenceGuided(PixelLoss[ConfidenceGuidedSettings]):
    """The generalised cross-entropy (1 - p^power) / power, for labels with mistakes.

    Its gradient is p^power times that of cross-entropy: pseudo labels that the network comes to
    find unlikely fade out.

    References:
        Zhang & Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with
        Noisy Labels, NeurIPS 2018.
    """

    def __call__(self, logits: "Tensor", batch: PixelBatch) -> "Tensor":
        power = self.settings.power
        cost = -(-power * pixel_nll(logits, batch.masks)).expm1() / power
        return weighted_mean(cost, batch.weights)
