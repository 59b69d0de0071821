"""Mean-field inference in plain PyTorch, for images that are not on the CPU.

All images of a batch go through one lattice and one sequence of launches, as many at a time as fit
the memory. How many those are does not change a bit of the result.
"""

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from wsss.densecrf.torch_lattice import BatchKeyError, TorchLattice

__all__ = ["CrfSettings", "refine_images"]

_EPSILON = 1e-20  # beside the kernel's mass, as in the compiled core
_MOST_PROB = 1.001  # a little slack: sums of float32 probabilities overshoot 1


class CrfSettings(TypedDict):
    """Checked settings of `dense_crf`, by the names that the compiled core has for them."""

    sigma_xy: float
    sigma_rgb: float
    compat_bilateral: float
    sigma_gaussian: float
    compat_gaussian: float
    n_iters: int
    min_prob: float
    phantom_points: bool


@torch.no_grad()
def refine_images(
    images: Sequence[Tensor],
    probs: Sequence[Tensor],
    settings: CrfSettings,
    *,
    memory_bytes: int | None = None,
) -> list[Tensor]:
    """`dense_crf` of images on one device, any, on that device.

    Args:
        images: (H, W, 3) uint8, of any sizes.
        probs: (L, H, W) float32 of each, with any numbers of labels.
        settings: as `dense_crf` has checked them.
        memory_bytes: images are taken together until they need about this much; None takes half
            of what is free. One image is taken whatever it needs.

    Returns:
        (L, H, W) float32 of each, contiguous.

    Raises:
        ValueError: a value is outside [0, 1] or not finite; a sigma is so small that the features
            span 2^40 lattice cells.
    """
    if not probs:
        return []
    _check_values(probs)
    # One width for all: the order in which a softmax adds up depends on it.
    width = max(len(image_probs) for image_probs in probs)
    budget = _free_bytes(probs[0].device) // 2 if memory_bytes is None else memory_bytes
    refined: list[Tensor] = []
    for chunk in _chunks(
        [image_probs[0].numel() for image_probs in probs], budget // _bytes_per_pixel(width)
    ):
        refined += _refine_together(images[chunk], probs[chunk], width, settings)
    return refined


def _check_values(probs: Sequence[Tensor]) -> None:
    ranges = torch.stack([torch.stack(p.aminmax()) for p in probs]).tolist()  # waits once
    for i, (low, high) in enumerate(ranges):
        if low >= 0 and high <= _MOST_PROB:  # never if there is a NaN
            continue
        wrong = ~((probs[i] >= 0) & (probs[i] <= _MOST_PROB))
        label, row, column = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"probs[{i}] must be probabilities in [0, 1] but is "
            f"{float(probs[i][label, row, column]):f} at label {label}, row {row}, column {column}"
            f"; apply a softmax to logits first"
        )


def _chunks(sizes: Sequence[int], most: int) -> Iterator[slice]:
    """Runs of images of at most `most` pixels together, or of one image."""
    begin = 0
    for end in range(1, len(sizes) + 1):
        if end == len(sizes) or sum(sizes[begin : end + 1]) > most:
            yield slice(begin, end)
            begin = end


def _bytes_per_pixel(n_labels: int) -> int:
    """About the most that a pixel needs at one time.

    The 6 corners of the appearance term, each with its key, its place and what sorting takes, and
    then 7 rows of labels: the unary, the probabilities, the energy, and the vertices before and
    after a blur (as many vertices as pixels, or twice, in a photograph).
    """
    return 6 * 80 + 7 * 4 * n_labels


def _free_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return 8 << 30
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + kept


def _refine_together(
    images: Sequence[Tensor], probs: Sequence[Tensor], width: int, settings: CrfSettings
) -> list[Tensor]:
    """Refine in one lattice, with `width` labels of which an image's own come first."""
    try:
        terms = _terms(images, settings)
    except BatchKeyError:
        pairs = zip(images, probs, strict=True)
        return [
            _refine_together([image], [image_probs], width, settings)[0]
            for image, image_probs in pairs
        ]
    sizes = [image_probs[0].numel() for image_probs in probs]
    neg_unary = probs[0].new_full((sum(sizes), width), -torch.inf)
    for rows, image_probs in zip(torch.split(neg_unary, sizes), probs, strict=True):
        floored = image_probs.flatten(1).clamp(settings["min_prob"], 1)
        rows[:, : len(image_probs)] = floored.log().T

    q = neg_unary.softmax(dim=1)
    for _ in range(settings["n_iters"]):
        q = sum((term.filter(q) for term in terms), neg_unary).softmax(dim=1)
    return [
        rows[:, : len(image_probs)].T.reshape(image_probs.shape).contiguous()
        for rows, image_probs in zip(torch.split(q, sizes), probs, strict=True)
    ]


def _terms(images: Sequence[Tensor], settings: CrfSettings) -> list[TorchLattice]:
    """The pairwise terms, each a filter normalised symmetrically and times its weight.

    Raises:
        BatchKeyError: the images need to be taken one by one.
    """
    sizes = [image.shape[0] * image.shape[1] for image in images]
    terms = []
    for compat, sigma_xy, sigma_rgb in (
        (settings["compat_gaussian"], settings["sigma_gaussian"], None),
        (settings["compat_bilateral"], settings["sigma_xy"], settings["sigma_rgb"]),
    ):
        if compat == 0:
            continue
        features = _position_features(images, sigma_xy)
        if sigma_rgb is not None:
            features = torch.cat([features, _colour_features(images, sigma_rgb)])
        lattice = TorchLattice.build(
            features, sizes, phantom_points=settings["phantom_points"], from_zero=True
        )
        mass = lattice.filter(torch.ones_like(features[0]).unsqueeze(1)).squeeze(1)
        factor = (mass + _EPSILON).rsqrt()
        terms.append(lattice.scaled(before=factor, after=factor * compat))
    return terms


def _position_features(images: Sequence[Tensor], sigma: float) -> Tensor:
    """(2, P): x / sigma and y / sigma."""
    longest = max(max(image.shape[:2]) for image in images)
    steps = _quotients(longest, sigma, images[0].device)
    planes = []
    for height, width in (image.shape[:2] for image in images):
        x = steps[:width].expand(height, width)
        y = steps[:height].unsqueeze(1).expand(height, width)
        planes.append(torch.stack([x, y]).flatten(1))
    return torch.cat(planes, dim=1)


def _colour_features(images: Sequence[Tensor], sigma: float) -> Tensor:
    """(3, P): R, G and B / sigma."""
    levels = _quotients(256, sigma, images[0].device)
    pixels = torch.cat([image.reshape(-1, 3) for image in images])
    return levels[pixels.T.int()]


def _quotients(count: int, sigma: float, device: torch.device) -> Tensor:
    """(count,) float32: 0, 1, ... / sigma, divided here, since CUDA multiplies by the inverse."""
    steps = np.arange(count, dtype=np.float32) / np.float32(sigma)
    return torch.from_numpy(steps).to(device, non_blocking=True)
