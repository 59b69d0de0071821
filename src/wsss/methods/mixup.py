"""Mixup-CAM: classification of blended images, which widens what the maps cover."""

from typing import TYPE_CHECKING, Literal

from wsss.methods._mixing import MixSettings, draw_mix, mixed_losses
from wsss.registry import METHODS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from wsss.methods._objective import Objective

__all__ = ["Mixup", "MixupSettings"]


class MixupSettings(MixSettings):
    """Those of all mixing methods."""

    name: Literal["mixup"] = "mixup"


@METHODS.register(MixupSettings)
class Mixup:
    """Images blended pixel by pixel, one share per batch.

    References:
        Mixup (Zhang et al., ICLR 2018), for CAMs in Mixup-CAM (Chang et al., BMVC 2020).
    """

    def __init__(self, settings: MixupSettings) -> None:
        self.settings = settings

    def __call__(
        self,
        model: "nn.Module",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        rng: "np.random.Generator",
    ) -> "dict[str, Tensor]":
        mix = draw_mix(images, self.settings.alpha, rng)
        return mixed_losses(objective, model(mix.blend(images)), labels, mix, self.settings)
