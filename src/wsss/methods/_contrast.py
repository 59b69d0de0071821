"""Contrast between the two sides of images: each alike over images, and unlike the other."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["contrast", "contrast_loss", "negative_loss", "pooled_sides", "positive_loss"]

COSINE_RANGE = (5e-4, 0.9995)
"""Cosines are clamped to it: both logarithms are finite, and what is far enough rests."""


def contrast_loss(
    features: "Tensor", logits: "Tensor", counted: "Tensor", alpha: float
) -> "Tensor":
    """The mean over channels of `contrast` between the images that count for the channel.

    A channel with one image has the contrast of its two sides alone; one without any is left
    out; and without any image at all, the loss is 0 with a gradient of 0.

    Args:
        features: (B, D, h, w).
        logits: (B, C, h, w) of one side.
        counted: (B, C) bool, which images count for which channel.
        alpha: see `positive_loss`.

    Returns:
        Scalar, float32 also under autocast.

    References:
        CCAM (Xie et al., CVPR 2022).
    """
    import torch

    # cosines near one decide, so they need more than half precision
    with torch.autocast(features.device.type, enabled=False):
        sides, others = pooled_sides(features.float(), logits.float())  # (B, C, D) each
        rows = [images.nonzero().squeeze(1) for images in counted.T.cpu()]
        losses = [
            contrast(sides[images, channel], others[images, channel], alpha)
            for channel, images in enumerate(rows)
            if len(images)
        ]
        return torch.stack(losses).mean() if losses else logits.sum() * 0


def pooled_sides(features: "Tensor", logits: "Tensor") -> "tuple[Tensor, Tensor]":
    """Mean over cells of the features times P, and times 1 - P, where P is the sigmoid.

    Args:
        features: (B, D, h, w).
        logits: (B, C, h, w).

    Returns:
        (B, C, D) each.
    """
    import torch

    cells = features.flatten(2).transpose(1, 2)  # (B, hw, D)
    shares = torch.cat([logits, -logits], dim=1).sigmoid().flatten(2)  # (B, 2C, hw)
    sides, others = (shares @ cells / cells.shape[1]).chunk(2, dim=1)
    return sides, others


def contrast(sides: "Tensor", others: "Tensor", alpha: float) -> "Tensor":
    """Pull like sides together and push unlike ones apart; nothing tells which one is which.

    Args:
        sides: (B, D), one of each image.
        others: (B, D), the other one.
        alpha: see `positive_loss`.
    """
    return positive_loss(sides, alpha) + positive_loss(others, alpha) + negative_loss(others, sides)


def positive_loss(sides: "Tensor", alpha: float) -> "Tensor":
    """Mean over all pairs of -log cos, the less alike the less it counts.

    Args:
        sides: (B, D).
        alpha: a pair's weight is exp(-alpha r) where r is the rank of its cosine in its row,
            from the highest; of others the first has r = 0, as an image's own is -1.

    Example:
        >>> import torch
        >>> round(float(positive_loss(torch.tensor([[1.0, 0], [1, 1], [0, 1]]), 0.25)), 5)
        1.46119
    """
    import torch

    cosines = _cosines(sides, sides)
    # the rank of each in its row, by the inverse of the permutation that sorts it
    order = cosines.detach().argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1) - 1
    return -(torch.exp(-alpha * ranks) * cosines.log()).mean()


def negative_loss(sides: "Tensor", others: "Tensor") -> "Tensor":
    """Mean of -log(1 - cos) over all pairs of one of the (B, D) sides and one of the others.

    Example:
        >>> import torch
        >>> sides = torch.tensor([[1.0, 0], [1, 1], [0, 1]])
        >>> others = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
        >>> round(float(negative_loss(sides, others)), 4)
        3.0795
    """
    return -(1 - _cosines(sides, others)).log().mean()


def _cosines(sides: "Tensor", others: "Tensor") -> "Tensor":
    from torch.nn import functional

    cosines = functional.normalize(sides, dim=1) @ functional.normalize(others, dim=1).T
    return cosines.clamp(*COSINE_RANGE)
