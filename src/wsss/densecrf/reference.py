"""The exact Gaussian filter and CRF in O(N²) NumPy: the oracle for small images.

Nothing here is approximated or fast. The kernel is the true Gaussian in float64, held as an
(N, N) matrix, so a few thousand points are the limit. It shares no code with the compiled core.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

_LARGEST_N = 8192  # 512 MB of kernel


def gaussian_kernel(features: np.ndarray) -> Float64Array:
    """K[i, k] = exp(-|f_i - f_k|² / 2) over all pairs of points, i = k included.

    Args:
        features: (d, N), each component divided by its sigma, N at most 8192.

    Returns:
        (N, N) float64 in [0, 1].

    Raises:
        ValueError: `features` is not (d, N), or N is above 8192.
    """
    f = np.asarray(features, np.float64)
    if f.ndim != 2:
        raise ValueError(f"features must have shape (d, N) but has {f.shape}")
    if f.shape[1] > _LARGEST_N:
        raise ValueError(
            f"the exact kernel takes at most {_LARGEST_N} points but got {f.shape[1]}; for more, "
            f"bilateral_filter approximates it"
        )
    squared = np.zeros((f.shape[1], f.shape[1]))
    for component in f:
        squared += np.subtract.outer(component, component) ** 2
    return np.asarray(np.exp(-0.5 * squared), np.float64)


def gaussian_filter(features: np.ndarray, values: np.ndarray) -> Float64Array:
    """Filter `values` with the unnormalised kernel of `features`.

    Args:
        features: (d, N), each component divided by its sigma.
        values: (C, N).

    Returns:
        (C, N) float64, out[:, i] = sum over k of K[i, k] values[:, k].
    """
    return np.asarray(values, np.float64) @ gaussian_kernel(features)


def normalise_symmetrically(kernel: Float64Array) -> Float64Array:
    """D^-1/2 K D^-1/2 with D the row sums of K: symmetric, as mean field needs it."""
    factor = 1.0 / np.sqrt(kernel.sum(axis=1) + 1e-20)
    return np.asarray(kernel * factor[:, None] * factor[None, :], np.float64)


def position_features(height: int, width: int, sigma_xy: float) -> Float64Array:
    """(2, H*W) features x / sigma_xy, y / sigma_xy, pixels in row-major order."""
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    return np.stack([x, y]).astype(np.float64) / sigma_xy


def bilateral_features(image: np.ndarray, sigma_xy: float, sigma_rgb: float) -> Float64Array:
    """(5, H*W) features: position in pixels / sigma_xy, then R, G, B in 0..255 / sigma_rgb."""
    height, width, _ = image.shape
    colour = image.reshape(-1, 3).T.astype(np.float64) / sigma_rgb
    return np.concatenate([position_features(height, width, sigma_xy), colour])


@dataclass(frozen=True)
class PairwiseTerm:
    """One pairwise term: (d, N) features divided by sigma, and its Potts weight."""

    features: np.ndarray
    compat: float


def mean_field(unary: np.ndarray, terms: Sequence[PairwiseTerm], n_iters: int) -> Float64Array:
    """Mean-field inference: Q <- softmax(-U + sum_m w_m K_m Q), from Q = softmax(-U).

    K_m is normalised symmetrically and keeps its diagonal, as in the authors' code: a point's own
    probability takes part.

    Args:
        unary: (L, N) energies, +inf where a label is impossible.
        terms: the pairwise terms.
        n_iters: updates, at least 0.

    Returns:
        (L, N) float64 probabilities, summing to one over L.

    Raises:
        ValueError: an energy is NaN or -inf, or a point has no possible label.

    References:
        Krähenbühl & Koltun, NIPS 2011, algorithm 1.
    """
    energy = np.asarray(unary, np.float64)
    if not ((energy > -np.inf).all() and np.isfinite(energy).any(axis=0).all()):
        raise ValueError(
            "unary must be above -inf, and finite for one label of each point at least; clip "
            "probabilities away from 0 before taking the logarithm"
        )
    kernels = [normalise_symmetrically(gaussian_kernel(term.features)) for term in terms]
    q = _softmax(-energy)
    for _ in range(n_iters):
        message = np.zeros_like(energy)
        for term, kernel in zip(terms, kernels, strict=True):
            message += term.compat * (q @ kernel)
        q = _softmax(message - energy)
    return q


def dense_crf(
    image: np.ndarray,
    probs: np.ndarray,
    *,
    sigma_xy: float,
    sigma_rgb: float,
    compat_bilateral: float,
    sigma_gaussian: float,
    compat_gaussian: float,
    n_iters: int,
    min_prob: float = 1e-5,
) -> Float64Array:
    """What `wsss.densecrf.dense_crf` approximates, for one image: (L, H, W) probabilities."""
    height, width, _ = image.shape
    floored = np.clip(np.asarray(probs, np.float64), min_prob, 1.0)
    unary = -np.log(floored).reshape(len(probs), -1)
    terms = [
        PairwiseTerm(position_features(height, width, sigma_gaussian), compat_gaussian),
        PairwiseTerm(bilateral_features(image, sigma_xy, sigma_rgb), compat_bilateral),
    ]
    return mean_field(unary, terms, n_iters).reshape(-1, height, width)


def _softmax(logits: Float64Array) -> Float64Array:
    shifted = np.exp(logits - logits.max(axis=0, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=0, keepdims=True), np.float64)
