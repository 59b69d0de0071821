"""What a proposal source is."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

import numpy as np

from wsss.artifacts import Proposals

if TYPE_CHECKING:
    import torch

__all__ = ["Device", "ProposalSource"]

Device: TypeAlias = "Callable[[], torch.device]"
"""Asked by a source with a network, where that goes."""


class ProposalSource(Protocol):
    """Built from its settings and a `Device`; registered with `PROPOSALS`.

    Attributes:
        parallel: it can be pickled, and copies may share the images in several processes. A
            source with a network says False and sees one image after another.
    """

    parallel: ClassVar[bool]

    def __call__(self, image: np.ndarray) -> Proposals:
        """Find masks in an image, which may overlap and need not cover it.

        Args:
            image: (H, W, 3) uint8 RGB, of any size.

        Raises:
            ValueError: it is no such array.
        """
