"""What a training method is: images and tags to a loss."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Method"]


class Method(Protocol):
    """Built from its settings; registered with `METHODS`."""

    def __call__(
        self,
        model: "nn.Module",
        images: "Tensor",
        labels: "Tensor",
        classification_loss: "Callable[[Tensor, Tensor], Tensor]",
    ) -> "dict[str, Tensor]":
        """The losses of one batch.

        Args:
            model: gives a ClassifierOutput.
            images: (B, 3, H, W) float32, normalised.
            labels: (B, K) float32 multi-hot.
            classification_loss: of (logits, labels), a scalar.

        Returns:
            Scalars by name; "loss" is the one to minimise, the others are recorded.
        """
