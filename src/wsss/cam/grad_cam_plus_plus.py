"""GradCAM++."""

from typing import TYPE_CHECKING, Literal

from wsss.cam._gradients import GradientCam, GradientCamSettings
from wsss.registry import CAM_METHODS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GradCamPlusPlus", "GradCamPlusPlusSettings", "grad_cam_plus_plus_maps"]


class GradCamPlusPlusSettings(GradientCamSettings):
    """Which layers to look at."""

    name: Literal["grad_cam_plus_plus"] = "grad_cam_plus_plus"


def grad_cam_plus_plus_maps(activations: "Tensor", gradients: "Tensor") -> "Tensor":
    """ReLU(sum over channels of w A), w = sum over cells of a ReLU(g), a = 1 / (2 + g sum(A)).

    The paper writes a as g^2 / (2 g^2 + g^3 sum(A)). Nothing may be added to that denominator: a
    mean over cells makes g as small as they are many, and g^2 vanishes beside any constant.

    Args:
        activations: (n, D, h, w), A.
        gradients: (n, D, h, w) of the class score, g; or (n, D, 1, 1), the same in all cells.

    Returns:
        (n, h, w), at least 0.

    Example:
        >>> import torch
        >>> activations = torch.tensor([[[[1.0, 2.0]]]])
        >>> gradients = torch.tensor([[[[0.5, 0.0]]]])
        >>> grad_cam_plus_plus_maps(activations, gradients)
        tensor([[[0.1429, 0.2857]]])
    """
    import torch

    positive = gradients.relu()
    below = 2 + positive * activations.sum(dim=(2, 3), keepdim=True)
    below = below.where(below != 0, torch.inf)  # which activations without a ReLU can bring about
    weights = (positive / below).mean(dim=(2, 3), keepdim=True) * activations.shape[2:].numel()
    return (weights * activations).sum(dim=1).relu()


@CAM_METHODS.register(GradCamPlusPlusSettings)
class GradCamPlusPlus(GradientCam):
    """Channels weighted by positive gradients and their curvature (Chattopadhay, WACV 2018)."""

    def maps(self, activations: "Tensor", gradients: "Tensor") -> "Tensor":
        return grad_cam_plus_plus_maps(activations, gradients)
