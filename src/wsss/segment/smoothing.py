"""A dense CRF over the probabilities of a segmenter."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wsss.checks import check_image
from wsss.config.kernels import CrfKernelSettings
from wsss.densecrf import dense_crf

__all__ = ["smooth"]

NEGLIGIBLE = 0.01
"""A class that leads nowhere, and is nowhere more probable, is not given to the field, whose time
goes with classes."""


def smooth(images: Sequence[np.ndarray], probs: Tensor, settings: CrfKernelSettings) -> Tensor:
    """The field's probabilities of what a network found.

    Args:
        images: B of (H, W, 3) uint8, not normalised.
        probs: (B, C, H, W) float32, summing to 1 over classes.
        settings: kernels and updates.

    Returns:
        (B, C, H, W) float32 on the device of `probs`; 0 for classes that lead nowhere and are
        nowhere more probable than 0.01, which the field does not see.

    Raises:
        ValueError: an image is no such array, or of another size.
    """
    for index, image in enumerate(images):
        check_image(f"images[{index}]", image)
    smoothed = torch.zeros_like(probs)
    found = []
    for item in probs:
        seen = item.amax(dim=(1, 2)) > NEGLIGIBLE
        seen[item.argmax(dim=0).unique()] = True
        found.append(seen.nonzero()[:, 0])
    fields = dense_crf(
        list(images),
        [item[classes].cpu().numpy() for item, classes in zip(probs, found, strict=True)],
        **settings.kernels(),
    )
    for item, classes, field in zip(smoothed, found, fields, strict=True):
        item[classes] = torch.from_numpy(field).to(item)
    return smoothed
