"""Labels of pixels that a network takes from its own masks, and what they teach it."""

from typing import TYPE_CHECKING

from wsss.artifacts import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["self_label_loss", "self_labels"]


def self_labels(masks: "Tensor", possible: "Tensor", shares: "Tensor", least: float) -> "Tensor":
    """The one class of a pixel that is nearly as sure there as anywhere in its image.

    A class is accepted where its mask is above `least` and above its share of the mask's maximum.

    Args:
        masks: (B, C, H, W) in [0, 1].
        possible: (B, C) bool; other classes are accepted nowhere.
        shares: (C,) in [0, 1].
        least: in [0, 1].

    Returns:
        (B, H, W) int64 in 0..C - 1, and 255 where no class is accepted, or several are.

    Example:
        >>> import torch
        >>> masks = torch.tensor([[[[0.9, 0.3, 0.6, 0.1]], [[0.1, 0.7, 0.5, 0.1]]]])
        >>> self_labels(masks, torch.tensor([[True, True]]), torch.tensor([0.6, 0.6]), 0.2)
        tensor([[[  0,   1, 255, 255]]])
        >>> self_labels(masks, torch.tensor([[True, False]]), torch.tensor([0.6, 0.6]), 0.2)
        tensor([[[  0, 255,   0, 255]]])
    """
    masks = masks * possible[:, :, None, None]
    bars = (masks.amax(dim=(2, 3), keepdim=True) * shares[:, None, None]).clamp_min(least)
    accepted = masks > bars
    labels = accepted.int().argmax(dim=1)
    return labels.where(accepted.sum(dim=1) == 1, IGNORE_INDEX)


def self_label_loss(logits: "Tensor", labels: "Tensor", wanted: "Tensor") -> "Tensor":
    """Class-balanced cross-entropy of the images in which no class is missing.

    The mean is over all pixels of all images: those without a label cost 0, and so does an image
    some class of which has no pixel, since the labels of the others have taken it over.

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W) int64 of `self_labels`.
        wanted: (B, C) bool, the classes that an image has.

    Returns:
        A float32 scalar.
    """
    from torch.nn import functional

    from wsss.models.class_balance import balance_weights, pixel_counts

    labelled = labels != IGNORE_INDEX
    counts = pixel_counts(labels, labelled, logits.shape[1])
    complete = (counts > 0).where(wanted, True).all(dim=1)
    nll = functional.cross_entropy(
        logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="none"
    )
    weights = balance_weights(labels, labelled, logits.shape[1])
    return (weights * nll * complete[:, None, None]).mean()
