"""Tags as a loss of pooled probabilities."""

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from wsss.registry import TAG_FORMS
from wsss.seeding import Step
from wsss.segment.forms._base import Lesson, Predict, TagForm, TrainBatch
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TagLoss", "TagLossSettings", "lse_pool"]


class TagLossSettings(Named):
    """A class's probabilities, pooled over the crop, learn the tag by binary cross-entropy.

    A crop may miss what its image is tagged with: take crops nearly as large as the images.
    """

    name: Literal["tag_loss"] = "tag_loss"
    weight: NonNegativeFloat = 0.5
    """Of the loss of tags, beside that of labelled pixels."""
    sharpness: PositiveFloat = 20
    """r of log-sum-exp pooling: the mean where it is near 0, the largest where it is large."""


@TAG_FORMS.register(TagLossSettings)
class TagLoss(TagForm[TagLossSettings]):
    """Log-sum-exp pooling of the softmax (Pinheiro & Collobert, CVPR 2015) of images without a
    whole mask; unknown tags have no loss."""

    def __call__(self, model: Any, predict: Predict, batch: TrainBatch, step: Step) -> Lesson:
        del predict, step
        logits: Tensor = model(batch.images)
        rows = batch.rows()
        loss = batch.images.new_zeros(())
        if len(rows):
            probs = logits[rows].float().softmax(dim=1)[:, 1:]
            pooled = lse_pool(probs, batch.inside[rows], self.settings.sharpness)
            loss = self.settings.weight * tag_cross_entropy(pooled, batch.labels[rows])
        return Lesson(logits, batch.images, batch.masks, batch.inside, {"tag_loss": loss})


def lse_pool(values: "Tensor", inside: "Tensor", sharpness: float) -> "Tensor":
    """(1 / r) ln mean exp(r v) over the pixels of a map.

    Args:
        values: (B, K, H, W) float32.
        inside: (B, H, W) bool: the pixels that count, at least one of each image.
        sharpness: r, above 0.

    Returns:
        (B, K), between the mean and the largest of the values.

    Example:
        >>> import torch
        >>> values = torch.tensor([0.1, 0.2, 0.9, 0.4]).view(1, 1, 2, 2)
        >>> everywhere = torch.ones(1, 2, 2, dtype=torch.bool)
        >>> [round(lse_pool(values, everywhere, r).item(), 6) for r in (20, 1)]
        [0.830688, 0.450757]
    """
    scaled = (sharpness * values).masked_fill(~inside[:, None], -math.inf).flatten(2)
    count = inside.flatten(1).sum(dim=1, keepdim=True)
    return (scaled.logsumexp(dim=2) - count.log()) / sharpness


def tag_cross_entropy(probs: "Tensor", labels: "Tensor") -> "Tensor":
    """Binary cross-entropy averaged over the tags that are known; 0 if there are none.

    Args:
        probs: (B, K) float32 in [0, 1].
        labels: (B, K) of any precision in [0, 1], NaN where unknown.
    """
    import torch
    from torch.nn import functional

    known = ~labels.isnan()
    with torch.autocast(probs.device.type, enabled=False):
        cost = functional.binary_cross_entropy(
            probs.float().clamp(0, 1), labels.float().nan_to_num(), reduction="none"
        )
    return (cost * known).sum() / known.sum().clamp(min=1)
