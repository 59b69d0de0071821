"""Fully connected CRFs on a compiled permutohedral lattice, needing NumPy alone.

Four doors to one core:

- `dense_crf` refines a batch of probability maps, images in parallel: what the pipeline uses.
- `DenseCRF2D`, `DenseCRF` and `wsss.densecrf.utils` answer as pydensecrf does, so that
  `import wsss.densecrf as dcrf` replaces `import pydensecrf.densecrf as dcrf`.
- `bilateral_filter` is the bare Gaussian filter; `wsss.densecrf.reference` is its exact O(N²)
  counterpart for small images.
- `DenseCrfLoss` trains a network with the CRF's energy.

`dense_crf` and `bilateral_filter` also take PyTorch tensors, and compute where those are. PyTorch
is imported only by a call with tensors, and by the first use of `DenseCrfLoss`.

Results do not depend on the number of threads and are the same bytes from run to run.
"""

from typing import TYPE_CHECKING

from wsss.densecrf.crf import (
    CONST_KERNEL,
    DIAG_KERNEL,
    FULL_KERNEL,
    NO_NORMALIZATION,
    NORMALIZE_AFTER,
    NORMALIZE_BEFORE,
    NORMALIZE_SYMMETRIC,
    ConstUnary,
    DenseCRF,
    DenseCRF2D,
    KernelType,
    LogisticUnary,
    NormalizationType,
)
from wsss.densecrf.inference import dense_crf
from wsss.densecrf.lattice import bilateral_filter
from wsss.densecrf.memory import free_memory
from wsss.densecrf.threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from wsss.densecrf.loss import DenseCrfLoss as DenseCrfLoss

# DenseCrfLoss is left out: `import *` must not need PyTorch.
__all__ = [
    "CONST_KERNEL",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "ConstUnary",
    "DenseCRF",
    "DenseCRF2D",
    "KernelType",
    "LogisticUnary",
    "NormalizationType",
    "bilateral_filter",
    "dense_crf",
    "free_memory",
    "get_num_threads",
    "set_num_threads",
]


def __getattr__(name: str) -> object:
    if name != "DenseCrfLoss":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from wsss.densecrf.loss import DenseCrfLoss
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError("DenseCrfLoss needs PyTorch: pip install torch") from error
    return DenseCrfLoss
