"""What a pixel loss is: logits and label maps to a scalar."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from pydantic import NonNegativeFloat

from wsss.artifacts import IGNORE_INDEX
from wsss.loading.normalisation import Normalisation
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LossContext",
    "LossSettings",
    "PixelBatch",
    "PixelLoss",
    "pixel_nll",
    "summed_nll",
    "weighted_mean",
]


class LossSettings(Named):
    """What all pixel losses have."""

    weight: NonNegativeFloat = 1
    """Factor of the loss in the sum of all."""


@dataclass(frozen=True)
class LossContext:
    """What a loss may ask for when it is built.

    Attributes:
        class_names: K names.
        class_pixels: counts, when it is called, the training label maps: (2, K + 1) int64 of the
            pixels of each class, background first, and of the labelled pixels of the images in
            which it is.
    """

    class_names: tuple[str, ...]
    class_pixels: Callable[[], np.ndarray]


@dataclass(frozen=True)
class PixelBatch:
    """What there is to learn from, beside the logits.

    Attributes:
        masks: (B, H, W) int64: 0, class ids, or 255 where nothing is known.
        images: (B, 3, H, W) float32, normalised, as the network saw them.
        inside: (B, H, W) bool: False where a crop leaves its image.
        normalisation: of the images.
        image_weights: (B,) float32: how much the pixels of each image count; None if all count
            alike.
    """

    masks: "Tensor"
    images: "Tensor"
    inside: "Tensor"
    normalisation: Normalisation
    image_weights: "Tensor | None" = None

    @property
    def labelled(self) -> "Tensor":
        """(B, H, W) bool."""
        return self.masks != IGNORE_INDEX

    @property
    def weights(self) -> "Tensor":
        """(B, H, W) float32: the weight of its image at a labelled pixel, and 0 at others."""
        weights = self.labelled.float()
        if self.image_weights is None:
            return weights
        return weights * self.image_weights[:, None, None]


S = TypeVar("S", bound=LossSettings)


class PixelLoss(ABC, Generic[S]):
    """Built from its settings and a `LossContext`; registered with `PIXEL_LOSSES`.

    Pixels without a label have no gradient, unless the loss is a regulariser of all pixels. A batch
    without any labelled pixel costs 0, with a gradient of 0.
    """

    def __init__(self, settings: S, context: LossContext) -> None:
        self.settings, self.context = settings, context

    @abstractmethod
    def __call__(self, logits: "Tensor", batch: PixelBatch) -> "Tensor":
        """The loss, a float32 scalar that its weight is not yet in.

        Args:
            logits: (B, K + 1, H, W).
            batch: label maps and what belongs to them.
        """


def pixel_nll(logits: "Tensor", masks: "Tensor") -> "Tensor":
    """(B, H, W) float32: minus the log-probability of the label, 0 where there is none."""
    return _cross_entropy(logits, masks, "none").view(masks.shape)


def summed_nll(logits: "Tensor", masks: "Tensor") -> "Tensor":
    """The sum of `pixel_nll` over all pixels."""
    return _cross_entropy(logits, masks, "sum")


def _cross_entropy(logits: "Tensor", masks: "Tensor", reduction: str) -> "Tensor":
    """Of one pixel after another: where channels lie side by side that is half the work."""
    from torch.nn import functional

    rows = logits.float().movedim(1, -1).reshape(-1, logits.shape[1])
    return functional.cross_entropy(
        rows, masks.reshape(-1), ignore_index=IGNORE_INDEX, reduction=reduction
    )


def weighted_mean(values: "Tensor", weights: "Tensor") -> "Tensor":
    """The mean of `values` by `weights`; 0, with a gradient of 0, where all weights are 0.

    Example:
        >>> import torch
        >>> round(weighted_mean(-torch.tensor([0.7, 0.3]).log(), torch.tensor([1, 10])).item(), 5)
        1.12695
    """
    import torch

    total = weights.sum().float()
    return (values * weights).sum() / total.clamp(min=torch.finfo(torch.float32).tiny)
