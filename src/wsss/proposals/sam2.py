"""Mask proposals by SAM 2."""

from typing import Any, Literal

from pydantic import Field

from wsss.checks import full_key
from wsss.loading.normalisation import Normalisation
from wsss.proposals._base import Device
from wsss.proposals._point_grid import PointGrid, PointGridSettings
from wsss.proposals._point_predictor import PointPredictor
from wsss.registry import PROPOSALS
from wsss.settings import expand_path

__all__ = ["Sam2", "Sam2Settings"]


class Sam2Settings(PointGridSettings):
    """Which SAM 2; the checkpoint is a folder with config.json and model.safetensors.

    It is one of transformers, such as a download of facebook/sam2.1-hiera-tiny.
    """

    name: Literal["sam2"] = "sam2"
    pred_iou_thresh: float = Field(default=0.8, ge=0, le=1)
    """Masks stay whose IoU with the object, as the network predicts it, is above this. SAM 2
    comes with a lower value than SAM."""


@PROPOSALS.register(Sam2Settings)
class Sam2(PointGrid):
    """SAM 2 on single images (Ravi et al., ICLR 2025), prompted on a grid of points.

    Needs transformers: `pip install "wsss[sam]"`.
    """

    def make_predictor(self, device: Device) -> Any:
        from wsss.models.pretrained_folder import read_pretrained

        network = read_pretrained(
            expand_path(self.settings.checkpoint, "checkpoint"),
            {"sam2": "Sam2Model", "sam2_video": "Sam2Model"},
            full_key("checkpoint"),
        )
        normalisation = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        return PointPredictor(network.to(device()), normalisation)
