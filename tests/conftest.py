"""Fixtures for all tests."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch


@pytest.fixture(scope="session")
def cuda() -> "torch.device":
    """A GPU, or the test is skipped."""
    torch = pytest.importorskip("torch", reason="needs PyTorch and a GPU that it can use")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU that PyTorch can use (CUDA)")
    return torch.device("cuda")
