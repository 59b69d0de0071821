"""Pairs of images mixed into one, and the losses of the mixture."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat

from wsss.methods.objective import MethodSettings

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import ClassifierOutput

__all__ = ["Mix", "MixSettings", "draw_mix", "mixed_losses"]


class MixSettings(MethodSettings):
    """What the mixing methods share; the regularisers are those of Mixup-CAM, 0 is without."""

    entropy_weight: NonNegativeFloat = 0.02
    """Weight of the entropy of the predicted class probabilities."""
    concentration_weight: NonNegativeFloat = 2e-4
    """Weight of the spread of the maps of tagged classes."""
    alpha: PositiveFloat = 0.2
    """Shares are drawn from Beta(alpha, alpha): near 0 or 1 if small, uniform at 1."""
    compat_entropy: bool = False
    """Takes the entropy of the labels, as mva-wsss does, for which it is a constant without
    gradient; false is of the logits."""


@dataclass(frozen=True)
class Mix:
    """Each image of a batch with a partner.

    Attributes:
        share: of the image itself, in [0, 1]; the partner has the rest.
        order: (B,) a permutation: the partners.
    """

    share: float
    order: "Tensor"

    def blend(self, values: "Tensor") -> "Tensor":
        """Weighted sums of the (B, ...) values and their partners'."""
        return self.share * values + (1 - self.share) * values[self.order]


def draw_mix(images: "Tensor", alpha: float, rng: np.random.Generator) -> Mix:
    """One share and one permutation for a batch of images; `order` lies on their device."""
    import torch

    share = float(rng.beta(alpha, alpha))
    return Mix(share, torch.from_numpy(rng.permutation(len(images))).to(images.device))


def mixed_losses(
    objective: "Objective",
    output: "ClassifierOutput",
    labels: "Tensor",
    mix: Mix,
    settings: MixSettings,
) -> "Losses":
    """Losses towards an image's labels and its partner's, by their shares.

    Args:
        objective: makes the losses.
        output: of the mixed images.
        labels: (B, K) of the images before they were mixed; see `Method.__call__`.
        mix: how they were.
        settings: of the method.
    """
    targets = [(mix.share, labels), (1 - mix.share, labels[mix.order])]
    entropy_of = targets if settings.compat_entropy else None
    return objective(output, targets, settings, entropy_of=entropy_of)
