"""Pixel losses that pass over ignored pixels."""

from torch import Tensor
from torch.nn import functional

from wsss.artifacts import IGNORE_INDEX

__all__ = ["cross_entropy"]


def cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean cross-entropy over labelled pixels; zero, with a gradient of zero, if there are none.

    Args:
        logits: (B, K + 1, H, W).
        masks: (B, H, W) int64 in 0..K, or 255.
    """
    total = functional.cross_entropy(
        logits.float(), masks, ignore_index=IGNORE_INDEX, reduction="sum"
    )
    return total / (masks != IGNORE_INDEX).sum().clamp(min=1)
