"""The bare Gaussian filter on the permutohedral lattice."""

import numpy as np

from wsss.densecrf import _native
from wsss.densecrf._arrays import Float32Array, as_float32


def lattice_filter(
    features: np.ndarray, values: np.ndarray, *, parity: bool = False
) -> Float32Array:
    """Filter values with a Gaussian over any features, in time linear in the number of points.

    Approximates `out[:, i] = c * sum_k exp(-|f_i - f_k|² / 2) values[:, k]`, k = i included, with
    one factor c for all points. Divide by the filter of ones for an average.

    Args:
        features: (d, N) float, d in 1..15, each already divided by its sigma.
        values: (C, N) float, any number of channels.
        parity: add pydensecrf's phantom points, see `dense_crf`.

    Returns:
        (C, N) float32.

    Raises:
        ValueError: the shapes disagree, N or C is zero, something is not finite, or the features
            span more lattice cells than can be numbered (sigma far too small).

    References:
        Adams, Baek & Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice, 2010.
    """
    checked_features = as_float32("features", features)
    checked_values = as_float32("values", values)
    if checked_features.ndim != 2:
        raise ValueError(f"features must have shape (d, N) but has {checked_features.shape}")
    if checked_values.ndim != 2 or checked_values.shape[1] != checked_features.shape[1]:
        raise ValueError(
            f"values must have shape (C, N) with N = {checked_features.shape[1]} as in features "
            f"but has {checked_values.shape}"
        )
    if not np.isfinite(checked_values).all():
        channel, point = np.argwhere(~np.isfinite(checked_values))[0]
        raise ValueError(
            f"values must be finite but is {checked_values[channel, point]} "
            f"at channel {channel}, point {point}"
        )
    out = np.empty_like(checked_values)
    _native.lattice_filter(checked_features, checked_values, out, phantom_points=bool(parity))
    return out
