"""Refine probability maps with a fully connected CRF: the function the pipeline calls."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np

from wsss.densecrf import _native
from wsss.densecrf._arrays import (
    Float32Array,
    as_array,
    as_float32,
    check_count,
    check_finite,
    check_flag,
    check_real_tensor,
    check_sigma,
    common_device,
    is_tensor,
    tensor_as_array,
)
from wsss.densecrf._layouts import as_rgb_image, check_probs_shape, check_rgb_image
from wsss.densecrf.threads import resolve_num_threads

if TYPE_CHECKING:
    import torch

    from wsss.densecrf.torch_crf import CrfSettings


class DenseCrfOptions(TypedDict, total=False):
    """The keywords of `dense_crf`."""

    sigma_xy: float
    sigma_rgb: float
    compat_bilateral: float
    sigma_gaussian: float
    compat_gaussian: float
    n_iters: int
    min_prob: float
    parity: bool
    num_threads: int | None


@overload
def dense_crf(
    images: np.ndarray, probs: np.ndarray, **options: Unpack[DenseCrfOptions]
) -> Float32Array: ...


@overload
def dense_crf(
    images: "torch.Tensor", probs: "torch.Tensor", **options: Unpack[DenseCrfOptions]
) -> "torch.Tensor": ...


@overload
def dense_crf(
    images: Sequence[np.ndarray],
    probs: Sequence[np.ndarray],
    **options: Unpack[DenseCrfOptions],
) -> list[Float32Array]: ...


@overload
def dense_crf(
    images: "Sequence[torch.Tensor]",
    probs: "Sequence[torch.Tensor]",
    **options: Unpack[DenseCrfOptions],
) -> "list[torch.Tensor]": ...


def dense_crf(
    images: "np.ndarray | torch.Tensor | Sequence[np.ndarray] | Sequence[torch.Tensor]",
    probs: "np.ndarray | torch.Tensor | Sequence[np.ndarray] | Sequence[torch.Tensor]",
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
) -> "Float32Array | torch.Tensor | list[Float32Array] | list[torch.Tensor]":
    """Refine probabilities so that near pixels of like colour take the same label.

    Mean-field inference with a smoothness term (position) and an appearance term (position and
    colour), Potts compatibility and symmetric normalisation. The unary energy is
    `-log(max(probs, min_prob))`.

    Images are refined in parallel, and threads that are left over share the work of an image. The
    result does not depend on their number and is the same bytes from run to run. The GIL is
    released; the call may be made from several threads, and in a forked child of a process that has
    made it. In the main thread, a signal handler that raises ends the call between two updates, as
    Ctrl-C does.

    Tensors on the CPU take the same way, without a copy. Tensors on a GPU are refined there, all
    images together, as many at a time as half its free memory holds. The two agree up to rounding,
    and the GPU too gives the same bytes from run to run.

    Args:
        images: (H, W, 3) uint8 RGB, or a list of such of differing sizes: NumPy arrays, or PyTorch
            tensors on one device.
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
        num_threads: threads to use; None takes `get_num_threads()`. Counts on the CPU alone.

    Returns:
        (L, H, W) float32 probabilities, summing to one over L; a list for lists. Tensors for
        tensors, on their device.

    Raises:
        ValueError: a shape, dtype or size is wrong; a probability is outside [0, 1] or not finite
            (its position is named); a setting is out of its range; tensors require grad, or are
            mixed with arrays or with tensors of another device.

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
    single = (isinstance(images, np.ndarray) or is_tensor(images)) and images.ndim <= 3
    image_list = [images] if single else _as_list("images", images)
    probs_list = [probs] if single else _as_list("probs", probs)
    if len(image_list) != len(probs_list):
        raise ValueError(
            f"images and probs must be lists of one length but have "
            f"{len(image_list)} and {len(probs_list)} elements"
        )
    floor = check_finite("min_prob", min_prob)
    if not 1e-37 <= floor < 1:
        raise ValueError(f"min_prob must be in [1e-37, 1) but is {min_prob!r}; 1e-5 is usual")
    bilateral = check_finite("compat_bilateral", compat_bilateral)
    gaussian = check_finite("compat_gaussian", compat_gaussian)
    settings: CrfSettings = {
        "sigma_xy": _sigma_of("compat_bilateral", bilateral, "sigma_xy", sigma_xy),
        "sigma_rgb": _sigma_of("compat_bilateral", bilateral, "sigma_rgb", sigma_rgb),
        "compat_bilateral": bilateral,
        "sigma_gaussian": _sigma_of("compat_gaussian", gaussian, "sigma_gaussian", sigma_gaussian),
        "compat_gaussian": gaussian,
        "n_iters": check_count("n_iters", n_iters, least=0),
        "min_prob": floor,
        "phantom_points": check_flag("parity", parity),
    }
    threads = resolve_num_threads(num_threads)
    suffixes = [""] if single else [f"[{i}]" for i in range(len(image_list))]
    image_names = [f"images{suffix}" for suffix in suffixes]
    probs_names = [f"probs{suffix}" for suffix in suffixes]
    named_images = dict(zip(image_names, image_list, strict=True))
    named_probs = dict(zip(probs_names, probs_list, strict=True))
    device = common_device(named_images | named_probs)
    refined: list[Any]
    if device is None:
        refined = _refine_arrays(named_images, named_probs, settings, threads)
    else:
        _check_tensors(named_images, named_probs)
    if device is not None and device.type == "cpu":
        import torch

        image_views = {name: tensor_as_array(name, image) for name, image in named_images.items()}
        probs_views = {name: tensor_as_array(name, p) for name, p in named_probs.items()}
        arrays = _refine_arrays(image_views, probs_views, settings, threads)
        refined = [torch.from_numpy(array) for array in arrays]
    elif device is not None:
        refined = _refine_tensors(named_images, named_probs, settings)
    return refined[0] if single else refined


def _sigma_of(compat_name: str, compat: float, name: str, value: float) -> float:
    """The sigma of a term, which does not matter if the term's weight is 0."""
    return check_sigma(name, value, f"`{compat_name}=0`") if compat != 0 else 1.0


def _as_list(name: str, values: Any) -> list[Any]:
    try:
        return list(values)
    except TypeError as error:
        raise ValueError(
            f"{name} must be an array, a tensor or a list of such but is {values!r}"
        ) from error


def _refine_arrays(
    images: Mapping[str, object],
    probs: Mapping[str, object],
    settings: "CrfSettings",
    num_threads: int,
) -> list[Float32Array]:
    """`dense_crf` in the compiled core, of images and probabilities by the names errors give."""
    checked_images, checked_probs = [], []
    for (image_name, image), (probs_name, p) in zip(images.items(), probs.items(), strict=True):
        rgb = as_rgb_image(image_name, image)
        array = as_array(probs_name, p)
        check_probs_shape(probs_name, array, *rgb.shape[:2])
        checked_images.append(rgb)
        checked_probs.append(as_float32(probs_name, array))
    refined = [np.empty_like(p) for p in checked_probs]
    _native.refine_images(
        checked_images, checked_probs, refined, **settings, num_threads=num_threads
    )
    return refined


def _check_tensors(
    images: "Mapping[str, torch.Tensor]", probs: "Mapping[str, torch.Tensor]"
) -> None:
    """Check what `_refine_arrays` checks of arrays, with the advice that fits tensors."""
    for (image_name, image), (probs_name, p) in zip(images.items(), probs.items(), strict=True):
        check_real_tensor(image_name, image)
        check_real_tensor(probs_name, p)
        check_rgb_image(image_name, image)
        check_probs_shape(probs_name, p, *image.shape[:2])


def _refine_tensors(
    images: "Mapping[str, torch.Tensor]",
    probs: "Mapping[str, torch.Tensor]",
    settings: "CrfSettings",
) -> "list[torch.Tensor]":
    """`dense_crf` in PyTorch, on the tensors' device."""
    from wsss.densecrf.torch_crf import refine_images

    return refine_images(list(images.values()), [p.float() for p in probs.values()], settings)
