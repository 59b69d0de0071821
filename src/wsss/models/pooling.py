"""From the map of a class to its logit."""

import torch
from torch import Tensor

from wsss.config.params import HeadSettings

__all__ = ["pool", "ranked_mean"]


def pool(maps: Tensor, head: HeadSettings) -> Tensor:
    """(B, L, h, w) maps to (B, L) logits as `head` says."""
    if head.pooling == "max":
        return maps.amax(dim=(2, 3))
    if head.pooling == "ranked":
        return ranked_mean(maps.flatten(2), head.ranked_decay)
    return maps.mean(dim=(2, 3))


def ranked_mean(values: Tensor, decay: float) -> Tensor:
    """Global weighted ranking pooling: the i-th highest value counts decay^i.

    Args:
        values: (..., n).
        decay: in [0, 1]; 1 is the mean, 0 the maximum.

    Returns:
        (...).

    References:
        SEC (Kolesnikov and Lampert, ECCV 2016); in MCTformer+ with 0.996.

    Example:
        >>> values = torch.tensor([4.0, 1.0, 0.0, 2.0])
        >>> [round(float(ranked_mean(values, decay)), 4) for decay in (0.5, 1, 0)]
        [2.8, 1.75, 4.0]
    """
    rank = torch.arange(values.shape[-1], dtype=values.dtype, device=values.device)
    weights = torch.as_tensor(decay, dtype=values.dtype, device=values.device) ** rank
    return (values.sort(dim=-1, descending=True).values * weights).sum(dim=-1) / weights.sum()
