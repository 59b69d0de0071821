"""The maps of CCAM."""

from typing import TYPE_CHECKING, Literal

from wsss.checks import full_key
from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["CcamMaps", "CcamMapsSettings"]


class CcamMapsSettings(Named):
    """What is read from a classifier that train_classifier.method: ccam trained."""

    name: Literal["ccam"] = "ccam"
    with_class_maps: bool = False
    """Takes the geometric mean with the CAM of the class. Without it, a classifier that was not
    trained class_specific has one map for all tags of an image."""
    compat_logits: bool = False
    """Takes ReLU(s) of the map before the sigmoid, or ReLU(1 - s) where that shows the background,
    as the published code does; false takes probabilities P and 1 - P."""


@CAM_METHODS.register(CcamMapsSettings)
class CcamMaps:
    """The probability of each cell to be object (Xie et al., CVPR 2022).

    Probabilities lie in [0, 1] at every scale, so that scales count alike, and the object's and
    the background's add up to one, which 1 - s of a logit s does not achieve.
    """

    needs_gradients = False

    def __init__(self, settings: CcamMapsSettings) -> None:
        self.settings = settings

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        from torch.nn import functional

        from wsss.models.pooling import peaks

        part = model.part("disentangler", f"{full_key('method')}: ccam")
        output = model(images, with_stages=True)
        logits = part.object_logits(output.stages)
        if self.settings.compat_logits:
            maps = (logits + part.inverted[:, None, None].float()).relu()
        else:
            maps = logits.sigmoid()
        maps = maps[rows, columns if maps.shape[1] > 1 else 0]
        if self.settings.with_class_maps:
            cams = output.maps[rows, columns].float().relu()
            cams = cams / peaks(cams)
            if cams.shape[1:] != maps.shape[1:]:
                grid = maps.shape[1:]
                cams = functional.interpolate(cams[:, None], grid, mode="bilinear")[:, 0]
            maps = (maps * cams).sqrt()
        return maps, output.logits
