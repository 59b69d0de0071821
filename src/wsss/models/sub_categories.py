"""A second head that tells sub-categories apart, beside the one for classes."""

from typing import Literal

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import PARTS
from wsss.settings import Named

__all__ = ["SubCategoryHead", "SubCategoryHeadSettings"]


class SubCategoryHeadSettings(Named):
    """How many sub-categories there are; found by clustering, not typed by hand."""

    name: Literal["sub_categories"] = "sub_categories"
    counts: tuple[NonNegativeInt, ...] = Field(min_length=1)
    """K_c of each class, extra ones included; 0 for a class without an image."""


@PARTS.register(SubCategoryHeadSettings)
class SubCategoryHead(nn.Module):
    """A 1x1 convolution without bias, whose outputs are the blocks of all classes in order.

    Args:
        settings: the size of each class's block.
        backbone: gives the features.
        num_outputs: L, classes of the main head.

    Raises:
        ValueError: there is not one block for each class, or all are empty.

    References:
        Sub-category exploration (Chang et al., CVPR 2020).
    """

    def __init__(
        self, settings: SubCategoryHeadSettings, backbone: TimmBackbone, num_outputs: int
    ) -> None:
        super().__init__()
        self.counts = settings.counts
        if len(self.counts) != num_outputs or not any(self.counts):
            raise ValueError(
                f"the part 'sub_categories' needs a number of sub-categories for each of "
                f"{num_outputs} classes, not all of them 0, but has {self.counts}"
            )
        self.head = nn.Conv2d(backbone.num_features, sum(self.counts), 1, bias=False)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, h, w) features to (B, sum of counts, h, w) maps."""
        maps: Tensor = self.head(features)
        return maps

    def class_maps(self, features: Tensor) -> Tensor:
        """(B, L, h, w): in every cell the highest of a class's block; 0 for an empty block."""
        empty = features.new_zeros(len(features), *features.shape[2:])
        blocks = self(features).split(self.counts, dim=1)
        return torch.stack(
            [block.amax(dim=1) if block.shape[1] else empty for block in blocks], dim=1
        )
