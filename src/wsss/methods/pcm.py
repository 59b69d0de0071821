"""Classification through the pixel correlation module."""

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from wsss.methods.base import Method, Start
from wsss.methods.objective import MethodSettings
from wsss.registry import METHODS, PARTS
from wsss.seeding import Step
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier

__all__ = ["CorrelationSettings", "Pcm", "PcmMethodSettings"]


class CorrelationSettings(MethodSettings):
    """The sizes of the pixel correlation module; see `wsss.models.pcm`."""

    stages: tuple[Literal[1, 2, 3, 4], Literal[1, 2, 3, 4]] = (3, 4)
    """Stages of the backbone whose features are compared besides the image's colours."""
    channels: tuple[PositiveInt, PositiveInt] = (256, 256)
    """What the features of each of the two are reduced to."""
    embedding: PositiveInt = 512
    """Channels in which cells are compared."""
    relu: bool = False
    """After the reduction."""
    align_corners: bool = True
    """How images, features and maps are resized."""

    def part(self) -> Named:
        """Settings of the module."""
        fields = {"stages", "channels", "embedding", "relu", "align_corners"}
        return PARTS.settings("pcm").model_validate(self.model_dump(include=fields))


class PcmMethodSettings(CorrelationSettings):
    """The defaults are those of the teacher in the smoke thesis."""

    name: Literal["pcm"] = "pcm"


@METHODS.register(PcmMethodSettings)
class Pcm(Method[PcmMethodSettings]):
    """Tags teach the sum of a map and its refinement.

    T = M + M K is what is pooled to logits, so that the affinities K learn what to add. The
    thesis writes fc8(conv6) + fc8(conv6 K), the same for its head, which looks at single cells;
    its unused last channel is left out. The maps of the CAM method pcm with `maps: sum`.

    References:
        arXiv 2507.21959; the module is that of SEAM (Wang et al., CVPR 2020).
    """

    def begin(self, start: Start) -> tuple[Named, ...]:
        return (self.settings.part(),)

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        from dataclasses import replace

        from wsss.models.pooling import pool

        output = model(images, with_stages=True)
        maps = output.maps + model.parts["pcm"](images, output.stages, output.maps)
        summed = replace(output, maps=maps, logits=pool(maps, model.head_settings))
        return objective(summed, [(1.0, labels)], self.settings)
