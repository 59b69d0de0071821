"""What a model is to whoever predicts with it, wherever it came from."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["Model", "Predicted", "Tags"]

Tags = Collection[str] | None
"""The classes that an image shows, by name; None where nobody said."""


@dataclass(frozen=True)
class Predicted:
    """What a model finds in an image.

    Attributes:
        mask: (H, W) uint8: 0 for the background, and class ids; without a background class ids
            alone.
        probs: (K + 1, H, W) float32, summing to 1 over classes, of which `mask` is the most
            probable; after the dense CRF, where there is one. None where nobody asked for them.
    """

    mask: np.ndarray
    probs: np.ndarray | None = None


class Model(Protocol):
    """Images to masks; `wsss.prediction.open_model` gives one."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names; a mask's value c is class_names[c - 1]."""

    @property
    def has_background(self) -> bool:
        """Whether a pixel may show none of the classes, and has the value 0 then."""

    @property
    def palette(self) -> np.ndarray:
        """(K + 1, 3) uint8 RGB: the colours of a mask's values, as its PNG has them."""

    @property
    def about(self) -> dict[str, Any]:
        """What is known of it, as plain values: where it lay, what it is, how it predicts."""

    def predict(
        self,
        images: Sequence[np.ndarray],
        *,
        tags: Sequence[Tags] | None = None,
        probs: bool = False,
        crf: bool = True,
    ) -> list[Predicted]:
        """Find masks of images of any sizes, one for each in their order.

        Args:
            images: N of (H, W, 3) uint8 RGB.
            tags: N: the classes that an image shows, all others are left out there; None of an
                image, or of all, leaves out none but those that the model itself does.
            probs: whether probabilities are given, too: 4 bytes per class and pixel.
            crf: whether a dense CRF follows, where the model's settings have one.

        Raises:
            ValueError: an image is no such array, or is empty; tags are not of as many images, or
                name what is no class; or there are no probabilities.
        """
