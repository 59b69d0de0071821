"""From the map of a class to one number: its logit, or its peak."""

import torch
from torch import Tensor

from wsss.config.sections import HeadSettings

__all__ = ["normalised_mean", "peaks", "pool", "ranked_mean", "size_penalty"]


def pool(maps: Tensor, head: HeadSettings) -> Tensor:
    """(B, L, h, w) maps to (B, L) logits as `head` says."""
    if head.pooling == "max":
        return maps.amax(dim=(2, 3))
    if head.pooling == "ranked":
        return ranked_mean(maps.flatten(2), head.ranked_decay)
    return maps.mean(dim=(2, 3))


def peaks(maps: Tensor, least: float = 1e-12) -> Tensor:
    """What to divide maps by so that their greatest value is 1.

    Args:
        maps: (..., h, w), at least 0.
        least: peaks below it count as this much, so that a map that is nowhere above 0 stays
            empty, and a loss does not magnify what hardly is there.

    Returns:
        (..., 1, 1).

    Example:
        >>> maps = torch.tensor([[[0.0, 4.0]], [[0.5, 0.0]], [[0.0, 0.0]]])
        >>> (maps / peaks(maps)).tolist()
        [[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]]]
        >>> (maps / peaks(maps, least=1)).tolist()
        [[[0.0, 1.0]], [[0.5, 0.0]], [[0.0, 0.0]]]
    """
    return maps.amax(dim=(-2, -1), keepdim=True).clamp_min(least)


def ranked_mean(values: Tensor, decay: float) -> Tensor:
    """Global weighted ranking pooling: the i-th highest value counts decay^i.

    Args:
        values: (..., n).
        decay: in [0, 1]; 1 is the mean, 0 the maximum.

    Returns:
        (...) of the dtype of `values`; it is computed in float32 at least.

    References:
        SEC (Kolesnikov and Lampert, ECCV 2016); in MCTformer+ with 0.996.

    Example:
        >>> values = torch.tensor([4.0, 1.0, 0.0, 2.0])
        >>> [round(float(ranked_mean(values, decay)), 4) for decay in (0.5, 1, 0)]
        [2.8, 1.75, 4.0]
    """
    # bfloat16 has no number between 0.996 and 1, nor every rank above 256
    dtype = torch.promote_types(values.dtype, torch.float32)
    rank = torch.arange(values.shape[-1], dtype=dtype, device=values.device)
    weights = torch.as_tensor(decay, dtype=dtype, device=values.device) ** rank
    ranked = values.sort(dim=-1, descending=True).values.to(dtype)
    return ((ranked * weights).sum(dim=-1) / weights.sum()).to(values.dtype)


def normalised_mean(logits: Tensor, masks: Tensor, area: float) -> Tensor:
    """Normalised global weighted pooling: the mean logit over the mask of a class.

        s_c = sum_p m_c y_c / (area + sum_p m_c)

    Args:
        logits: (..., h, w).
        masks: (..., h, w) in [0, 1].
        area: cells that count with a logit of 0, so that a mask of less than that has a score near
            0; above 0. 1 in the published code; next to nothing in the paper.

    Returns:
        (...).

    References:
        Single-Stage Semantic Segmentation from Image Labels (Araslanov and Roth, CVPR 2020).

    Example:
        >>> logits = torch.tensor([[3.0, 1.0, -1.0]])
        >>> round(float(normalised_mean(logits, (logits - 1).sigmoid(), 1)), 5)
        1.20928
    """
    return (masks * logits).sum(dim=(-2, -1)) / (area + masks.sum(dim=(-2, -1)))


def size_penalty(masks: Tensor) -> Tensor:
    """What a class with a small mask loses: (1 - m)^3 ln(0.01 + m), with m the mean of its mask.

    About -4.6 for an empty mask, and next to nothing from half of the image on.

    Args:
        masks: (..., h, w) in [0, 1].

    Returns:
        (...), the focal penalty of the same paper.

    Example:
        >>> round(float(size_penalty(torch.tensor([[0.8808, 0.5, 0.1192]]))), 5)
        -0.08417
    """
    mean = masks.mean(dim=(-2, -1))
    return (1 - mean) ** 3 * (0.01 + mean).log()
