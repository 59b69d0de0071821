"""Averages over neighbours of like colour in the compiled core: the arithmetic of PAMR."""

from collections.abc import Sequence

import numpy as np

from wsss.densecrf import _native
from wsss.densecrf._arrays import Float32Array, as_float32, check_count, check_flag
from wsss.densecrf.threads import resolve_num_threads


def pixel_adaptive_mean(
    image: np.ndarray,
    scores: np.ndarray,
    dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
    n_iters: int = 10,
    *,
    squared: bool = False,
    num_threads: int | None = None,
) -> Float32Array:
    """Replace scores by the weighted mean of their neighbours', again and again.

    What a neighbour counts is exp(-m), m the mean over the colours of |difference| / (0.1 sigma),
    of all neighbours' sum; sigma is the standard deviation over the pixel's windows, one of 3x3
    per dilation. Beyond its edge an image repeats it. `wsss.models.pamr` is the same in PyTorch.

    Args:
        image: (3, h, w), finite; each channel in any unit in which neighbours differ by far more
            than 1e-7, which is what counts as no difference.
        scores: (P, h, w), finite.
        dilations: distances of neighbours in pixels; eight at each.
        n_iters: how often, 0 or more.
        squared: the paper's text, exp(-mean (difference / sigma)^2), in place of its code.
        num_threads: threads to use; None takes `get_num_threads()`. It changes no bit.

    Returns:
        (P, h, w) float32, within the range of the scores up to rounding.

    Raises:
        ValueError: shapes disagree, a value is NaN or infinite, or a dilation or `n_iters` is out
            of range.

    References:
        Araslanov & Roth, Single-Stage Semantic Segmentation from Image Labels, CVPR 2020.

    Example:
        >>> image = np.zeros((3, 1, 4))
        >>> image[:, :, 2:] = 1
        >>> print(pixel_adaptive_mean(image, [[[0.0, 0.2, 0.6, 0.8]]], [1], 1).round(3))
        [[[0.075 0.08  0.72  0.725]]]
    """
    planes, masks = as_float32("image", image), as_float32("scores", scores)
    if masks.ndim != 3:
        raise ValueError(f"scores must have shape (P, h, w) but has {masks.shape}")
    if planes.shape != (3, *masks.shape[1:]):
        raise ValueError(
            f"image must have shape {(3, *masks.shape[1:])} as scores have {masks.shape}, but has "
            f"{planes.shape}"
        )
    for name, values in (("image", planes), ("scores", masks)):
        if not np.isfinite(values).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
            raise ValueError(f"{name} must be finite but {name}{list(at)} is {values[at]}")
    steps = [check_count(f"dilations[{at}]", step, 1) for at, step in enumerate(dilations)]
    if not steps:
        raise ValueError("dilations must name one distance at least")
    out = np.empty_like(masks)
    _native.pixel_adaptive_mean(
        planes,
        masks,
        out,
        steps,
        check_count("n_iters", n_iters, 0),
        check_flag("squared", squared),
        resolve_num_threads(num_threads),
    )
    return out
