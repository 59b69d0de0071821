"""What a CAM method is."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["CamMethod"]


class CamMethod(Protocol):
    """Built from its settings; registered with `CAM_METHODS`."""

    def __call__(self, model: "Classifier", images: "Tensor") -> "tuple[Tensor, Tensor]":
        """Raw maps of one batch at one scale.

        Args:
            model: in eval mode.
            images: (B, 3, H, W) float32, normalised.

        Returns:
            (B, K, h, w) non-negative maps and (B, K) logits.
        """
