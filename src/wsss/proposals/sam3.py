"""Mask proposals by SAM 3."""

from typing import Any, Literal

from pydantic import Field

from wsss.checks import full_key
from wsss.loading.normalisation import Normalisation
from wsss.proposals._base import Device
from wsss.proposals._point_grid import PointGrid, PointGridSettings
from wsss.proposals._point_predictor import PointPredictor
from wsss.registry import PROPOSALS
from wsss.settings import expand_path

__all__ = ["Sam3", "Sam3Settings"]


class Sam3Settings(PointGridSettings):
    """Which SAM 3; the checkpoint is a folder with config.json and model.safetensors.

    It is one of transformers, such as a download of facebook/sam3.
    """

    name: Literal["sam3"] = "sam3"
    pred_iou_thresh: float = Field(default=0.8, ge=0, le=1)
    """Masks stay whose IoU with the object, as the network predicts it, is above this; as for
    SAM 2."""


@PROPOSALS.register(Sam3Settings)
class Sam3(PointGrid):
    """The part of SAM 3 that takes points as SAM 2 does, prompted on a grid of them.

    Concepts, which this model is made for, are the CAM method sam3. Needs transformers:
    `pip install "wsss[sam]"`.
    """

    def make_predictor(self, device: Device) -> Any:
        from wsss.models.pretrained_folder import read_pretrained

        kinds = ("sam3_video", "sam3_tracker", "sam3_tracker_video")
        network = read_pretrained(
            expand_path(self.settings.checkpoint, "checkpoint"),
            dict.fromkeys(kinds, "Sam3TrackerModel"),
            full_key("checkpoint"),
        )
        return PointPredictor(network.to(device()), Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
