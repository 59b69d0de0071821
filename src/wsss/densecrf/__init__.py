"""Fully connected CRFs on a compiled permutohedral lattice, needing NumPy alone.

Three doors to one core:

- `dense_crf` refines a batch of probability maps, images in parallel: what the pipeline uses.
- `DenseCRF2D`, `DenseCRF` and `wsss.densecrf.utils` answer as pydensecrf does, so that
  `import wsss.densecrf as dcrf` replaces `import pydensecrf.densecrf as dcrf`.
- `lattice_filter` is the bare Gaussian filter; `wsss.densecrf.reference` is its exact O(N²)
  counterpart for small images.

Results do not depend on the number of threads and are the same bytes from run to run.
"""

from wsss.densecrf.crf import (
    CONST_KERNEL,
    DIAG_KERNEL,
    FULL_KERNEL,
    NO_NORMALIZATION,
    NORMALIZE_AFTER,
    NORMALIZE_BEFORE,
    NORMALIZE_SYMMETRIC,
    DenseCRF,
    DenseCRF2D,
    KernelType,
    NormalizationType,
)
from wsss.densecrf.inference import dense_crf
from wsss.densecrf.lattice import lattice_filter
from wsss.densecrf.threads import get_num_threads, set_num_threads

__all__ = [
    "CONST_KERNEL",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "DenseCRF",
    "DenseCRF2D",
    "KernelType",
    "NormalizationType",
    "dense_crf",
    "get_num_threads",
    "lattice_filter",
    "set_num_threads",
]
