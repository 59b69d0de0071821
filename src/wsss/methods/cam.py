"""Plain classification: the baseline every CAM method starts from."""

from typing import TYPE_CHECKING, Literal

from wsss.methods._base import MethodSettings
from wsss.registry import METHODS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from wsss.methods._objective import Objective

__all__ = ["Cam", "CamSettings"]


class CamSettings(MethodSettings):
    """No settings of its own."""

    name: Literal["cam"] = "cam"


@METHODS.register(CamSettings)
class Cam:
    """The classification loss on the images as they are (Zhou et al., CVPR 2016)."""

    def __init__(self, settings: CamSettings) -> None:
        self.settings = settings

    def __call__(
        self,
        model: "nn.Module",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        rng: "np.random.Generator",
    ) -> "dict[str, Tensor]":
        return objective(model(images), [(1.0, labels)], self.settings)
