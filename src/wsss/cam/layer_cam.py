"""LayerCAM."""

from typing import TYPE_CHECKING, Literal

from wsss.cam._gradients import GradientCamSettings, gradient_cams
from wsss.registry import CAM_METHODS

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["LayerCam", "LayerCamSettings", "layer_cam_maps"]


class LayerCamSettings(GradientCamSettings):
    """Of LayerCAM."""

    name: Literal["layer_cam"] = "layer_cam"


def layer_cam_maps(activations: "Tensor", gradients: "Tensor") -> "Tensor":
    """ReLU(sum over channels of ReLU(g) A), cell by cell.

    Args:
        activations: (n, D, h, w), A.
        gradients: (n, D, h, w) of the class score, g.

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
class LayerCam:
    """Cells weighted by their own positive gradient (Jiang et al., TIP 2021).

    It stays sharp at early layers. Times the number of cells, so that scales count alike.
    """

    needs_gradients = True

    def __init__(self, settings: LayerCamSettings) -> None:
        self.layers = settings.layers

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        def maps_of(activations: "Tensor", gradients: "Tensor") -> "Tensor":
            return layer_cam_maps(activations, gradients) * activations[0, 0].numel()

        return gradient_cams(model, images, rows, columns, self.layers, maps_of)
