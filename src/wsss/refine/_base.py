"""What a refiner is, and how a chain of them runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from wsss.artifacts import ScoreMap
from wsss.loading.devices import device_of
from wsss.refine._windows import Windowed
from wsss.registry import REFINERS
from wsss.settings import Named

if TYPE_CHECKING:
    import torch

__all__ = ["Chain", "Context", "Refiner"]


@dataclass(frozen=True)
class Context:
    """What refiners may use besides images and their scores.

    Attributes:
        accelerator: where tensors and networks go, as in machine.accelerator; see `device`.
        proposals: the folder that make_proposals fills, with a folder per source.
        affinities: the folder that train_affinities fills, with a folder per network.
        further_cams: the folder that generate_further_cams fills, with a folder per source.
    """

    accelerator: str = "cpu"
    proposals: Path = Path("data/proposals")
    affinities: Path = Path("models/affinities")
    further_cams: Path = Path("data/further_cams")

    def device(self) -> "torch.device":
        """Where a refiner's tensors and networks go."""
        return device_of(self.accelerator)


class Refiner(Protocol):
    """Built from its settings and a `Context`; registered with `REFINERS`.

    It keeps class_ids, size and class_probs, and gives scores in [0, 1] on any grid. It must
    commute with a permutation of the classes and never reads a mask. Where an image has no tag
    there is nothing to do.

    Attributes:
        windowed: True where pixels and scores are all that it looks at: a `Chain` may run it on
            windows of a large image. False where it finds artefacts of the whole image by name.
            One that divides by the greatest score of an image has a method `undivided` besides,
            of the same arguments, that does not; see `Windowed`.
    """

    windowed: bool

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        """Refine a batch of images of any sizes.

        Args:
            images: each (H, W, 3) uint8 RGB.
            score_maps: one per image.
            names: one per image, by which artefacts such as proposals are found.
        """


class Chain:
    """Refiners that run one after another; an empty chain changes nothing.

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
        built: list[Refiner] = [REFINERS.build(one, context) for one in settings]
        self.refiners: list[Refiner] = [
            Windowed(one, window, overlap) if window and one.windowed else one for one in built
        ]

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        """As `Refiner`."""
        refined = list(score_maps)
        for refiner in self.refiners:
            refined = refiner(images, refined, names)
        return refined
