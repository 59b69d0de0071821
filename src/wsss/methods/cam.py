"""Plain classification: the baseline every CAM method starts from."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from wsss.config.settings import Settings
from wsss.registry import METHODS

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Cam", "CamSettings"]


class CamSettings(Settings):
    """No settings of its own."""

    name: Literal["cam"] = "cam"


@METHODS.register(CamSettings)
class Cam:
    """The classification loss alone (Zhou et al., CVPR 2016)."""

    def __init__(self, settings: CamSettings) -> None:
        pass

    def __call__(
        self,
        model: "nn.Module",
        images: "Tensor",
        labels: "Tensor",
        classification_loss: "Callable[[Tensor, Tensor], Tensor]",
    ) -> "dict[str, Tensor]":
        return {"loss": classification_loss(model(images).logits, labels)}
