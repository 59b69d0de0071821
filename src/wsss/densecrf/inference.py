"""Refine probability maps with a fully connected CRF: the function the pipeline calls."""

from collections.abc import Sequence
from typing import overload

import numpy as np

from wsss.densecrf import _native
from wsss.densecrf._arrays import (
    Float32Array,
    as_array,
    as_float32,
    as_rgb_image,
    check_count,
    check_finite,
    check_sigma,
    swapped_hint,
)
from wsss.densecrf.threads import resolve_num_threads


@overload
def dense_crf(
    images: np.ndarray,
    probs: np.ndarray,
    *,
    sigma_xy: float = ...,
    sigma_rgb: float = ...,
    compat_bilateral: float = ...,
    sigma_gaussian: float = ...,
    compat_gaussian: float = ...,
    n_iters: int = ...,
    min_prob: float = ...,
    parity: bool = ...,
    num_threads: int | None = ...,
) -> Float32Array: ...


@overload
def dense_crf(
    images: Sequence[np.ndarray],
    probs: Sequence[np.ndarray],
    *,
    sigma_xy: float = ...,
    sigma_rgb: float = ...,
    compat_bilateral: float = ...,
    sigma_gaussian: float = ...,
    compat_gaussian: float = ...,
    n_iters: int = ...,
    min_prob: float = ...,
    parity: bool = ...,
    num_threads: int | None = ...,
) -> list[Float32Array]: ...


def dense_crf(
    images: np.ndarray | Sequence[np.ndarray],
    probs: np.ndarray | Sequence[np.ndarray],
    *,
    sigma_xy: float = 80.0,
    sigma_rgb: float = 13.0,
    compat_bilateral: float = 10.0,
    sigma_gaussian: float = 3.0,
    compat_gaussian: float = 3.0,
    n_iters: int = 10,
    min_prob: float = 1e-5,
    parity: bool = False,
    num_threads: int | None = None,
) -> Float32Array | list[Float32Array]:
    """Refine probabilities so that near pixels of like colour take the same label.

    Mean-field inference with a smoothness term (position) and an appearance term (position and
    colour), Potts compatibility and symmetric normalisation. The unary energy is
    `-log(max(probs, min_prob))`.

    Each image is the work of one thread, so a batch of images is what threads speed up. The result
    does not depend on their number and is the same bytes from run to run. The GIL is released; the
    call may be made from several threads, and in a forked child of a process that has made it.

    Args:
        images: (H, W, 3) uint8 RGB, or a list of such of differing sizes.
        probs: (L, H, W) float32 in [0, 1], summing to one over the L labels in play; or a list of
            such, with as many labels as each image has. Other real dtypes and memory orders are
            copied. Only the ratios at a pixel count; where no label is above `min_prob`, all are
            alike.
        sigma_xy: reach of the appearance term in pixels; scale it with the image.
        sigma_rgb: its tolerance, in intensity levels of a 0..255 image.
        compat_bilateral: its weight; 0 leaves the term out.
        sigma_gaussian: reach of the smoothness term in pixels.
        compat_gaussian: its weight; 0 leaves the term out.
        n_iters: mean-field updates; 0 returns `probs`, floored at `min_prob` and normalised.
        min_prob: floor in (0, 1) of a probability, before its logarithm is taken.
        parity: answer as pydensecrf does (|dQ| below 1e-4) when H * W is not a multiple of 4, where
            it adds lattice vertices that belong to no pixel. Off is the model as published.
        num_threads: at most this many images at a time; None takes `get_num_threads()`.

    Returns:
        (L, H, W) float32 probabilities, summing to one over L; a list for lists.

    Raises:
        ValueError: a shape, dtype or size is wrong; a probability is outside [0, 1] or not finite
            (its position is named); a setting is out of its range.

    References:
        Krähenbühl & Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge
        Potentials, NIPS 2011. The defaults are those of PSA (Ahn & Kwak, CVPR 2018).

    Example:
        >>> image = np.zeros((2, 3, 3), np.uint8)
        >>> image[:, 1:] = 200
        >>> probs = np.array([[[0.9, 0.4, 0.2], [0.9, 0.2, 0.2]]], np.float32)
        >>> refined = dense_crf(image, np.concatenate([probs, 1 - probs]), n_iters=2)
        >>> refined.argmax(0)
        array([[0, 1, 1],
               [0, 1, 1]])
    """
    single = isinstance(images, np.ndarray) and images.ndim <= 3
    image_list = [images] if single else list(images)
    probs_list = [probs] if single else list(probs)
    if len(image_list) != len(probs_list):
        raise ValueError(
            f"images and probs must be lists of one length but have "
            f"{len(image_list)} and {len(probs_list)} elements"
        )
    checked_images, checked_probs = [], []
    for i, (image, image_probs) in enumerate(zip(image_list, probs_list, strict=True)):
        suffix = "" if single else f"[{i}]"
        rgb = as_rgb_image(f"images{suffix}", image)
        checked_images.append(rgb)
        checked_probs.append(_as_probs(f"probs{suffix}", image_probs, rgb.shape[0], rgb.shape[1]))

    refined = [np.empty_like(p) for p in checked_probs]
    floor = check_finite("min_prob", min_prob)
    if not 1e-37 <= floor < 1:
        raise ValueError(f"min_prob must be in [1e-37, 1) but is {min_prob!r}; 1e-5 is usual")
    _native.refine_images(
        checked_images,
        checked_probs,
        refined,
        sigma_xy=check_sigma("sigma_xy", sigma_xy),
        sigma_rgb=check_sigma("sigma_rgb", sigma_rgb),
        compat_bilateral=check_finite("compat_bilateral", compat_bilateral),
        sigma_gaussian=check_sigma("sigma_gaussian", sigma_gaussian),
        compat_gaussian=check_finite("compat_gaussian", compat_gaussian),
        n_iters=check_count("n_iters", n_iters, least=0),
        min_prob=floor,
        phantom_points=bool(parity),
        num_threads=resolve_num_threads(num_threads),
    )
    return refined[0] if single else refined


def _as_probs(name: str, value: object, height: int, width: int) -> Float32Array:
    """(L, height, width) float32 of at least one label; the core checks the values."""
    array = as_array(name, value)
    if array.ndim != 3 or array.shape[1:] != (height, width) or array.shape[0] == 0:
        hint = swapped_hint(array.shape[1:], height, width)
        if array.ndim == 3 and array.shape[:2] == (height, width):
            hint = "; move the labels first, probs.transpose(2, 0, 1)"
        raise ValueError(
            f"{name} must have shape (n_labels, height, width) = (at least 1, {height}, {width}) "
            f"like its image but has {array.shape}{hint}"
        )
    return as_float32(name, array)
