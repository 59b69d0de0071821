"""Fixtures for all tests."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest

if TYPE_CHECKING:
    import torch

hypothesis.settings.register_profile("any machine", deadline=None)  # a loaded one is slow
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def cuda() -> "torch.device":
    """A GPU, or the test is skipped."""
    torch = pytest.importorskip("torch", reason="needs PyTorch and a GPU that it can use")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU that PyTorch can use (CUDA)")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def largest_tensor() -> Callable[[], Any]:
    """Makes a context that notes, as `values`, how many the largest tensor has that anything makes.

    Pixels as they are on disk are left out.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Largest(TorchDispatchMode):
        values = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = function(*args, **kwargs or {})
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor) and tensor.dtype != torch.uint8:
                    self.values = max(self.values, tensor.numel())
            return result

    return Largest


Cell = tuple[int, ...]


@pytest.fixture(scope="session")
def on_the_way() -> Callable[[Cell, Cell], list[Cell]]:
    """Gives the cells nearer than 1 to the segment between two, by projecting all onto it."""

    def found(first: Cell, other: Cell) -> list[Cell]:
        start, step = np.array(first, float), np.subtract(other, first).astype(float)
        low, high = np.minimum(first, other), np.maximum(first, other)
        cells: list[Cell] = []
        for y in range(low[0], high[0] + 1):
            for x in range(low[1], high[1] + 1):
                along = np.clip(np.dot((y, x) - start, step) / np.dot(step, step), 0, 1)
                if np.linalg.norm((y, x) - start - along * step) < 1 - 1e-9:
                    cells.append((y, x))
        return cells

    return found
