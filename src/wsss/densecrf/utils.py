"""Unaries and features for the CRF: pydensecrf's `utils`, whose name this module keeps."""

import warnings
from collections.abc import Sequence

import numpy as np

from wsss.densecrf._arrays import Float32Array, as_array, check_count, check_finite, check_sigmas
from wsss.densecrf._layouts import expression


def unary_from_labels(
    labels: np.ndarray, n_labels: int, gt_prob: float, zero_unsure: bool = True
) -> Float32Array:
    """Unary energy of a hard label map trusted with probability `gt_prob`.

    Args:
        labels: integers of any shape, N in all. With `zero_unsure`: 0 for "could be anything" and
            1..n_labels; without: 0..n_labels - 1. There is no other ignore value.
        n_labels: number of labels, at least 1; with `zero_unsure` 0 is not one of them.
        gt_prob: in (0, 1), the probability of the given label; the others share the rest.
        zero_unsure: see `labels`.

    Returns:
        (n_labels, N) float32 energies, -log of the probabilities.

    Raises:
        ValueError: a label or a setting is out of its range.
    """
    n_labels = check_count("n_labels", n_labels, least=1)
    if not 0 < check_finite("gt_prob", gt_prob) < 1:
        raise ValueError(
            f"gt_prob must be strictly between 0 and 1 but is {gt_prob!r}; 0.7 is usual, and 1 "
            f"would leave the CRF nothing to decide"
        )
    array = as_array("labels", labels)
    if array.dtype.kind not in "bui":
        whole = array.size > 0 and bool((array == np.floor(array)).all())
        hint = f"; pass `{expression('labels', labels)}.astype(int)`" if whole else ""
        raise ValueError(f"labels must be integers but have dtype {array.dtype}{hint}")
    flat = array.ravel().astype(np.int64)
    highest = n_labels if zero_unsure else n_labels - 1
    outside = (flat < 0) | (flat > highest)
    if outside.any():
        wrong = np.unique(flat[outside])
        hint = ""
        if len(wrong) == 1:  # the mark of ignored pixels
            name = expression("labels", labels)
            kept = name if zero_unsure else f"{name} + 1"
            hint = f"; map ignored pixels to 0, `np.where({name} == {wrong[0]}, 0, {kept})`"
            hint += "" if zero_unsure else ", with `zero_unsure=True`"
        raise ValueError(
            f"labels must be in 0..{highest} with {n_labels=} and {zero_unsure=} but one is "
            f"{flat[outside][0]}{hint}"
        )
    others = -np.log((1.0 - gt_prob) / max(1, n_labels - 1))
    energy = np.full((n_labels, flat.size), others, np.float32)
    points = np.arange(flat.size)
    if zero_unsure:
        known = flat > 0
        energy[flat[known] - 1, points[known]] = -np.log(gt_prob)
        energy[:, ~known] = -np.log(1.0 / n_labels)
    else:
        energy[flat, points] = -np.log(gt_prob)
    return energy


def unary_from_softmax(
    sm: np.ndarray, scale: float | None = None, clip: float | None = 1e-5
) -> Float32Array:
    """Unary energy -log(p) of a probability map.

    Args:
        sm: (L, ...) probabilities, N points in all.
        scale: in (0, 1], how far to trust `sm`; the rest goes to the uniform distribution. None
            trusts it wholly.
        clip: least probability, in [0, 1). With None, or 0, a probability of 0 has infinite energy:
            its label is impossible.

    Returns:
        (L, N) float32 energies.

    Raises:
        ValueError: a setting is out of its range, or `sm` has no labels.
    """
    probs = as_array("sm", sm)
    if probs.dtype.kind != "f":
        probs = probs.astype(np.float32)
    if probs.ndim < 1 or probs.shape[0] == 0:
        raise ValueError(f"sm must have shape (n_labels, ...) but has {probs.shape}")
    n_labels = probs.shape[0]
    if scale is not None:
        if not 0 < check_finite("scale", scale) <= 1:
            raise ValueError(f"scale must be above 0 and at most 1 but is {scale!r}")
        probs = (scale * probs).astype(np.float64) + (1 - scale) / n_labels
    if clip is not None:
        if not 0 <= check_finite("clip", clip) < 1:
            raise ValueError(f"clip must be in [0, 1), or None, but is {clip!r}")
        probs = np.clip(probs, clip, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.ascontiguousarray(-np.log(probs).reshape(n_labels, -1), dtype=np.float32)


def compute_unary(labels: np.ndarray, M: int, GT_PROB: float = 0.5) -> Float32Array:
    """`unary_from_labels` under its old name in pydensecrf, which calls it deprecated."""
    _deprecated("compute_unary", "unary_from_labels")
    return unary_from_labels(labels, M, GT_PROB)


def softmax_to_unary(sm: np.ndarray, GT_PROB: float = 1) -> Float32Array:
    """`unary_from_softmax` under its old name in pydensecrf; it clips nothing."""
    _deprecated("softmax_to_unary", "unary_from_softmax")
    return unary_from_softmax(sm, scale=None if GT_PROB == 1 else GT_PROB, clip=None)


def _deprecated(name: str, successor: str) -> None:
    warnings.warn(f"{name} is deprecated, use {successor}", DeprecationWarning, stacklevel=3)


def create_pairwise_gaussian(sdims: float | Sequence[float], shape: Sequence[int]) -> Float32Array:
    """Position features of a grid of any dimension.

    Args:
        sdims: sigma in cells: one number, or one per axis of `shape`.
        shape: the grid's size, e.g. (height, width): the order of `sdims` is that of the axes.

    Returns:
        (len(shape), N) float32 for `addPairwiseEnergy`, points in C order.

    Raises:
        ValueError: `sdims` is not one sigma per axis, or not finite and above 0; `shape` is not
            sizes of at least 1.
    """
    try:
        given = list(shape)
    except TypeError:
        given = []
    if not given:
        raise ValueError(f"shape must be a sequence of sizes, such as (3, 4), but is {shape!r}")
    sizes = tuple(check_count(f"shape[{i}]", size, least=1) for i, size in enumerate(given))
    sigmas = check_sigmas("sdims", sdims, len(sizes))
    grid = np.indices(sizes, dtype=np.float32).reshape(len(sizes), -1)
    return grid / np.asarray(sigmas, np.float32)[:, None]


def create_pairwise_bilateral(
    sdims: float | Sequence[float],
    schan: float | Sequence[float],
    img: np.ndarray,
    chdim: int = -1,
) -> Float32Array:
    """Position and intensity features of an image of any dimension.

    Args:
        sdims: sigma in cells: one number, or one per spatial axis of `img`, in their order.
        schan: sigma of the intensities: one number, or one per channel. Channels and axes beyond
            those that are given are not divided, as in pydensecrf: (13,) is (13, 1, 1).
        img: image of any real dtype.
        chdim: its channel axis, which may count from the end, but for the last: -1 says that there
            is none, a grey image (H, W). An (H, W, 3) image takes chdim=2.

    Returns:
        (spatial axes + channels, N) float32 for `addPairwiseEnergy`, positions first.

    Raises:
        ValueError: there are more sigmas than the image has axes or channels, or one is not finite
            and above 0; the image is empty, or has no such axis.
    """
    image = as_array("img", img)
    if 0 in image.shape or image.ndim == 0:
        raise ValueError(f"img must have at least one pixel but has shape {image.shape}")
    chdim = check_count("chdim", chdim, least=-image.ndim)
    if chdim >= image.ndim:
        raise ValueError(
            f"chdim must be an axis of img, 0..{image.ndim - 1}, or -1 for none, but is {chdim}"
        )
    channels = image[np.newaxis] if chdim == -1 else np.moveaxis(image, chdim, 0)
    sigmas = check_sigmas("schan", _completed("schan", schan, channels.shape[0]), len(channels))
    intensity = channels.astype(np.float32).reshape(channels.shape[0], -1)
    intensity = intensity / np.asarray(sigmas, np.float32)[:, None]
    sdims = _completed("sdims", sdims, channels.ndim - 1)
    return np.concatenate([create_pairwise_gaussian(sdims, channels.shape[1:]), intensity])


def _completed(name: str, sigmas: float | Sequence[float], count: int) -> float | Sequence[float]:
    """`sigmas`, with 1 for those that are missing."""
    given = as_array(name, sigmas)
    if given.ndim != 1 or not 0 < len(given) < count:
        return sigmas
    warnings.warn(
        f"{name} has {len(given)} of {count} sigmas, and the others are taken for 1, as in "
        f"pydensecrf; `{name}={float(given[0]):g}` is one for all",
        stacklevel=3,
    )
    return [*given.tolist(), *[1.0] * (count - len(given))]
