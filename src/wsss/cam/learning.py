"""What a CAM method is that learns from good images before its first map."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wsss.cam.comparable import ComparableCamMethod

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["LearningCamMethod"]


@runtime_checkable
class LearningCamMethod(ComparableCamMethod, Protocol):
    """A `ComparableCamMethod` that sees training images without any tag before its first map."""

    def learn(
        self,
        model: "Classifier",
        good: "Iterable[Iterable[Tensor]]",
        count: int,
        rng_seed: int,
    ) -> None:
        """See every good image once.

        Args:
            model: in eval mode.
            good: of each image its views at the scales of the maps, or windows of them, each
                (1, 3, h, w) float32, normalised.
            count: of these images.
            rng_seed: of whatever is drawn.

        Raises:
            ValueError: there are too few.
        """
