"""Mixup-CAM: classification of blended images, which widens what the maps cover."""

from typing import TYPE_CHECKING, Literal

from wsss.methods._mixing import MixSettings, draw_mix, mixed_losses
from wsss.methods.base import Method
from wsss.registry import METHODS
from wsss.seeding import Step

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier

__all__ = ["Mixup", "MixupSettings"]


class MixupSettings(MixSettings):
    """Those of all mixing methods."""

    name: Literal["mixup"] = "mixup"


@METHODS.register(MixupSettings)
class Mixup(Method[MixupSettings]):
    """Images blended pixel by pixel, one share per batch.

    References:
        Mixup (Zhang et al., ICLR 2018), for CAMs in Mixup-CAM (Chang et al., BMVC 2020).
    """

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        mix = draw_mix(images, self.settings.alpha, step.rng)
        return mixed_losses(objective, model(mix.blend(images)), labels, mix, self.settings)
