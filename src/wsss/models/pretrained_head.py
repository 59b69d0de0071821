"""The head that a backbone's weights came with, such as that of 1000 ImageNet classes."""

from typing import Literal

import torch
from torch import Tensor, nn

from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import PARTS
from wsss.settings import Named

__all__ = ["PretrainedHead", "PretrainedHeadSettings"]


class PretrainedHeadSettings(Named):
    """Made by the training method `pretrained`."""

    name: Literal["pretrained_head"] = "pretrained_head"


@PARTS.register(PretrainedHeadSettings)
class PretrainedHead(nn.Module):
    """The weights' own linear layer, applied to every cell; it is never trained.

    Args:
        settings: none of its own.
        backbone: gives the features, and knows the head; random values if it has no weights.
        num_outputs: of the classifier's own head; not used.

    Raises:
        ValueError: the head does not take the features of the map, as where the network has
            further layers between the two.
    """

    def __init__(
        self, settings: PretrainedHeadSettings, backbone: TimmBackbone, num_outputs: int
    ) -> None:
        super().__init__()
        del settings, num_outputs
        head = backbone.pretrained_head()
        classes = backbone.net.pretrained_cfg.get("num_classes", 1000)
        if head is not None and head[0].shape[1:] != (backbone.num_features,):
            raise ValueError(
                f"the method 'pretrained' needs a head on the {backbone.num_features} features of "
                f"the map, but that of {type(backbone.net).__name__} has weights of shape "
                f"{tuple(head[0].shape)}; choose a network that pools its map for one linear layer"
            )
        self.conv = nn.Conv2d(
            backbone.num_features, classes if head is None else len(head[0]), 1
        ).requires_grad_(False)
        if head is not None:
            with torch.no_grad():
                self.conv.weight.copy_(head[0][:, :, None, None])
                self.conv.bias.copy_(head[1])  # type: ignore[union-attr]

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, h, w) features to (B, h, w): the map of each image's most likely class."""
        maps = self.conv(features)
        best = maps.mean(dim=(2, 3)).argmax(dim=1)
        chosen: Tensor = maps[torch.arange(len(maps), device=maps.device), best]
        return chosen
