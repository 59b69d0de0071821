"""Class activation maps of the classes that the backbone's weights know."""

from typing import TYPE_CHECKING, Literal

from wsss.checks import full_key
from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["PretrainedCam", "PretrainedCamSettings"]


class PretrainedCamSettings(Named):
    """No settings of its own."""

    name: Literal["pretrained"] = "pretrained"


@CAM_METHODS.register(PretrainedCamSettings)
class PretrainedCam:
    """The map of the most likely class among those of the weights, for every tag of the image.

    It suits images of one object: an ImageNet network sees some breed of dog where the tag says
    dog. Tags of one image cannot be told apart.
    """

    needs_gradients = False
    output_alone: Literal[True] = True

    def __init__(self, settings: PretrainedCamSettings) -> None:
        pass

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        part = model.part("pretrained_head", f"{full_key('method')}: pretrained")
        output = model(images)
        return part(output.features).relu()[rows], output.logits
