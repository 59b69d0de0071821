"""What a training method is: images and tags to losses."""

from typing import TYPE_CHECKING, Protocol

from pydantic import NonNegativeFloat

from wsss.config.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from wsss.methods._objective import Objective

__all__ = ["Method", "MethodSettings"]


class MethodSettings(Settings):
    """What the settings of every method have: the weights of what `Objective` adds."""

    entropy_weight: NonNegativeFloat = 0
    """Of the entropy of the predicted class probabilities; 0.02 in Mixup-CAM."""
    concentration_weight: NonNegativeFloat = 0
    """Of the spread of the maps of tagged classes; 0.0002 in Mixup-CAM."""


class Method(Protocol):
    """Built from its settings; registered with `METHODS`."""

    def __call__(
        self,
        model: "nn.Module",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        rng: "np.random.Generator",
    ) -> "dict[str, Tensor]":
        """The losses of one batch.

        Args:
            model: gives a ClassifierOutput.
            images: (B, 3, H, W) float32, normalised.
            labels: (B, K) float32 multi-hot.
            objective: makes the losses of outputs and labels, regularisers included.
            rng: this step's own; all that a method draws comes from it.

        Returns:
            Scalars by name; "loss" is the one to minimise, the others are recorded.
        """
