"""Maps refined by a pixel correlation module."""

from typing import TYPE_CHECKING, Literal

from wsss.checks import full_key
from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["PcmCam", "PcmCamSettings"]


class PcmCamSettings(Named):
    name: Literal["pcm"] = "pcm"
    maps: Literal["refined", "sum"] = "refined"
    """'refined' is for classifiers of the training method seam: normalised maps, in which classes
    and the background compete, then refined. 'sum' is for those of the training method pcm: the
    maps plus the refined maps."""


@CAM_METHODS.register(PcmCamSettings)
class PcmCam:
    """A map averaged over cells that look alike, as the classifier's part pcm has learnt it.

    All classes of a classifier compete for a cell of the refined maps, whatever the tags.
    See `wsss.models.pcm`, and SEAM (Wang et al., CVPR 2020).
    """

    needs_gradients = False

    def __init__(self, settings: PcmCamSettings) -> None:
        self.maps = settings.maps

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        from wsss.models.pcm import with_background
        from wsss.models.pooling import peaks, pool

        part = model.part("pcm", f"{full_key('method')}: pcm")
        output = model(images, with_stages=True)
        if self.maps == "sum":
            maps = output.maps + part(images, output.stages, output.maps)
            return maps[rows, columns].relu(), pool(maps, model.head_settings)
        maps = output.maps.float().relu()
        given = with_background(maps / peaks(maps))
        return part(images, output.stages, given)[rows, columns + 1], output.logits
