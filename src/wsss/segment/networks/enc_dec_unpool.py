"""The encoder and decoder with unpooling of SegNet."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from wsss.config.sections import BackboneSettings
from wsss.registry import NETWORKS
from wsss.segment.networks._base import NetworkPlan, NetworkSettings

if TYPE_CHECKING:
    from wsss.models.enc_dec_unpool import EncDecUnpool

__all__ = ["EncDecUnpoolSettings", "make_enc_dec_unpool"]


class EncDecUnpoolSettings(NetworkSettings):
    """VGG-16 with batch norm, and its mirror image."""

    name: Literal["enc_dec_unpool"] = "enc_dec_unpool"
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of values that are set to 0 behind each of the five unpoolings."""
    widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (
        *(64, 128, 256),
        *(512, 512),
    )
    """Channels of the five stages; weights of vgg16_bn fit these alone."""

    def backbones_for(
        self, encoder: str, classifier: BackboneSettings
    ) -> tuple[BackboneSettings, ...]:
        """That whose weights fit."""
        del encoder, classifier
        return (BackboneSettings(model_name="vgg16_bn", output_stride=32),)


@NETWORKS.register(EncDecUnpoolSettings)
def make_enc_dec_unpool(settings: EncDecUnpoolSettings, plan: NetworkPlan) -> "EncDecUnpool":
    """A network with random values."""
    from wsss.models.enc_dec_unpool import EncDecUnpool

    return EncDecUnpool(plan.num_classes, settings.widths, settings.dropout)
