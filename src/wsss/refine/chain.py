"""A chain of refiners, each of which takes what the one before it gave, within annotations."""

from collections.abc import Sequence

import numpy as np

from wsss.artifacts import Annotations, ScoreMap
from wsss.checks import check_share, naming
from wsss.refine._base import Context, Refiner, check_images
from wsss.refine._windows import Windowed
from wsss.refine.given import Given
from wsss.registry import REFINERS
from wsss.settings import Named

__all__ = ["Chain"]


class Chain:
    """Refiners that run one after another; an empty chain changes nothing.

    Before the first one and after each, boxes, points and scribbles are imposed on the maps of
    images that have any: a class scores 0 outside of its boxes, 1 at its own seeds and 0 at others.

    Args:
        settings: of each refiner.
        context: see `Context`.
        window: pixels of the side of the windows that larger images are refined in, by those
            refiners that can be; see `Windowed`. 0 refines any image whole.
        overlap: share of a window that the next one covers again, in [0, 1).
    """

    def __init__(
        self,
        settings: Sequence[Named],
        context: Context,
        *,
        window: int = 0,
        overlap: float = 0.5,
    ) -> None:
        check_share("overlap", overlap)
        folder = context.annotations
        self.annotations = None if folder is None else Annotations.read(folder)
        self.refiners: list[Refiner] = []
        for place, entry in enumerate(settings):
            with naming(str(place)):
                refiner: Refiner = REFINERS.build(entry, context)
            if window and refiner.windowed:
                refiner = Windowed(refiner, window, overlap)
            self.refiners.append(refiner)

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        """As `Refiner`."""
        check_images(images, score_maps)
        given = [Given.of(name, self.annotations) for name in names]
        refined = [own.imposed(found) for own, found in zip(given, score_maps, strict=True)]
        for place, refiner in enumerate(self.refiners):
            with naming(str(place)):
                refined = refiner(images, refined, names)
            refined = [own.imposed(found) for own, found in zip(given, refined, strict=True)]
        return refined
