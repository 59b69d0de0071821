"""DeepLabV2 on any backbone of the classifier."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from wsss.checks import full_key
from wsss.config.sections import BackboneSettings
from wsss.registry import NETWORKS
from wsss.segment.networks._base import NetworkPlan, NetworkSettings

if TYPE_CHECKING:
    from wsss.models.deeplabv2 import DeepLabV2

__all__ = ["DeepLabV2Settings", "make_deeplabv2"]


class DeepLabV2Settings(NetworkSettings):
    """Parallel dilated convolutions on the features of a timm model, or of resnet38d."""

    encoder_is: ClassVar[Literal["chosen", "own", "frozen"]] = "chosen"

    name: Literal["deeplabv2"] = "deeplabv2"
    output_stride: PositiveInt = 8
    """Image pixels per cell of the encoder's last map: 8, 16 or 32 of most convolutional networks,
    the side of a patch of a vision transformer."""
    rates: tuple[PositiveInt, ...] = Field(default=(6, 12, 18, 24), min_length=1)
    """Dilations of the 3x3 convolutions, in cells; their logits are summed."""

    def backbones_for(
        self, encoder: str, classifier: BackboneSettings
    ) -> tuple[BackboneSettings, ...]:
        """The classifier's, or a timm model by its name, with or without tu- before it."""
        stride = {"output_stride": self.output_stride, "weights": "none"}
        plain = {"frozen_stages": 0, "freeze_batchnorm": False}  # the segmenter has its own
        if encoder == "classifier":
            return (classifier.model_copy(update=stride | plain),)
        name = encoder.removeprefix("tu-")
        return (BackboneSettings(model_name=name, output_stride=self.output_stride),)


@NETWORKS.register(DeepLabV2Settings)
def make_deeplabv2(settings: DeepLabV2Settings, plan: NetworkPlan) -> "DeepLabV2":
    """A network with random values."""
    from wsss.models.deeplabv2 import DeepLabV2
    from wsss.models.timm_backbone import TimmBackbone

    try:
        backbone = TimmBackbone(plan.backbones[0], load_weights=False)
    except ValueError as error:
        text = str(error).replace("backbone.model_name", full_key("model.encoder"))
        place = full_key("model.arch_kwargs")
        raise ValueError(text.replace("backbone.", f"{place}.")) from None
    return DeepLabV2(plan.num_classes, backbone, settings.rates)
