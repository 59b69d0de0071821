"""How much the pixels of a class count, the less of its image it covers."""

import torch
from torch import Tensor

__all__ = ["balance_weights", "pixel_counts"]


def pixel_counts(labels: Tensor, labelled: Tensor, num_classes: int) -> Tensor:
    """How many pixels of each image each class has.

    Args:
        labels: (B, H, W) int64 in 0..num_classes - 1 where labelled, anything elsewhere.
        labelled: (B, H, W) bool.
        num_classes: C.

    Returns:
        (B, C) float32.
    """
    counts = torch.zeros(len(labels), num_classes, device=labels.device)
    inside = labels.where(labelled, 0).flatten(1)
    return counts.scatter_add_(1, inside, labelled.flatten(1).float())


def balance_weights(labels: Tensor, labelled: Tensor, num_classes: int) -> Tensor:
    """(N - N_c) / (1 + N) for a pixel of class c, of N labelled ones of which N_c have it.

    Args:
        labels: as of `pixel_counts`.
        labelled: as of `pixel_counts`.
        num_classes: C.

    Returns:
        (B, H, W) float32 in [0, 1); of pixels without a label anything in that range.

    References:
        Single-Stage Semantic Segmentation from Image Labels (Araslanov and Roth, CVPR 2020).

    Example:
        >>> labels = torch.tensor([[[0, 0, 1, 255]]])
        >>> balance_weights(labels, labels < 255, 2)[0, 0, :3]
        tensor([0.2500, 0.2500, 0.5000])
    """
    counts = pixel_counts(labels, labelled, num_classes)
    total = counts.sum(dim=1, keepdim=True)
    weights = (total - counts) / (1 + total)
    return weights.gather(1, labels.where(labelled, 0).flatten(1)).view(labels.shape)
