"""Class probabilities of whole images, averaged over scales and flips."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["predict_probs"]

SIDE_MULTIPLE = 32  # what every encoder's strides divide


def predict_probs(
    model: nn.Module, images: Tensor, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> Tensor:
    """Run a segmenter at several scales and average its probabilities at image size.

    Args:
        model: (B, 3, h, w) to (B, C, h, w) logits, for sides that are multiples of 32.
        images: (B, 3, H, W) float32, normalised, of any size.
        scales: of the image sides; each side is rounded to a multiple of 32 pixels.
        flip: average with the mirrored image, mirrored back.

    Returns:
        (B, C, H, W) float32, summing to 1 over classes.
    """
    height, width = images.shape[2:]
    total = None
    for scale in scales:
        size = [
            max(1, round(side * scale / SIDE_MULTIPLE)) * SIDE_MULTIPLE for side in (height, width)
        ]
        scaled = functional.interpolate(
            images, size, mode="bilinear", align_corners=False, antialias=scale < 1
        )
        views = [scaled, scaled.flip(-1)] if flip else [scaled]
        for mirrored, view in enumerate(views):
            probs = model(view.contiguous(memory_format=torch.channels_last)).float().softmax(dim=1)
            probs = functional.interpolate(
                probs.flip(-1) if mirrored else probs,
                (height, width),
                mode="bilinear",
                align_corners=False,
            )
            total = probs if total is None else total.add_(probs)
    assert total is not None
    return total / (len(scales) * (2 if flip else 1))
