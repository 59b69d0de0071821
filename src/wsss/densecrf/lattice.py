"""The bare Gaussian filter on the permutohedral lattice."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from wsss.densecrf import _native
from wsss.densecrf._arrays import (
    Features,
    Float32Array,
    as_features,
    as_float32,
    check_flag,
    common_device,
    tensor_as_array,
)
from wsss.densecrf._layouts import Layout, reorder
from wsss.densecrf.threads import resolve_num_threads

if TYPE_CHECKING:
    import torch


@overload
def bilateral_filter(
    features: np.ndarray,
    values: np.ndarray,
    *,
    parity: bool = ...,
    num_threads: int | None = ...,
) -> Float32Array: ...


@overload
def bilateral_filter(
    features: "torch.Tensor",
    values: "torch.Tensor",
    *,
    parity: bool = ...,
    num_threads: int | None = ...,
) -> "torch.Tensor": ...


def bilateral_filter(
    features: "np.ndarray | torch.Tensor",
    values: "np.ndarray | torch.Tensor",
    *,
    parity: bool = False,
    num_threads: int | None = None,
) -> "Float32Array | torch.Tensor":
    """Filter values with a Gaussian over any features, in time linear in the number of points.

    Approximates `out[:, i] = c * sum_k exp(-|f_i - f_k|² / 2) values[:, k]`, k = i included, with
    one factor c for all points. Divide by the filter of ones for an average. With positions and
    colours for features it is the bilateral filter.

    Arrays and CPU tensors go through the compiled core without a copy where they are contiguous
    float32, and give float32. Tensors elsewhere are filtered where they are, in float64 if their
    features are float64, else in float32.

    Args:
        features: (d, N) float, d in 1..255, each already divided by its sigma; or (B, d, N), a
            batch of B filters that know nothing of one another. Where they lie does not matter, and
            float64 is used where it is passed: metres of a map need it.
        values: (C, N) float, any number of channels; or (B, C, N).
        parity: add pydensecrf's phantom points, see `dense_crf`.
        num_threads: threads to use; None takes `get_num_threads()`. Counts on the CPU alone.

    Returns:
        (C, N) or (B, C, N): an array for arrays, a tensor on the same device for tensors. It has no
        gradient: `DenseCrfLoss` is the way to train through it.

    Raises:
        ValueError: the shapes disagree, N or C is zero, something is not finite, or the features
            span 2^40 lattice cells, some 10^12 sigmas; tensors require grad, or are mixed with
            arrays or with tensors of another device.

    References:
        Adams, Baek & Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice, 2010.
    """
    named: dict[str, Any] = {"features": features, "values": values}
    device = common_device(named)
    parity = check_flag("parity", parity)
    threads = resolve_num_threads(num_threads)
    if device is None:
        return _filter_arrays(named, parity, threads)
    if device.type == "cpu":
        import torch

        arrays = {name: tensor_as_array(name, tensor) for name, tensor in named.items()}
        return torch.from_numpy(_filter_arrays(arrays, parity, threads))
    return _filter_tensors(named["features"], named["values"], parity)


def native_filter(
    features: Features, values: Float32Array, *, phantom_points: bool, num_threads: int
) -> Float32Array:
    """The compiled filter of each element of a batch: (B, d, N) and (B, C, N), C-contiguous.

    Returns:
        (B, C, N).

    Raises:
        ValueError: the features are not finite, or span too much.
    """
    out = np.empty_like(values)
    _native.filter_points(
        list(features),
        list(values),
        list(out),
        phantom_points=phantom_points,
        num_threads=num_threads,
    )
    return out


def _filter_arrays(named: Mapping[str, object], parity: bool, threads: int) -> Float32Array:
    f, v = as_features("features", named["features"]), as_float32("values", named["values"])
    _check_shapes(f, v)
    if not np.isfinite(v).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(v))[0])
        raise ValueError(_not_finite(at, float(v[at])))
    batch = (f, v) if v.ndim == 3 else (f[None], v[None])
    out = native_filter(*batch, phantom_points=parity, num_threads=threads)
    return out.reshape(v.shape)


def _filter_tensors(
    features: "torch.Tensor", values: "torch.Tensor", parity: bool
) -> "torch.Tensor":
    import torch

    from wsss.densecrf.torch_lattice import filter_batch

    _check_shapes(features, values)
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    f, v = features.to(dtype), values.to(dtype)
    if not torch.isfinite(v).all():
        at = tuple(int(i) for i in (~torch.isfinite(v)).nonzero()[0])
        raise ValueError(_not_finite(at, float(v[at])))
    batch = (f, v) if v.ndim == 3 else (f[None], v[None])
    return filter_batch(*batch, phantom_points=parity).reshape(v.shape)


def _check_shapes(features: Any, values: Any) -> None:
    """Check two arrays or tensors.

    Raises:
        ValueError: their shapes are not those of `bilateral_filter`, or do not agree.
    """
    f, v = tuple(features.shape), tuple(values.shape)
    if len(f) not in (2, 3):
        hint = reorder("features", features, [("(N,)", f, "{x}[None]")] if len(f) == 1 else [])
        raise ValueError(f"features must have shape (d, N) or (B, d, N) but has {f}{hint}")
    wanted = f"(B, C, N) with B = {f[0]} and N = {f[-1]}"
    layouts: list[Layout] = []
    if len(f) == 2:
        wanted = f"(C, N) with N = {f[1]}"
        if len(v) == 1:
            layouts = [("(N,)", f[1:], "{x}[None]")]
        elif len(v) == 2:
            layouts = [("(N, C)", (f[1], v[1]), "{x}.T")]
    if len(v) != len(f) or (v[:-2], v[-1]) != (f[:-2], f[-1]):
        raise ValueError(
            f"values must have shape {wanted} as in features but has {v}"
            f"{reorder('values', values, layouts)}"
        )
    if 0 in v[-2:]:
        raise ValueError(f"values must have at least one channel and one point but has {v}")


def _not_finite(at: tuple[int, ...], value: float) -> str:
    element = f"element {at[0]}, " if len(at) == 3 else ""
    return f"values must be finite but is {value} at {element}channel {at[-2]}, point {at[-1]}"
