"""Bring what a caller passes into the shape, dtype and memory order the compiled core takes.

Tensors are told apart without importing PyTorch: where it has not been imported there are none.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Float32Array = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def is_tensor(value: object) -> "TypeGuard[torch.Tensor]":
    """Whether `value` is a `torch.Tensor`."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def common_device(named: Mapping[str, object]) -> "torch.device | None":
    """The device of all these tensors, or None if none of them is a tensor.

    Raises:
        ValueError: tensors are mixed with something else, are on several devices, or require grad.
    """
    places: dict[torch.device | None, str] = {}  # where, and the first of that place
    for name, value in named.items():
        if not is_tensor(value):
            places.setdefault(None, name)
            continue
        if value.requires_grad:
            raise ValueError(
                f"{name} requires grad, but nothing here is differentiable; pass "
                f"`{name}.detach()`, or train with DenseCrfLoss"
            )
        places.setdefault(value.device, name)
    if len(places) > 1:
        found = ", ".join(
            f"{name} is {'no tensor' if device is None else f'on {device}'}"
            for device, name in places.items()
        )
        first, other = places.values() if len(places) == 2 else list(places.values())[:2]
        devices = {name: device for device, name in places.items()}
        if devices[first] is None:
            first, other = other, first
        if devices[other] is None:
            convert = f"torch.as_tensor({other}, device={first}.device)"
        else:
            convert = f"{other}.to({first}.device)"
        raise ValueError(
            f"pass NumPy arrays only, or tensors on one device only, but {found}; `{convert}` "
            f"converts"
        )
    return next(iter(places), None)


def tensor_as_array(name: str, tensor: "torch.Tensor") -> npt.NDArray[Any]:
    """A CPU tensor as a NumPy array on the same memory; a copy where NumPy lacks the dtype.

    Raises:
        ValueError: as `check_real_tensor`.
    """
    check_real_tensor(name, tensor)
    if tensor.is_floating_point() and tensor.element_size() < 4:  # bfloat16 is unknown to NumPy
        tensor = tensor.float()
    return tensor.numpy()


def check_real_tensor(name: str, tensor: "torch.Tensor") -> None:
    """Check that a tensor holds real numbers in strided memory.

    Raises:
        ValueError: it does not.
    """
    if tensor.is_complex() or tensor.is_quantized or str(tensor.layout) != "torch.strided":
        raise ValueError(
            f"{name} must hold real numbers in dense memory but has dtype {tensor.dtype} and "
            f"layout {tensor.layout}"
        )


def as_array(name: str, value: object) -> npt.NDArray[Any]:
    """`value` as a numeric NumPy array, without a copy where possible.

    Raises:
        ValueError: it is not an array of numbers (complex, objects, a tensor that needs detaching).
    """
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot be read as a NumPy array ({error})"
            + (f"; pass `{name}.detach().cpu().numpy()`" if is_tensor(value) else "")
        ) from error
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must hold real numbers but has dtype {array.dtype}")
    return array


def as_float32(name: str, value: object) -> Float32Array:
    """`value` as C-contiguous, aligned float32, copied only if it is not so already.

    Values that float32 cannot hold become infinite, and are refused where they matter.
    """
    array = as_array(name, value)
    with np.errstate(over="ignore"):
        return np.require(array, np.float32, ["C", "A"]).reshape(array.shape)


def as_features(name: str, value: object) -> Features:
    """`value` as C-contiguous, aligned float32, or float64 where float32 would not hold it all.

    Coordinates far from the origin lie closer together than float32 tells apart.
    """
    array = as_array(name, value)
    dtype = np.float32 if np.can_cast(array.dtype, np.float32) else np.float64
    with np.errstate(over="ignore"):
        return np.require(array, dtype, ["C", "A"]).reshape(array.shape)


def check_sigma(name: str, value: float, without: str = "do not add it") -> float:
    """`value` as a float.

    Args:
        name: the argument.
        value: what was passed for it.
        without: how a caller leaves out the term that the sigma belongs to.

    Raises:
        ValueError: it is not a finite number above 0, in float32 as in float64.
    """
    sigma = _as_number(name, value)
    with np.errstate(over="ignore", under="ignore"):
        narrowed = float(np.float32(sigma))
    if not (math.isfinite(narrowed) and narrowed > 0):
        raise ValueError(
            f"{name} must be finite and above 0 but is {value!r}; to leave a term out, {without}"
        )
    return sigma


def check_sigmas(name: str, value: float | Sequence[float], count: int) -> tuple[float, ...]:
    """`count` sigmas from one number for all, or from one number each.

    Raises:
        ValueError: another number of elements, or one that is not finite and above 0.
    """
    array = as_array(name, value)
    if array.ndim == 0:
        return (check_sigma(name, float(array)),) * count
    if array.shape != (count,):
        raise ValueError(
            f"{name} must be one number or {count} numbers but has shape {array.shape}"
        )
    return tuple(check_sigma(f"{name}[{i}]", float(array[i])) for i in range(count))


def check_finite(name: str, value: float) -> float:
    """`value` as a float.

    Raises:
        ValueError: it is not a number that is finite in float32.
    """
    number = _as_number(name, value)
    if not abs(number) <= float(np.finfo(np.float32).max):
        raise ValueError(f"{name} must be finite but is {value!r}")
    return number


def check_flag(name: str, value: bool) -> bool:
    """`value` as a bool.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False but is {value!r}")
    return bool(value)


def check_count(name: str, value: float, least: int) -> int:
    """`value` as an int: pydensecrf takes 5.0 as well, and so does code written for it.

    Raises:
        ValueError: it is not a whole number of at least `least` that fits 32 bits.
    """
    number = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if not whole and not (isinstance(number, float | np.floating) and float(number).is_integer()):
        raise ValueError(f"{name} must be an integer but is {value!r}")
    if not least <= number < 2**31:
        raise ValueError(f"{name} must be at least {least} and below 2^31 but is {value}")
    return int(number)


def _as_number(name: str, value: float) -> float:
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number but is {value!r}") from error
