"""Cross-entropy, of classes that may count differently."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from wsss.registry import PIXEL_LOSSES
from wsss.segment.losses._base import (
    LossContext,
    LossSettings,
    PixelBatch,
    PixelLoss,
    pixel_nll,
    summed_nll,
    weighted_mean,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CrossEntropy", "CrossEntropySettings", "median_frequency_weights"]

LARGEST_WEIGHT = 10.0
"""Of median frequency: a class that is hardly there must not rule the gradient."""


class CrossEntropySettings(LossSettings):
    """The sum over labelled pixels, divided by the sum of their weights."""

    class_keys = ("class_weights",)

    name: Literal["cross_entropy"] = "cross_entropy"
    class_weights: Literal["none", "median_frequency"] | dict[str, PositiveFloat] = Field(
        default="none"
    )
    """Weights of classes: none, those of median frequency (Eigen & Fergus, 2015; at most 10),
    counted over the training label maps, or a number by class name, 1 for those not named."""


@PIXEL_LOSSES.register(CrossEntropySettings)
class CrossEntropy(PixelLoss[CrossEntropySettings]):
    """Mean cross-entropy over labelled pixels, weighted by class and by image."""

    def __init__(self, settings: CrossEntropySettings, context: LossContext) -> None:
        super().__init__(settings, context)
        chosen = settings.class_weights
        self.class_weights: list[float] | None = None
        if chosen == "median_frequency":
            self.class_weights = median_frequency_weights(*context.class_pixels()).tolist()
        elif not isinstance(chosen, str):
            self.class_weights = [1.0, *(chosen.get(name, 1.0) for name in context.class_names)]

    def __call__(self, logits: "Tensor", batch: PixelBatch) -> "Tensor":
        if self.class_weights is None and batch.image_weights is None:  # without a copy of weights
            return summed_nll(logits, batch.masks) / batch.labelled.sum().clamp(min=1)
        weights = batch.weights
        if self.class_weights is not None:
            by_class = weights.new_tensor(self.class_weights)
            weights = weights * by_class[batch.masks.where(batch.labelled, 0)]
        return weighted_mean(pixel_nll(logits, batch.masks), weights)


def median_frequency_weights(pixels: np.ndarray, where_present: np.ndarray) -> np.ndarray:
    """Weights that let rare classes count as much as that of median frequency.

    Args:
        pixels: (C,) of each class.
        where_present: (C,) labelled pixels of the images in which each class is.

    Returns:
        (C,) float64 in (0, 10]; 1 for a class without any pixel.

    References:
        Eigen & Fergus, Predicting Depth, Surface Normals and Semantic Labels, ICCV 2015.

    Example:
        >>> median_frequency_weights(np.array([80, 10, 0]), np.array([100, 100, 0]))
        array([0.5625, 4.5   , 1.    ])
    """
    found = pixels > 0
    frequency = pixels[found] / where_present[found]
    weights = np.ones(len(pixels))
    if found.any():
        weights[found] = np.minimum(np.median(frequency) / frequency, LARGEST_WEIGHT)
    return weights
