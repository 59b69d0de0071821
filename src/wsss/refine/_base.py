"""What a refiner is, and what it may use."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from wsss.artifacts import ScoreMap
from wsss.checks import check_image, check_shape
from wsss.loading.devices import device_of

if TYPE_CHECKING:
    import torch

__all__ = ["Context", "OneByOne", "Refiner", "check_images"]


@dataclass(frozen=True)
class Context:
    """What refiners may use besides images and their scores.

    Attributes:
        accelerator: where tensors and networks go, as in machine.accelerator; see `device`.
        proposals: the folder that make_proposals fills, with a folder per source.
        affinities: the folder that train_affinities fills, with a folder per network.
        further_cams: the folder that generate_further_cams fills, with a folder per source.
        annotations: the folder of what annotators gave besides tags, which a `Chain` imposes; None
            imposes nothing.
    """

    accelerator: str = "cpu"
    proposals: Path = Path("data/proposals")
    affinities: Path = Path("models/affinities")
    further_cams: Path = Path("data/further_cams")
    annotations: Path | None = None

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
            windows of a large image. False where it finds artifacts of the whole image by name.
            One that divides by the greatest score of an image has a method `unnormalised`
            besides, of the same arguments, that does not; see `Windowed`.
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
            names: one per image, by which artifacts such as proposals are found.

        Raises:
            ValueError: an image is no such array, or not of the size of its score map.
        """


def check_images(images: Sequence[np.ndarray], score_maps: Sequence[ScoreMap]) -> None:
    """Raise ValueError unless each image is (H, W, 3) uint8, of the size of its score map."""
    for index, (image, score_map) in enumerate(zip(images, score_maps, strict=True)):
        name = f"images[{index}]"
        check_image(name, image)
        check_shape(name, image.shape, (*score_map.size, 3))


class OneByOne(ABC):
    """A `Refiner` of one image at a time: the same to the last bit in any company.

    Its memory is that of one image, and images without a tag are passed over.
    """

    windowed = True

    @abstractmethod
    def refined(self, image: np.ndarray, score_map: ScoreMap) -> ScoreMap:
        """Refine the scores of one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            score_map: of one class at least.
        """

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        """As `Refiner`."""
        check_images(images, score_maps)
        return [
            self.refined(image, score_map) if len(score_map.class_ids) else score_map
            for image, score_map in zip(images, score_maps, strict=True)
        ]
