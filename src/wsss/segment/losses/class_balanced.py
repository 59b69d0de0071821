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
        labelled, classes = batch.labelled, logits.shape[1]
        labels = batch.masks.where(labelled, 0).flatten(1)  # (B, H*W)
        counts = logits.new_zeros(len(labels), classes).float()
        counts.scatter_add_(1, labels, labelled.flatten(1).float())  # (B, C)
        total = counts.sum(dim=1, keepdim=True)
        weights = ((total - counts) / (1 + total)).gather(1, labels)
        nll = pixel_nll(logits, batch.masks).flatten(1)
        of_images = (weights * nll).mean(dim=1)
        if batch.image_weights is None:
            return of_images.mean()
        return (of_images * batch.image_weights).sum() / batch.image_weights.sum()
