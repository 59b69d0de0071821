"""Class probabilities averaged over scales and flips: of whole images, or of their windows."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.checks import check_dtype, check_image
from wsss.config.kernels import CrfKernelSettings
from wsss.loading.devices import pixels_at_once
from wsss.segment.smoothing import smooth
from wsss.windows import window_starts, window_weights

__all__ = ["class_sums", "predict_mask_in_windows", "predict_probs"]

SIDE_MULTIPLE = 32  # what every encoder's strides divide


def predict_probs(
    model: nn.Module,
    images: Tensor,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    present: Tensor | None = None,
) -> Tensor:
    """Run a segmenter at several scales and average its probabilities at image size.

    Args:
        model: (B, 3, h, w) to (B, C, h, w) logits, for sides that are multiples of 32.
        images: (B, 3, H, W) float32, normalised, of any size.
        scales: of the image sides; each side is rounded to a multiple of 32 pixels.
        flip: average with the mirrored image, mirrored back.
        present: (B, C) bool: classes that an image may have; the logits of others are -inf. None
            leaves out none.

    Returns:
        (B, C, H, W) float32, summing to 1 over classes.

    Raises:
        ValueError: `present` is not bool.
    """
    if present is not None:
        check_dtype("present", present.dtype, "bool")
    height, width = images.shape[2:]
    total = None
    for scale in scales:
        size = [
            max(1, round(side * scale / SIDE_MULTIPLE)) * SIDE_MULTIPLE for side in (height, width)
        ]
        scaled = functional.interpolate(
            images, size, mode="bilinear", align_corners=False, antialias=scale < 1
        )
        pixels = pixels_at_once(images.device) or scaled[:, 0].numel()
        at_once = max(1, pixels // (size[0] * size[1]))
        for mirrored in (False, True) if flip else (False,):
            view = scaled.flip(-1) if mirrored else scaled
            for begin in range(0, len(view), at_once):
                rows = slice(begin, begin + at_once)
                part = view[rows].contiguous(memory_format=torch.channels_last)
                logits = model(part).float()
                if present is not None:
                    logits = logits.masked_fill(~present[rows, :, None, None], -torch.inf)
                # classes come last, as they lie in memory
                probs = logits.permute(0, 2, 3, 1).softmax(dim=-1).permute(0, 3, 1, 2)
                probs = functional.interpolate(
                    probs.flip(-1) if mirrored else probs,
                    (height, width),
                    mode="bilinear",
                    align_corners=False,
                )
                if total is None:
                    shape = len(images), *probs.shape[1:]
                    total = probs.new_empty(shape).to(memory_format=torch.channels_last).zero_()
                total[rows] += probs
    assert total is not None
    return total / (len(scales) * (2 if flip else 1))


def predict_mask_in_windows(
    model: nn.Module,
    image: np.ndarray,
    *,
    normalise: Callable[[Tensor], Tensor],
    window: int,
    overlap: float,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    batch_size: int = 1,
    present: Tensor | None = None,
    crf: CrfKernelSettings | None = None,
    probs: np.ndarray | None = None,
    sums: np.ndarray | None = None,
) -> np.ndarray:
    """Segment an image that is too large to be run whole.

    Scales and flips apply to each window: cut from the image once, it is predicted as a small image
    is. Probabilities are summed with Hann weights where windows overlap, in a strip as high as a
    window; rows that no later window touches get their mask, and leave the strip. So the memory is
    that of the windows that run together, of the strip (4 bytes x classes x window x W, and a copy
    of what windows share), and what the image and its mask take, 4 bytes per pixel.

    Args:
        model: as of `predict_probs`.
        image: (H, W, 3) uint8.
        normalise: (B, 3, h, w) uint8 on the CPU to float32 on the model's device.
        window: pixels of its side; a multiple of 32 is resized least.
        overlap: share of a window that the next one covers again, in [0, 1).
        scales: as of `predict_probs`, of the sides of a window.
        flip: as of `predict_probs`.
        batch_size: windows in one batch.
        present: (C,) bool: classes that the image may have; None leaves out none.
        crf: of a dense CRF over the probabilities of each window; None is without.
        probs: (C, H, W) float32, filled with the blended probabilities, which sum to 1 over
            classes; None where they are not wanted.
        sums: (2, C) float64, to which those of `class_sums` are added; None where they are not
            wanted.

    Returns:
        (H, W) uint8, the most probable class of each pixel.

    Raises:
        ValueError: the image is no such array, the overlap leaves its range, or `present` is not
            bool.
    """
    check_image("image", image)
    if present is not None:
        check_dtype("present", present.dtype, "bool")
    height, width = image.shape[:2]
    mask = np.empty((height, width), np.uint8)
    high, wide = min(height, window), min(width, window)
    tops, lefts = window_starts(height, high, overlap), window_starts(width, wide, overlap)
    strip = weights = torch.zeros(())
    for top, below in zip(tops, [*tops[1:], height], strict=True):
        for begin in range(0, len(lefts), batch_size):
            batch = lefts[begin : begin + batch_size]
            crops = np.stack([image[top : top + high, x : x + wide] for x in batch])
            images = normalise(torch.from_numpy(crops).permute(0, 3, 1, 2))
            allowed = None if present is None else present.expand(len(batch), -1)
            found = predict_probs(model, images, scales=scales, flip=flip, present=allowed)
            if crf is not None:
                found = smooth(list(crops), found, crf)
            if not strip.ndim:
                strip = found.new_zeros(found.shape[1], high, width)
                weights = torch.from_numpy(window_weights(high, wide)).to(found.device)
            for x, window_probs in zip(batch, found, strict=True):
                strip[:, :, x : x + wide] += window_probs * weights
        # the sum of weights is the same for all classes, so that the most probable one needs none
        finished = below - top
        if probs is not None:
            done = strip[:, :finished]
            probs[:, top:below] = (done / done.sum(dim=0)).cpu().numpy()
        mask[top:below] = strip[:, :finished].argmax(dim=0).to(torch.uint8).cpu().numpy()
        if sums is not None:
            done = strip[:, :finished]
            sums += class_sums((done / done.sum(dim=0)).cpu().numpy(), mask[top:below])
        strip[:, : high - finished] = strip[:, finished:].clone()
        strip[:, high - finished :] = 0
    return mask


def class_sums(probs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sum the probabilities of each class over all pixels, and over those that it wins.

    Args:
        probs: (C, H, W) float32, summing to 1 over classes.
        mask: (H, W), the most probable class of each pixel.

    Returns:
        (2, C) float64 pixels, as `ExpectedPixels.of` takes them.

    Example:
        >>> probs = np.array([[[0.75, 0.5]], [[0.25, 0.5]]], np.float32)
        >>> class_sums(probs, np.array([[0, 0]], np.uint8))
        array([[1.25, 0.75],
               [1.25, 0.  ]])
    """
    won = np.take_along_axis(probs, mask[None].astype(np.intp), axis=0)
    correct = np.bincount(mask.ravel(), weights=won.ravel(), minlength=len(probs))
    return np.stack([probs.sum(axis=(1, 2), dtype=np.float64), correct])
