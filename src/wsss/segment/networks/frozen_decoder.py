"""A light decoder on backbones that never learn."""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from wsss.checks import full_key
from wsss.config.sections import BackboneSettings, FixedBackbone
from wsss.registry import NETWORKS
from wsss.segment.networks._base import NetworkPlan, NetworkSettings

if TYPE_CHECKING:
    from wsss.models.frozen_decoder import FrozenDecoder

__all__ = ["FrozenDecoderSettings", "make_frozen_decoder"]


class FrozenDecoderSettings(NetworkSettings):
    """Each block of a backbone through a linear layer, all fused, then a transformer."""

    encoder_is: ClassVar[Literal["chosen", "own", "frozen"]] = "frozen"

    name: Literal["frozen_decoder"] = "frozen_decoder"
    backbones: tuple[FixedBackbone, ...] = Field(default=("classifier",))
    """One or two: 'classifier', as train_classifier left it, or any timm model with the keys of
    train_classifier.backbone."""
    width: PositiveInt = 256
    """Channels that each block is brought to, and of the transformer."""
    layers: PositiveInt = 3
    """Of the transformer."""
    heads: PositiveInt = 8
    """Of its attention; they divide the width."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"heads is {self.heads}, which does not divide width, {self.width}; set width to "
                f"{self.width + self.heads - self.width % self.heads}"
            )
        if len(self.backbones) not in (1, 2):
            raise ValueError(f"backbones has {len(self.backbones)} entries; give one or two")
        if self.backbones.count("classifier") > 1:
            raise ValueError("backbones names 'classifier' twice; give it once")
        return self

    def backbones_for(
        self, encoder: str, classifier: BackboneSettings
    ) -> tuple[BackboneSettings, ...]:
        """Those that are named."""
        del encoder
        return tuple(classifier if item == "classifier" else item for item in self.backbones)


@NETWORKS.register(FrozenDecoderSettings)
def make_frozen_decoder(settings: FrozenDecoderSettings, plan: NetworkPlan) -> "FrozenDecoder":
    """A network whose decoder has random values."""
    from wsss.models.classifier import load_classifier
    from wsss.models.frozen_backbones import FrozenBackbones
    from wsss.models.frozen_decoder import FrozenDecoder
    from wsss.models.timm_backbone import TimmBackbone

    backbones = []
    for at, (item, found) in enumerate(zip(settings.backbones, plan.backbones, strict=True)):
        if item == "classifier" and plan.classifier is not None:
            backbone = load_classifier(plan.classifier)[0].backbone
            backbone.weights_source = "classifier"
        else:
            try:
                backbone = TimmBackbone(found, load_weights=plan.classifier is not None)
            except ValueError as error:
                place = full_key(f"model.arch_kwargs.backbones.{at}")
                raise ValueError(str(error).replace("backbone.", f"{place}.")) from None
        backbones.append(backbone)
    encoder = FrozenBackbones(backbones, plan.normalisation)
    return FrozenDecoder(plan.num_classes, encoder, settings.width, settings.layers, settings.heads)
