"""Plain classification: the baseline every CAM method starts from."""

from typing import TYPE_CHECKING, Literal

from wsss.methods.base import Method
from wsss.methods.objective import MethodSettings
from wsss.registry import METHODS
from wsss.seeding import Step

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier

__all__ = ["Cam", "CamSettings"]


class CamSettings(MethodSettings):
    """No settings of its own."""

    name: Literal["cam"] = "cam"


@METHODS.register(CamSettings)
class Cam(Method[CamSettings]):
    """The classification loss on the images as they are (Zhou et al., CVPR 2016)."""

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        return objective(model(images), [(1.0, labels)], self.settings)
