"""What a CAM method is."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["CamMethod"]


class CamMethod(Protocol):
    """Built from its settings; registered with `CAM_METHODS`."""

    needs_gradients: bool
    """Whether maps come from gradients, so that a call must not be in inference mode."""

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """Raw maps of one batch at one scale, for the wanted images and classes alone.

        Args:
            model: in eval mode.
            images: (B, 3, H, W) float32, normalised.
            rows: (P,) int64, the image of each wanted map, in order.
            columns: (P,) int64 in 0..K-1, its class.

        Returns:
            (P, h, w) maps without a gradient, at least 0, that add up over scales; and (B, K)
            logits.
        """
