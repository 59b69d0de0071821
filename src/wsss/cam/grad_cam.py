"""GradCAM."""

from typing import TYPE_CHECKING, Literal

from wsss.cam._gradients import GradientCam, GradientCamSettings
from wsss.registry import CAM_METHODS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GradCam", "GradCamSettings", "grad_cam_maps"]


class GradCamSettings(GradientCamSettings):
    """Which layers to look at."""

    name: Literal["grad_cam"] = "grad_cam"


def grad_cam_maps(activations: "Tensor", gradients: "Tensor") -> "Tensor":
    """ReLU(sum over channels of the mean gradient times the activation).

    Args:
        activations: (n, D, h, w).
        gradients: (n, D, h, w) of the class score; or (n, D, 1, 1), the same in all cells.

    Returns:
        (n, h, w), at least 0.

    Example:
        >>> import torch
        >>> activations = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
        >>> gradients = torch.tensor([[[[1.0, 3.0]], [[-1.0, -1.0]]]])
        >>> grad_cam_maps(activations, gradients)
        tensor([[[0., 4.]]])
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * activations).sum(dim=1).relu()


@CAM_METHODS.register(GradCamSettings)
class GradCam(GradientCam):
    """Channels weighted by their mean gradient (Selvaraju et al., ICCV 2017).

    Times the number of cells, so that scales count alike: at the last layer of a network that
    pools and then applies a linear head it is the CAM itself.
    """

    def maps(self, activations: "Tensor", gradients: "Tensor") -> "Tensor":
        return grad_cam_maps(activations, gradients) * activations.shape[2:].numel()
