"""What a refiner is, and how a chain of them runs."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from wsss.artifacts import ScoreMap
from wsss.config.settings import Settings
from wsss.registry import REFINERS

__all__ = ["Refiner", "refine"]


class Refiner(Protocol):
    """Built from its settings; registered with `REFINERS`.

    It keeps class_ids, size and class_probs, and gives scores on the full image grid in
    [0, 1]. It must commute with a permutation of the classes and never reads a mask.
    """

    def __call__(
        self, images: Sequence[np.ndarray], score_maps: Sequence[ScoreMap]
    ) -> list[ScoreMap]:
        """Refine a batch of images of any sizes.

        Args:
            images: each (H, W, 3) uint8 RGB.
            score_maps: one per image.
        """


def refine(
    chain: Sequence[Settings], images: Sequence[np.ndarray], score_maps: Sequence[ScoreMap]
) -> list[ScoreMap]:
    """Pass a batch through the refiners of a chain, in order; an empty chain changes nothing."""
    refined = list(score_maps)
    for settings in chain:
        refined = REFINERS.build(settings)(images, refined)
    return refined
