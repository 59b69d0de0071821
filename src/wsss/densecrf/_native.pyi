"""
Compiled core of wsss.densecrf. Arrays are C-contiguous and of the exact dtype.
"""

from collections.abc import Sequence
import enum
from typing import Annotated, overload

import numpy
from numpy.typing import NDArray


class Normalization(enum.IntEnum):
    NONE = 0

    BEFORE = 1

    AFTER = 2

    SYMMETRIC = 3

class DenseCrf:
    def __init__(self, n_points: int, n_labels: int) -> None: ...

    def set_unary_energy(self, energy: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)]) -> None: ...

    @overload
    def add_pairwise(self, features: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], compat: Annotated[NDArray[numpy.float32], dict(order='C', device='cpu', writable=False)], normalization: Normalization, phantom_points: bool, num_threads: int) -> None: ...

    @overload
    def add_pairwise(self, features: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], compat: Annotated[NDArray[numpy.float32], dict(order='C', device='cpu', writable=False)], normalization: Normalization, phantom_points: bool, num_threads: int) -> None: ...

    def add_pairwise_gaussian(self, height: int, width: int, sigma_x: float, sigma_y: float, compat: Annotated[NDArray[numpy.float32], dict(order='C', device='cpu', writable=False)], normalization: Normalization, phantom_points: bool, num_threads: int) -> None: ...

    def add_pairwise_bilateral(self, image: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, 3), order='C', device='cpu', writable=False)], sigma_x: float, sigma_y: float, sigma_rgb: Sequence[float], compat: Annotated[NDArray[numpy.float32], dict(order='C', device='cpu', writable=False)], normalization: Normalization, phantom_points: bool, num_threads: int) -> None: ...

    def inference(self, n_iters: int, out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], num_threads: int) -> None: ...

    def step(self, q: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], num_threads: int) -> None:
        """One mean-field update, in place."""

    def kl_divergence(self, q: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], num_threads: int) -> float: ...

def refine_images(images: Sequence[Annotated[NDArray[numpy.uint8], dict(shape=(None, None, 3), order='C', device='cpu', writable=False)]], probs: Sequence[Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]], refined: Sequence[Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')]], sigma_xy: float, sigma_rgb: float, compat_bilateral: float, sigma_gaussian: float, compat_gaussian: float, n_iters: int, min_prob: float, phantom_points: bool, num_threads: int) -> None: ...

@overload
def filter_points(features: Sequence[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)]], values: Sequence[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)]], filtered: Sequence[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')]], phantom_points: bool, num_threads: int) -> None: ...

@overload
def filter_points(features: Sequence[Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)]], values: Sequence[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)]], filtered: Sequence[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')]], phantom_points: bool, num_threads: int) -> None: ...

def pixel_adaptive_mean(image: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], scores: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], out: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')], dilations: Sequence[int], n_iters: int, squared: bool, num_threads: int) -> None: ...

def free_kept_memory() -> int:
    """
    Return memory that calls have left to the next ones: how many bytes that were.
    """

def instruction_sets() -> list[str]:
    """Instruction sets built in and supported here, best first."""

def set_instruction_set(name: str) -> None:
    """Choose one for the whole process; they differ in rounding alone."""
