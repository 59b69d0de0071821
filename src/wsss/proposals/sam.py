"""Mask proposals by SAM, and by MobileSAM."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from wsss.proposals._base import Device
from wsss.proposals._mobile_sam import mobile_sam, renamed
from wsss.proposals._point_grid import PointGrid, PointGridSettings
from wsss.registry import PROPOSALS
from wsss.settings import expand_path

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Sam", "SamSettings", "model_type_of"]

_ENCODERS = {(768, 12): "vit_b", (1024, 24): "vit_l", (1280, 32): "vit_h"}
"""Width and blocks of SAM's image encoders."""


class SamSettings(PointGridSettings):
    """Which SAM; the checkpoint is a .pth or .safetensors with the names of segment-anything."""

    name: Literal["sam"] = "sam"
    model_type: Literal["vit_b", "vit_l", "vit_h", "vit_t"] = "vit_b"
    """The image encoder that the checkpoint holds; vit_t is MobileSAM's."""


def model_type_of(weights: "Mapping[str, Tensor]") -> str | None:
    """The model_type that a state dict fits, by the width and depth of its image encoder."""
    if any(name.startswith("image_encoder.layers.") for name in weights):
        return "vit_t"
    positions = weights.get("image_encoder.pos_embed")
    if positions is None:
        return None
    blocks = {name.split(".")[2] for name in weights if name.startswith("image_encoder.blocks.")}
    return _ENCODERS.get((positions.shape[-1], len(blocks)))


@PROPOSALS.register(SamSettings)
class Sam(PointGrid):
    """Segment Anything (Kirillov et al., ICCV 2023) or MobileSAM, prompted on a grid of points.

    On a CPU the points cost most, whatever the encoder: 64 of them took 14 s of one busy core on
    an image of 375 x 500 pixels, so the default grid takes minutes per image, and a points_per_side
    of 8 seconds. The image encoder runs once per image and crop; vit_t's took 2 s, and those of
    SAM take many times that, the most by far with vit_h. Use a GPU for these.
    """

    def make_predictor(self, device: Device) -> Any:
        from segment_anything import SamPredictor, sam_model_registry

        from wsss.models.weights import load_matching, read_weights

        wanted = self.settings.model_type
        path = expand_path(self.settings.checkpoint, "checkpoint")
        weights = read_weights(path)
        found = model_type_of(weights)
        if found != wanted:
            raise ValueError(
                f"SAM checkpoint {path} "
                + (
                    f"is of model_type {found}, but model_type is {wanted}; set it to {found}"
                    if found
                    else "has none of the image encoders that fit: vit_b, vit_l and vit_h of "
                    "segment-anything and vit_t of MobileSAM; take a file that they publish"
                )
            )
        if wanted == "vit_t":
            network, weights = mobile_sam(), renamed(weights)
        else:
            network = sam_model_registry[wanted]()
        load_matching(network, weights, f"SAM checkpoint {path}")
        predictor = SamPredictor(network.to(device()))
        shape = predictor.transform.get_preprocess_shape
        # an image of one row or column keeps it, however long
        predictor.transform.get_preprocess_shape = lambda *size: tuple(
            max(1, length) for length in shape(*size)
        )
        return predictor
