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
                f"{name} requires grad, but nothing here is differentiable; pass {name}.detach(), "
                f"or train with wsss.densecrf.DenseCrfLoss"
            )
        places.setdefault(value.device, name)
    if len(places) > 1:
        found = ", ".join(
            f"{name} is {'no tensor' if device is None else f'on {device}'}"
            for device, name in places.items()
        )
        raise ValueError(
            f"pass NumPy arrays only, or tensors on one device only, but {found}; "
            f"torch.from_numpy(array).to(device) and tensor.cpu().numpy() convert"
        )
    return next(iter(places), None)


def tensor_as_array(name: str, tensor: "torch.Tensor") -> npt.NDArray[Any]:
    """A CPU tensor as a NumPy array on the same memory; a copy where NumPy lacks the dtype.

    Raises:
        ValueError: it does not hold real numbers, or not in strided memory.
    """
    if tensor.is_complex() or tensor.is_quantized or str(tensor.layout) != "torch.strided":
        raise ValueError(
            f"{name} must hold real numbers in dense memory but has dtype {tensor.dtype} and "
            f"layout {tensor.layout}"
        )
    if tensor.is_floating_point() and tensor.element_size() < 4:  # bfloat16 is unknown to NumPy
        tensor = tensor.float()
    return tensor.numpy()


def as_array(name: str, value: object) -> npt.NDArray[Any]:
    """`value` as a numeric NumPy array, without a copy where possible.

    Raises:
        ValueError: it is not an array of numbers (complex, objects, a tensor that needs detaching).
    """
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot be read as a NumPy array ({error}); "
            f"pass an array, or tensor.detach().cpu().numpy()"
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


def as_rgb_image(name: str, value: object) -> npt.NDArray[np.uint8]:
    """`value` as a C-contiguous (H, W, 3) uint8 image, at least 1 x 1.

    Raises:
        ValueError: another dtype (a normalised float image would wrap around silently if cast)
            or shape.
    """
    array = as_array(name, value)
    check_rgb_image(name, array.shape, str(array.dtype))
    return np.ascontiguousarray(array, dtype=np.uint8)


def check_rgb_image(name: str, shape: tuple[int, ...], dtype: str) -> None:
    """Check an image by its shape and by the name of its dtype, in NumPy or in PyTorch.

    Raises:
        ValueError: it is not (H, W, 3) uint8 of at least 1 x 1.
    """
    if dtype not in ("uint8", "torch.uint8"):
        raise ValueError(
            f"{name} must be uint8 RGB in 0..255 but has dtype {dtype}; undo any "
            f"normalisation, then np.clip(image, 0, 255).astype(np.uint8)"
        )
    if len(shape) != 3 or shape[2] != 3:
        hint = "; move the channels last" if len(shape) == 3 and shape[0] == 3 else ""
        raise ValueError(f"{name} must have shape (height, width, 3) but has {shape}{hint}")
    if 0 in shape:
        raise ValueError(f"{name} must have at least one pixel but has shape {shape}")


def check_probs_shape(name: str, shape: tuple[int, ...], height: int, width: int) -> None:
    """Check the shape of an image's label probabilities.

    Raises:
        ValueError: it is not (L, height, width) of at least one label.
    """
    if len(shape) == 3 and shape[1:] == (height, width) and shape[0] > 0:
        return
    hint = swapped_hint(shape[1:], height, width)
    if len(shape) == 3 and shape[:2] == (height, width):
        hint = "; move the labels first, probs.transpose(2, 0, 1)"
    raise ValueError(
        f"{name} must have shape (n_labels, height, width) = (at least 1, {height}, {width}) "
        f"like its image but has {shape}{hint}"
    )


def swapped_hint(found: tuple[int, ...], height: int, width: int) -> str:
    """What to add to a size error when height and width look exchanged."""
    if height != width and tuple(found) == (width, height):
        return "; height and width are swapped: arrays are (height, width), DenseCRF2D is (w, h)"
    return ""


def check_sigma(name: str, value: float) -> float:
    """`value` as a float.

    Raises:
        ValueError: it is not a finite number above 0, in float32 as in float64.
    """
    sigma = _as_number(name, value)
    with np.errstate(over="ignore", under="ignore"):
        narrowed = float(np.float32(sigma))
    if not (math.isfinite(narrowed) and narrowed > 0):
        raise ValueError(
            f"{name} must be finite and above 0 but is {value!r}; "
            f"to switch a term off, leave it out or set its compat to 0"
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


def check_count(name: str, value: int, least: int) -> int:
    """`value` as an int.

    Raises:
        ValueError: it is not a whole number of at least `least` that fits 32 bits.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be an integer but is {value!r}")
    if not least <= value < 2**31:
        raise ValueError(f"{name} must be at least {least} and below 2^31 but is {value}")
    return int(value)


def _as_number(name: str, value: float) -> float:
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number but is {value!r}") from error
