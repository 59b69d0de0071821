"""Class activation maps of a linear head."""

from typing import TYPE_CHECKING, Literal

from wsss.checks import full_key
from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["LinearHeadCam", "LinearHeadCamSettings"]


class LinearHeadCamSettings(Named):
    """Which head is asked."""

    name: Literal["cam"] = "cam"
    head: Literal["classes", "sub_categories"] = "classes"
    """The head for classes, or that for sub-categories of train_classifier.method: subcategory,
    whose map of a class is in every cell the highest of its sub-categories."""


@CAM_METHODS.register(LinearHeadCamSettings)
class LinearHeadCam:
    """ReLU(W F): the head applied to every cell (Zhou et al., CVPR 2016)."""

    needs_gradients = False
    output_alone: Literal[True] = True

    def __init__(self, settings: LinearHeadCamSettings) -> None:
        self.head = settings.head

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        output = model(images)
        maps = output.maps
        if self.head == "sub_categories":
            part = model.part("sub_categories", f"{full_key('method.head')}: sub_categories")
            maps = part.class_maps(output.features)
        return maps[rows, columns].relu(), output.logits
