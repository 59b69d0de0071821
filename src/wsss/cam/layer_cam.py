"""LayerCAM."""

from typing import TYPE_CHECKING, Literal

from wsss.cam._gradients import GradientCam, GradientCamSettings
from wsss.registry import CAM_METHODS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LayerCam", "LayerCamSettings", "layer_cam_maps"]


class LayerCamSettings(GradientCamSettings):
    """Which layers to look at."""

    name: Literal["layer_cam"] = "layer_cam"


def layer_cam_maps(activations: "Tensor", gradients: "Tensor") -> "Tensor":
    """ReLU(sum over channels of ReLU(g) A), cell by cell.

    Args:
        activations: (n, D, h, w), A.
        gradients: (n, D, h, w) of the class score, g; or (n, D, 1, 1), the same in all cells.

    Returns:
        (n, h, w), at least 0.

    Example:
        >>> import torch
        >>> activations = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
        >>> gradients = torch.tensor([[[[1.0, -1.0]], [[0.5, 2.0]]]])
        >>> layer_cam_maps(activations, gradients)
        tensor([[[2.5000, 8.0000]]])
    """
    return (gradients.relu() * activations).sum(dim=1).relu()


@CAM_METHODS.register(LayerCamSettings)
class LayerCam(GradientCam):
    """Cells weighted by their own positive gradient (Jiang et al., TIP 2021).

    It stays sharp at early layers. Times the number of cells, so that scales count alike.
    """

    def maps(self, activations: "Tensor", gradients: "Tensor") -> "Tensor":
        return layer_cam_maps(activations, gradients) * activations.shape[2:].numel()
