"""Cross-entropy in which a class counts the more, the less of an image it covers."""

from typing import TYPE_CHECKING, Literal

from wsss.registry import PIXEL_LOSSES
from wsss.segment.losses._base import LossSettings, PixelBatch, PixelLoss, pixel_nll

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ClassBalanced", "ClassBalancedSettings"]


class ClassBalancedSettings(LossSettings):
    """Classes weigh (N - N_c) / (1 + N) in an image, whose N labelled pixels have N_c of them."""

    name: Literal["class_balanced"] = "class_balanced"


@PIXEL_LOSSES.register(ClassBalancedSettings)
class ClassBalanced(PixelLoss[ClassBalancedSettings]):
    """The mean over all pixels, of which unlabelled ones cost 0.

    References:
        Araslanov & Roth, Single-Stage Semantic Segmentation from Image Labels, CVPR 2020.
    """

    def __call__(self, logits: "Tensor", batch: PixelBatch) -> "Tensor":
        from wsss.models.class_balance import balance_weights

        weights = balance_weights(batch.masks, batch.labelled, logits.shape[1])
        nll = pixel_nll(logits, batch.masks)
        of_images = (weights * nll).flatten(1).mean(dim=1)
        if batch.image_weights is None:
            return of_images.mean()
        return (of_images * batch.image_weights).sum() / batch.image_weights.sum()
