"""Class activation maps of a linear head."""

from typing import TYPE_CHECKING, Literal

from wsss.config.settings import Settings
from wsss.registry import CAM_METHODS

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["LinearHeadCam", "LinearHeadCamSettings"]


class LinearHeadCamSettings(Settings):
    """No settings of its own."""

    name: Literal["cam"] = "cam"


@CAM_METHODS.register(LinearHeadCamSettings)
class LinearHeadCam:
    """ReLU(W F): the head applied to every cell (Zhou et al., CVPR 2016)."""

    needs_gradients = False

    def __init__(self, settings: LinearHeadCamSettings) -> None:
        pass

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        output = model(images)
        return output.maps[rows, columns].relu(), output.logits
