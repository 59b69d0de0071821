"""Small images with regions, noise and noisy scores: the input of the CRF tests."""

from collections.abc import Callable

import numpy as np
import pytest

from wsss.densecrf import bilateral_filter

Problem = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    """(height, width, n_labels, rng_seed) -> (H, W, 3) uint8 image, (L, H, W) float32 probs.

    Three flat regions with a little noise and a black corner; at each pixel the label of its region
    is likelier than the others, but noise hides it at a fifth to a half of them.
    """
    return _make_problem


@pytest.fixture(params=["compiled", "torch"])
def filters(request) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """`bilateral_filter` of arrays, in the compiled core, and by PyTorch as on a GPU."""
    if request.param == "compiled":
        return bilateral_filter
    torch = pytest.importorskip("torch")
    from wsss.densecrf.torch_lattice import filter_batch

    def filter_in_torch(features: np.ndarray, values: np.ndarray) -> np.ndarray:
        dtype = torch.float64 if features.dtype == np.float64 else torch.float32
        f, v = (torch.from_numpy(np.ascontiguousarray(a)).to(dtype) for a in (features, values))
        return filter_batch(f[None], v[None])[0].numpy()

    return filter_in_torch


def _make_problem(height: int, width: int, n_labels: int, rng_seed: int = 0) -> Problem:
    rng = np.random.default_rng(rng_seed)
    y, x = np.mgrid[:height, :width]
    region = (x > 0.55 * width).astype(int) + (y > 0.7 * height)
    colour = rng.integers(30, 220, (3, 3))[region] + rng.normal(0, 6, (height, width, 3))
    image = np.clip(colour, 0, 255).astype(np.uint8)
    image[: height // 5, : width // 5] = 0
    scores = rng.normal(size=(n_labels, height, width))
    scores += 1.2 * (np.arange(n_labels)[:, None, None] == region % n_labels)
    probs = np.exp(scores)
    return image, (probs / probs.sum(axis=0)).astype(np.float32)
