"""Check the layout of images, probabilities and energies, and say what to write for another one.

Code that a message gives stands in backticks, names the argument as the caller does, and makes what
was meant of what was passed: the tests evaluate it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss.densecrf._arrays import as_array, is_tensor

Layout = tuple[str, tuple[int, ...], str]
"""Names of the axes, their sizes, and the code: `{x}` is the array, `{p}` its way to permute."""


def as_rgb_image(name: str, value: object) -> npt.NDArray[np.uint8]:
    """`value` as a C-contiguous (H, W, 3) uint8 image, at least 1 x 1.

    Raises:
        ValueError: another dtype (a normalised float image would wrap around silently if cast)
            or shape.
    """
    array = as_array(name, value)
    check_rgb_image(expression(name, value), array)
    return np.ascontiguousarray(array, dtype=np.uint8)


def check_rgb_image(name: str, image: Any) -> None:
    """Check an image, an array or a tensor.

    Raises:
        ValueError: it is not (H, W, 3) uint8 of at least 1 x 1.
    """
    shape = tuple(image.shape)
    if str(image.dtype) not in ("uint8", "torch.uint8"):
        raise ValueError(
            f"{name} must be uint8 RGB in 0..255 but has dtype {image.dtype}; undo any "
            f"normalisation{as_uint8(name, image)}"
        )
    if len(shape) != 3 or shape[2] != 3:
        layouts: list[Layout] = []
        if len(shape) == 3:
            layouts = [
                ("(3, height, width)", (3, *shape[1:]), "{x}.{p}(1, 2, 0)"),
                ("RGB with alpha", (*shape[:2], 4), "{x}[..., :3]"),
            ]
        raise ValueError(
            f"{name} must have shape (height, width, 3) but has {shape}"
            f"{reorder(name, image, layouts)}"
        )
    if 0 in shape:
        raise ValueError(f"{name} must have at least one pixel but has shape {shape}")


def check_probs_shape(name: str, probs: Any, height: int, width: int) -> None:
    """Check the shape of an image's label probabilities, an array or a tensor.

    Raises:
        ValueError: it is not (L, height, width) of at least one label.
    """
    shape = tuple(probs.shape)
    if len(shape) == 3 and shape[1:] == (height, width) and shape[0] > 0:
        return
    layouts = _probs_layouts(shape, height, width)
    raise ValueError(
        f"{name} must have shape (n_labels, height, width) = (at least 1, {height}, {width}) "
        f"like its image but has {shape}{reorder(name, probs, layouts)}"
    )


def reorder(name: str, value: Any, layouts: Sequence[Layout]) -> str:
    """The end of a message about a shape: the code for each layout that the shape fits, or ''.

    Args:
        name: the argument, as the caller writes it.
        value: an array, a tensor or nested sequences.
        layouts: those that are known, the likeliest first.
    """
    shape = tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
    name = expression(name, value)
    permute = "permute" if is_tensor(value) else "transpose"
    fitting: dict[str, str] = {}
    for axes, sizes, template in layouts:
        if shape == sizes:
            fitting.setdefault(template.format(x=name, p=permute), axes)
        elif shape == (1, *sizes):
            fitting.setdefault(template.format(x=f"{name}[0]", p=permute), f"(1, {axes[1:]}")
    return "".join(f"; if it is {axes}, pass `{code}`" for code, axes in fitting.items())


def unary_layouts(n_labels: int, n_points: int, size: tuple[int, int] | None) -> list[Layout]:
    """Layouts of numbers for each label and point where (n_labels, n_points) is wanted."""
    return [
        ("(n_labels, n_points)", (n_labels, n_points), "{x}"),
        *_plane_layouts("n_labels", n_labels, size),
        ("(n_points, n_labels)", (n_points, n_labels), "{x}.T"),
    ]


def feature_layouts(
    shape: tuple[int, ...], n_points: int, size: tuple[int, int] | None
) -> list[Layout]:
    """Layouts of numbers for each component and point where (d, n_points) is wanted."""
    layouts: list[Layout] = []
    for dim in dict.fromkeys([*shape[-1:], *shape[:1], *shape[1:2]]):
        layouts += _plane_layouts("d", dim, size)
        layouts.append(("(n_points, d)", (n_points, dim), "{x}.T"))
    return layouts


def _plane_layouts(first: str, count: int, size: tuple[int, int] | None) -> list[Layout]:
    if size is None:
        return []
    height, width = size
    rows = f".reshape({first if first == 'n_labels' else count}, -1)"
    return [
        (f"({first}, height, width)", (count, height, width), "{x}" + rows),
        (f"(height, width, {first})", (height, width, count), "{x}.{p}(2, 0, 1)" + rows),
        (f"({first}, width, height)", (count, width, height), "{x}.{p}(0, 2, 1)" + rows),
        (f"(width, height, {first})", (width, height, count), "{x}.{p}(2, 1, 0)" + rows),
    ]


def _probs_layouts(shape: tuple[int, ...], height: int, width: int) -> list[Layout]:
    layouts: list[Layout] = []
    for n_labels in dict.fromkeys([*shape[-1:], *shape[:1], *shape[1:2]]):
        if n_labels == 0:
            continue
        layouts += [
            ("(n_labels, height, width)", (n_labels, height, width), "{x}"),
            ("(height, width, n_labels)", (height, width, n_labels), "{x}.{p}(2, 0, 1)"),
            ("(n_labels, width, height)", (n_labels, width, height), "{x}.{p}(0, 2, 1)"),
            ("(width, height, n_labels)", (width, height, n_labels), "{x}.{p}(2, 1, 0)"),
            (
                "(n_labels, n_points)",
                (n_labels, height * width),
                f"{{x}}.reshape(-1, {height}, {width})",
            ),
        ]
    return layouts


def as_uint8(name: str, image: Any) -> str:
    """The code that makes levels of 0..255 of an image of another dtype, or ''."""
    tensor = is_tensor(image)
    if 0 in image.shape or (tensor and image.is_meta):
        return ""
    numbers = image.double() if tensor else image
    low, high = float(numbers.min()), float(numbers.max())
    if not (low >= 0 and high <= 255):
        return f"; it reaches from {low:g} to {high:g}"
    boolean = str(image.dtype) in ("bool", "torch.bool")
    whole = not image.is_floating_point() if tensor else image.dtype.kind in "bui"
    if boolean or (not whole and 0 < high <= 1):
        name = f"({name} * 255)"
    rounded = name if whole else f"{name}.round()"
    return f", `{rounded}.to(torch.uint8)`" if tensor else f", `{rounded}.astype(np.uint8)`"


def expression(name: str, value: object) -> str:
    """`name`, or what makes an array of it."""
    return name if hasattr(value, "shape") else f"np.array({name})"
