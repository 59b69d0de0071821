"""Scores that walk where a trained AffinityNet sees one thing (PSA)."""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from wsss.artifacts import ScoreMap
from wsss.artifacts.background import power_background
from wsss.refine._base import Context, OneByOne
from wsss.refine.affinity_labels import AffinityLabelSettings
from wsss.refine.random_walk import (
    WalkSettings,
    cells_with_partner,
    moved,
    pair_offsets,
    random_walk,
)
from wsss.registry import AFFINITIES, REFINERS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.config.sections import BackboneSettings
    from wsss.models.affinity_net import AffinityNet

__all__ = [
    "AffinityNetSettings",
    "AffinityNetWalk",
    "PsaSettings",
    "make_affinity_net",
    "pair_affinities",
]


class PsaSettings(Named, AffinityLabelSettings):
    """An AffinityNet and what it learns from: pairs of cells on the grid of its features."""

    name: Literal["psa"] = "psa"
    kind: Literal["psa"] = "psa"
    """How the labels are made."""
    radius: int = Field(default=5, ge=2)
    """Pairs are of cells nearer to one another than this, in cells."""
    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 128, 256)
    """Channels that the backbone's last three stages are reduced to; the sum is compared."""


@AFFINITIES.register(PsaSettings)
def make_affinity_net(settings: PsaSettings, backbone: "BackboneSettings") -> "AffinityNet":
    """A network to train."""
    from wsss.models.affinity_net import AffinityNet

    return AffinityNet(backbone, settings.widths)


class AffinityNetSettings(WalkSettings):
    """Which network, and how far scores walk; the defaults are PSA's."""

    name: Literal["affinity_net"] = "affinity_net"
    leads_from: ClassVar[float | None] = 0.5
    trained_by: ClassVar[str] = "psa"
    network: str = Field(default="affinity_net", min_length=1)
    """A name in train_affinities, with the method psa."""
    alpha: PositiveFloat = 16
    """Exponent of the background (1 - max)^alpha that walks along: larger means less of it."""
    beta: PositiveFloat = 8
    """Power of the affinities: a larger one keeps scores nearer to where they are."""


def pair_affinities(features: "Tensor", offsets: np.ndarray) -> "Tensor":
    """AffinityNet's affinities: exp(-mean_d |f_i - f_j|) of cells i and j an offset apart.

    Args:
        features: (B, D, h, w). Gradients flow back to it.
        offsets: (K, 2) of (dy, dx), as `pair_offsets` has them.

    Returns:
        (B, K, h, w) float32 in [0, 1]; 0 where there is no pair.

    References:
        Ahn & Kwak, CVPR 2018.

    Example:
        >>> import torch
        >>> features = torch.tensor([[[[0.0, 1.0, 1.0]]]])
        >>> pair_affinities(features, np.array([[0, 1]]))
        tensor([[[[0.3679, 1.0000, 0.0000]]]])
    """
    import torch
    from torch.nn import functional

    features = features.float()
    height, width = features.shape[2:]
    affinities = []
    for dy, dx in offsets.tolist():
        cells = cells_with_partner(dy, dx, height, width)
        difference = features[..., *cells] - features[..., *moved(cells, dy, dx)]
        rows, columns = cells
        around = (columns.start, width - columns.stop, 0, height - rows.stop)
        affinities.append(functional.pad((-difference.abs().mean(dim=1)).exp(), around))
    return torch.stack(affinities, dim=1)


@REFINERS.register(AffinityNetSettings)
class AffinityNetWalk(OneByOne):
    """Scores, averaged over cells of the network's features, walk between cells of one thing.

    The background (1 - max)^alpha walks as a class of its own and is folded away afterwards, as
    s / (max s + background), so that the winner of the walk is what a threshold of 0.5 gives. The
    result has the network's grid.

    Raises:
        ValueError: there is no such network; train_affinities makes it.

    References:
        Ahn & Kwak, Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
        Supervised Semantic Segmentation, CVPR 2018.
    """

    def __init__(self, settings: AffinityNetSettings, context: Context) -> None:
        from wsss.models.affinity_net import load_affinity_net

        self.settings = settings
        self.offsets = pair_offsets(settings.radius)
        self.network = load_affinity_net(context.affinities / settings.network)
        self.network = self.network.to(context.device())

    def refined(self, image: np.ndarray, score_map: ScoreMap) -> ScoreMap:
        import torch
        from torch.nn import functional

        from wsss.models.affinity_net import network_input

        settings = self.settings
        with torch.inference_mode():
            features = self.network(network_input(image, self.network.backbone))
            affinities = pair_affinities(features, self.offsets)[0]
            scores = torch.from_numpy(np.ascontiguousarray(score_map.full_scores()))
            scores = scores.to(features.device)
            background = power_background(scores.amax(dim=0, keepdim=True), settings.alpha)
            cells = functional.adaptive_avg_pool2d(
                torch.cat([background, scores]), features.shape[2:]
            )
            walked = random_walk(
                cells, affinities, self.offsets, beta=settings.beta, steps=settings.steps
            )
            best = walked[1:].amax(dim=0)
            folded = walked[1:] / (best + walked[0]).clamp_min(1e-12)
        return replace(score_map, scores=folded.clamp(0, 1).cpu().numpy())
