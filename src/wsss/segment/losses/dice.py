"""The Dice loss: overlap of each class, whatever its size."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from wsss.registry import PIXEL_LOSSES
from wsss.segment.losses._base import LossSettings, PixelBatch, PixelLoss, weighted_mean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Dice", "DiceSettings"]


class DiceSettings(LossSettings):
    """1 - Dice of probabilities and labels, averaged over the classes that the batch has."""

    name: Literal["dice"] = "dice"
    smooth: NonNegativeFloat = 1
    """Pixels that are added to twice the overlap and to the sum of sizes."""


@PIXEL_LOSSES.register(DiceSettings)
class Dice(PixelLoss[DiceSettings]):
    """The soft Dice loss (Milletari et al., V-Net, 2016) of classes with labelled pixels."""

    def __call__(self, logits: "Tensor", batch: PixelBatch) -> "Tensor":
        probs = logits.float().softmax(dim=1)
        labels, weights = batch.masks.where(batch.labelled, 0), batch.weights
        if batch.image_weights is not None:  # `smooth` is in pixels: so are they on average
            weights = weights / weighted_mean(weights, batch.labelled).clamp(min=1e-6)
        of_label = probs.gather(1, labels[:, None])[:, 0] * weights  # (B, H, W)
        predicted = (probs * weights[:, None]).sum(dim=(0, 2, 3))  # (C,)
        labels = labels.flatten()
        empty = predicted.new_zeros(len(predicted))
        overlap = empty.index_add(0, labels, of_label.flatten())
        sizes = empty.index_add(0, labels, weights.flatten())
        smooth = self.settings.smooth
        present = (sizes > 0).float()
        dice = (2 * overlap + smooth) / (predicted + sizes + smooth).where(sizes > 0, 1)
        return ((1 - dice) * present).sum() / present.sum().clamp(min=1)
