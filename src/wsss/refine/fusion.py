"""One score map of several: of other classifiers, other CAM methods, other settings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat

from wsss.artifacts import ScoreMap, read_further_map
from wsss.checks import check_values, full_key
from wsss.refine._base import Context
from wsss.registry import REFINERS
from wsss.settings import Named

__all__ = ["Fusion", "FusionSettings", "fuse"]

How = Literal["mean", "max", "product", "geometric"]


class FusionSettings(Named):
    """What is fused with the map that the chain has so far, and how."""

    name: Literal["fusion"] = "fusion"
    sources: dict[str, NonNegativeFloat] = Field(default={})
    """Names in further_cams, and the weight of each; a weight of 0 leaves a source out."""
    own_weight: NonNegativeFloat = 1
    """Weight of the chain's own map."""
    how: How = "mean"
    """See `fuse`."""


def fuse(maps: np.ndarray, weights: np.ndarray, how: How) -> np.ndarray:
    """Weighted means and their kin.

        mean       sum w m / sum w
        max        max w m / max w
        product    prod m^w
        geometric  prod m^(w / sum w)

    mean sees what any of the maps sees, product and geometric only what all of them see: with a
    map of all objects and one of a class, these leave the objects of that class.

    Args:
        maps: (K, P, h, w) in [0, 1].
        weights: (K,), at least 0, and above 0 for at least one.
        how: see above.

    Returns:
        (P, h, w) float32 in [0, 1].

    Raises:
        ValueError: a map leaves its range, or the weights are not as above.

    Example:
        >>> maps = np.array([0.25, 1.0]).reshape(2, 1, 1, 1)
        >>> [round(float(fuse(maps, np.ones(2), how)[0, 0, 0]), 3)
        ...  for how in ("mean", "max", "product", "geometric")]
        [0.625, 1.0, 0.25, 0.5]
    """
    check_values("maps", maps, 0, 1)
    columns = weights.reshape(-1, 1, 1, 1)
    if how == "mean":
        fused = (columns * maps).sum(axis=0) / weights.sum()
    elif how == "max":
        fused = (columns * maps).max(axis=0) / weights.max()
    else:
        powers = columns / weights.sum() if how == "geometric" else columns
        fused = (maps**powers).prod(axis=0)
    scores: np.ndarray = np.clip(fused, 0, 1).astype(np.float32)
    return scores


@REFINERS.register(FusionSettings)
class Fusion:
    """The map of a chain, fused with maps that the stage generate_further_cams made.

    Each of them has a class's maximum divided out already (`multiscale_cams`), so that none
    drowns the others. The result has the grid of the finest.
    """

    windowed = False

    def __init__(self, settings: FusionSettings, context: Context) -> None:
        self.settings = settings
        self.folders = [
            (context.further_cams / name, weight)
            for name, weight in settings.sources.items()
            if weight > 0
        ]
        if not settings.own_weight and not self.folders:
            raise ValueError(
                f"{full_key('sources')} has no map whose weight is above 0, and own_weight is 0; "
                "set one of them"
            )

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        return [
            self._fused(score_map, name) for score_map, name in zip(score_maps, names, strict=True)
        ]

    def _fused(self, own: ScoreMap, name: str) -> ScoreMap:
        settings = self.settings
        members = [(own, settings.own_weight)] if settings.own_weight else []
        members += [
            (read_further_map(folder, name, own), weight) for folder, weight in self.folders
        ]
        grid = max((member.scores.shape[1:] for member, _ in members), key=lambda shape: shape[0])
        maps = np.stack([member.on_grid(grid) for member, _ in members])
        scores = fuse(maps, np.array([weight for _, weight in members]), settings.how)
        return replace(own, scores=scores)
