"""SEAM: the maps of an image and of its smaller copy must agree."""

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, NonNegativeFloat, PositiveInt

from wsss.methods.base import Method, Start
from wsss.methods.objective import present
from wsss.methods.pcm import CorrelationSettings
from wsss.registry import METHODS
from wsss.seeding import Step
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier

__all__ = ["Seam", "SeamSettings", "cross_consistency", "min_pool"]


class SeamSettings(CorrelationSettings):
    name: Literal["seam"] = "seam"
    channels: tuple[PositiveInt, PositiveInt] = (64, 128)
    """What the features of each of the two are reduced to."""
    embedding: PositiveInt = 192
    """Channels in which cells are compared."""
    relu: bool = True
    """After the reduction."""
    scale: float = Field(default=0.3, gt=0, le=1)
    """Side of the smaller copy, as a share of the image's, rounded to whole cells of the map."""
    equivariance_weight: NonNegativeFloat = 1
    """Weight of the difference between the maps of image and copy."""
    cross_weight: NonNegativeFloat = 1
    """Weight of the difference between the maps of one and the refined maps of the other, the sum
    over both directions."""
    min_pool_weight: NonNegativeFloat = 1
    """Weight of the scores where the refined maps are lowest, so that no class covers all."""
    top_share: float = Field(default=0.2, gt=0, le=1)
    """Share of the cross differences, the largest, that counts."""
    low_share: float = Field(default=0.25, gt=0, le=1)
    """Share of the cells, the lowest, that counts as such."""


@METHODS.register(SeamSettings)
class Seam(Method[SeamSettings]):
    """Equivariance to scale, between plain maps and those of a pixel correlation module.

    The maps of both views, of tagged classes and divided by their maxima, are compared on the
    copy's grid, and so are the maps of one view and the refined maps of the other. The
    background, of which tags and head know nothing, is 1 minus the strongest class; it is
    refined with the others and dropped in the end. The maps to use afterwards are those of the
    CAM method pcm with `maps: refined`.

    References:
        SEAM (Wang et al., CVPR 2020). Its code compares maps stretched to the copy's pixels.
    """

    def begin(self, start: Start) -> tuple[Named, ...]:
        return (self.settings.part(),)

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        settings, stride = self.settings, model.backbone.output_stride
        height, width = (
            max(1, round(length * settings.scale / stride)) * stride for length in images.shape[2:]
        )
        first, second = (
            self._view(model, view, labels, objective)
            for view in (images, self._resized(images, (height, width)))
        )
        losses = first.losses.mean_with(second.losses)
        grid = (second.maps.shape[2], second.maps.shape[3])
        maps, refined = self._resized(first.maps, grid), self._resized(first.refined, grid)
        share = settings.top_share
        equivariance = (maps - second.maps).abs().mean()
        losses.add("equivariance", equivariance, settings.equivariance_weight)
        cross = cross_consistency(second.maps, refined, share) + cross_consistency(
            maps, second.refined, share
        )
        losses.add("cross", cross, settings.cross_weight)
        lowest = (first.min_pool + second.min_pool) / 2
        losses.add("min_pool", lowest, settings.min_pool_weight)
        return losses

    def _view(
        self, model: "Classifier", images: "Tensor", labels: "Tensor", objective: "Objective"
    ) -> "_View":
        from torch.nn import functional

        from wsss.models.pcm import normalised, with_background

        output = model(images, with_stages=True)
        scaled, tags = normalised(output.maps), present(labels)[:, :, None, None]
        # untagged classes compete too, as the CAM method, which has no tags, lets them
        refined = model.parts["pcm"](images, output.stages, with_background(scaled))
        return _View(
            objective(output, [(1.0, labels)], self.settings),
            scaled * tags,
            normalised(refined) * functional.pad(tags, (0, 0, 0, 0, 1, 0), value=1),
            min_pool(refined[:, 1:] * tags, self.settings.low_share),
        )

    def _resized(self, maps: "Tensor", size: tuple[int, int]) -> "Tensor":
        from torch.nn import functional

        return functional.interpolate(
            maps, size, mode="bilinear", align_corners=self.settings.align_corners
        )


class _View(NamedTuple):
    """What one of the two views gives.

    `maps` (B, L, h, w) and `refined` (B, 1 + L, h, w), the background first, are in [0, 1] and 0
    where an image has not the tag.
    """

    losses: "Losses"
    maps: "Tensor"
    refined: "Tensor"
    min_pool: "Tensor"


def cross_consistency(maps: "Tensor", refined: "Tensor", top_share: float) -> "Tensor":
    """Mean of the largest differences between one view's maps and the other's refined maps.

    Args:
        maps: (B, L, h, w) in [0, 1]; taken as given, without a gradient. In each cell the
            strongest class alone counts, and the background, which is 1 minus that class.
        refined: (B, 1 + L, h, w) in [0, 1], the background first.
        top_share: of an image's (1 + L) h w differences, in (0, 1]; at least one counts.

    Returns:
        A scalar.
    """
    from wsss.models.pcm import with_background

    differences = (with_background(maps) - refined).abs().flatten(1)
    count = max(1, int(top_share * differences.shape[1]))
    return differences.topk(count, dim=1).values.mean()


def min_pool(maps: "Tensor", low_share: float) -> "Tensor":
    """Mean of the lowest scores that the strongest classes of cells have.

    Args:
        maps: (B, L, h, w), at least 0.
        low_share: of an image's h w cells, in (0, 1]; at least one counts.

    Returns:
        A scalar.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[[0.1, 0.2, 0.0, 0.9]], [[0.3, 0.1, 0.4, 0.5]]]])
        >>> min_pool(maps, 0.5)
        tensor(0.2500)
    """
    strongest = maps.amax(dim=1).flatten(1)
    count = max(1, int(low_share * strongest.shape[1]))
    return strongest.topk(count, dim=1, largest=False).values.mean()
