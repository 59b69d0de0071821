"""Scores that walk within the boundaries that a trained IRN sees."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from wsss.artifacts import ScoreMap
from wsss.refine._base import Context, OneByOne
from wsss.refine._windows import peak_normalised
from wsss.refine.affinity_labels import AffinityLabelSettings
from wsss.refine.random_walk import WalkSettings, pair_offsets, path_affinities, random_walk
from wsss.registry import AFFINITIES, REFINERS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.config.sections import BackboneSettings
    from wsss.models.irn import Irn

__all__ = ["IrnLearnerSettings", "IrnSettings", "IrnWalk", "make_irn"]


class IrnLearnerSettings(Named, AffinityLabelSettings):
    """An IRN and what it learns from: pairs of cells on the grid of the backbone's first stage."""

    name: Literal["irn"] = "irn"
    kind: Literal["irn"] = "irn"
    """How the labels are made."""
    radius: int = Field(default=10, ge=2)
    """Pairs are of cells nearer to one another than this, in cells."""


@AFFINITIES.register(IrnLearnerSettings)
def make_irn(settings: IrnLearnerSettings, backbone: "BackboneSettings") -> "Irn":
    """A network to train."""
    from wsss.models.irn import Irn

    del settings
    return Irn(backbone)


class IrnSettings(WalkSettings):
    """Which network, and how far scores walk; the defaults are IRN's."""

    name: Literal["irn"] = "irn"
    trained_by: ClassVar[str] = "irn"
    network: str = Field(default="irn", min_length=1)
    """A name in train_affinities, with the method irn."""
    beta: PositiveFloat = 10
    """Power of the affinities: a larger one keeps scores nearer to where they are."""
    flip: bool = True
    """Boundaries are also looked for in the mirrored image."""


@REFINERS.register(IrnSettings)
class IrnWalk(OneByOne):
    """Scores of cells that are no boundary walk to cells that no boundary is between.

    All classes are divided by one greatest score at the end. There is no background in the walk:
    it is where no score exceeds the threshold, 0.25 as published, that evaluation selects. The
    result has the grid of the network's boundaries.

    Raises:
        ValueError: there is no such network; train_affinities makes it.

    References:
        Ahn, Cho & Kwak, Weakly Supervised Learning of Instance Segmentation with Inter-pixel
        Relations, CVPR 2019.
    """

    def __init__(self, settings: IrnSettings, context: Context) -> None:
        from wsss.models.irn import load_irn

        self.settings = settings
        self.offsets = pair_offsets(settings.radius)
        self.network = load_irn(context.affinities / settings.network).to(context.device())

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        return [peak_normalised(map_) for map_ in self.unnormalised(images, score_maps, names)]

    def unnormalised(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        """As `__call__`, but for the division."""
        return super().__call__(images, score_maps, names)

    def boundary(self, image: np.ndarray) -> "Tensor":
        """(h, w) float32 in [0, 1] of an (H, W, 3) uint8 image."""
        from wsss.models.affinity_net import network_input

        pixels = network_input(image, self.network.backbone)
        logits = self.network.boundary_logits(pixels)
        if self.settings.flip:
            logits = (logits + self.network.boundary_logits(pixels.flip(-1)).flip(-1)) / 2
        return logits[0].sigmoid()

    def refined(self, image: np.ndarray, score_map: ScoreMap) -> ScoreMap:
        import torch
        from torch.nn import functional

        settings = self.settings
        with torch.inference_mode():
            boundary = self.boundary(image)
            scores = torch.from_numpy(np.ascontiguousarray(score_map.full_scores()))
            scores = scores.to(boundary.device)
            height, width = boundary.shape
            cells = functional.adaptive_avg_pool2d(scores, (height, width))
            walked = random_walk(
                cells * (1 - boundary),
                path_affinities(boundary, self.offsets),
                self.offsets,
                beta=settings.beta,
                steps=settings.steps,
            )
        return replace(score_map, scores=walked.clamp(0, 1).cpu().numpy())
