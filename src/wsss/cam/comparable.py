"""What a CAM method is whose maps mean the same in every image."""

from typing import Literal, Protocol, runtime_checkable

from wsss.cam._base import CamMethod

__all__ = ["ComparableCamMethod"]


@runtime_checkable
class ComparableCamMethod(CamMethod, Protocol):
    """A `CamMethod` whose maps are probabilities, or the like.

    They are in [0, 1] at every scale, so that they are averaged over scales and flips, and never
    divided by their own maximum.
    """

    comparable: Literal[True]
    """Tells such a method from others."""
