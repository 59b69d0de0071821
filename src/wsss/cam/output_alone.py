"""What a CAM method is that can share a forward pass with others."""

from typing import Literal, Protocol, runtime_checkable

from wsss.cam._base import CamMethod

__all__ = ["OutputCamMethod"]


@runtime_checkable
class OutputCamMethod(CamMethod, Protocol):
    """A `CamMethod` that asks the classifier for its output, and looks at nothing on the way there.

    Of images that another one has asked for already, it takes the same output.
    """

    output_alone: Literal[True]
    """Tells such a method from others."""
