"""What a batch must be for `DenseCrfLoss`."""

import math
import warnings

import torch
from torch import Tensor

from wsss.densecrf._layouts import as_uint8

__all__ = ["check_batch"]

_MOST_CHANNELS = 253
"""That the lattice takes, with the position in 255 dimensions."""


def check_batch(
    images: Tensor,
    probs: Tensor,
    roi: Tensor | None,
    unlabelled: Tensor | None,
    *,
    gated: bool,
    exact: bool,
    scale_factor: float,
    image_max: float,
) -> None:
    """Check what `DenseCrfLoss.forward` is called with, by the loss' settings.

    Raises:
        ValueError: shapes, dtypes or devices disagree, or values are out of their range.
    """
    if probs.ndim != 4 or 0 in probs.shape or not probs.is_floating_point():
        raise ValueError(
            f"probs must be floats of shape (B, K, H, W), none of them 0, "
            f"but has dtype {probs.dtype} and shape {tuple(probs.shape)}"
        )
    batch, _, height, width = probs.shape
    shape = tuple(images.shape)
    if len(shape) != 4 or (shape[0], *shape[2:]) != (batch, height, width):
        hint = ""
        if shape[:-1] == (batch, height, width):
            hint = "; move the channels first, `images.permute(0, 3, 1, 2)`"
        if shape == (batch, height, width):
            hint = "; for grey images, `images.unsqueeze(1)`"
        raise ValueError(
            f"images must have shape (B, C, H, W) = ({batch}, C, {height}, {width}) as in "
            f"probs but has {shape}{hint}"
        )
    if shape[1] == 0 or (shape[1] > _MOST_CHANNELS and not exact):
        hint = "; `exact=True` takes any number" if shape[1] > 0 else ""
        raise ValueError(f"images must have 1 to 253 channels but have {shape[1]}{hint}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        hint = as_uint8("images", images)
        raise ValueError(f"images must be uint8 or float but has dtype {images.dtype}{hint}")
    if unlabelled is not None and not gated:
        raise ValueError("unlabelled pixels matter to the gate alone; pass `gated=True`")
    if unlabelled is not None and unlabelled.dtype != torch.bool:
        raise ValueError(
            f"unlabelled must be bool but has dtype {unlabelled.dtype}; of labels in which 255 "
            f"is none, pass `unlabelled == 255`"
        )
    named = {"images": images, "roi": roi, "unlabelled": unlabelled}
    for name, tensor in named.items():
        if tensor is None:
            continue
        if tensor.device != probs.device:
            raise ValueError(
                f"{name} is on {tensor.device} but probs on {probs.device}; "
                f"pass `{name}.to(probs.device)`"
            )
        if name != "images" and tensor.shape != (batch, height, width):
            raise ValueError(
                f"{name} must have shape (B, H, W) = ({batch}, {height}, {width}) as in probs "
                f"but has {tuple(tensor.shape)}"
            )
        if tensor.requires_grad:
            raise ValueError(
                f"{name} requires grad, but the loss has a gradient for probs alone; "
                f"pass `{name}.detach()`"
            )
    if min(math.floor(height * scale_factor), math.floor(width * scale_factor)) == 0:
        raise ValueError(
            f"scale_factor {scale_factor} leaves no pixel of {height} x {width}; "
            f"pass `scale_factor=1`"
        )
    _check_values(images, probs, roi, image_max)


def _check_values(images: Tensor, probs: Tensor, roi: Tensor | None, image_max: float) -> None:
    """Check ranges, waiting for the device once.

    Raises:
        ValueError: a value is out of its range, or NaN.
    """
    tensors = {"images": images, "probs": probs} | ({} if roi is None else {"roi": roi})
    ranges = torch.stack(
        [torch.stack(t.detach().aminmax()).double() for t in tensors.values()]
    ).tolist()
    brightest = image_max if images.is_floating_point() else 255.0
    limits = {
        "images": (0, brightest, "undo any normalisation, and clip what resampling overshoots"),
        "probs": (-1e-3, 1.001, "apply a softmax to logits first, `probs.softmax(1)`"),
        "roi": (0, 1, "1 inside, 0 outside"),
    }
    for (name, tensor), (low, high) in zip(tensors.items(), ranges, strict=True):
        least, most, hint = limits[name]
        if low >= least and high <= most:  # never if there is a NaN
            continue
        at = (~((tensor >= least) & (tensor <= most))).nonzero()[0].tolist()
        if name == "images" and low >= 0 and most < high <= 255:
            hint = "`image_max=255` says that images are in 0..255"
        elif name == "roi" and low >= 0 and high <= 255:
            hint += ", `roi.bool()`"
        raise ValueError(
            f"{name} must lie in [{round(least)}, {round(most, 3):g}] but is "
            f"{tensor[tuple(at)].item():g} at {at}; {hint}"
        )
    if image_max == 255 and images.is_floating_point() and 0 < ranges[0][1] <= 1:
        warnings.warn(
            f"images are taken to be in 0..255 but none is above {ranges[0][1]:g}; if they are in "
            f"0..1, pass `image_max=1`",
            stacklevel=4,
        )
