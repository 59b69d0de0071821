"""A small U-Net that starts from random values."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from wsss.registry import NETWORKS
from wsss.segment.networks._base import NetworkPlan, NetworkSettings

if TYPE_CHECKING:
    from wsss.models.unet_small import SmallUnet

__all__ = ["SmallUnetSettings", "make_unet_small"]


class SmallUnetSettings(NetworkSettings):
    """As many levels as widths, each at half the size of the one before."""

    pretrained: ClassVar[bool] = False

    name: Literal["unet_small"] = "unet_small"
    widths: tuple[PositiveInt, ...] = Field(default=(32, 64, 128, 256), min_length=2)
    """Channels of the encoder's maps, from the size of the image down."""


@NETWORKS.register(SmallUnetSettings)
def make_unet_small(settings: SmallUnetSettings, plan: NetworkPlan) -> "SmallUnet":
    """A network with random values."""
    from wsss.models.unet_small import SmallUnet

    return SmallUnet(plan.num_classes, settings.widths)
