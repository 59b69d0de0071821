"""No fine-tuning: the backbone stays as its weights are, and only a linear head learns the tags."""

from typing import TYPE_CHECKING, Literal

from wsss.methods.base import Method, Start
from wsss.methods.objective import MethodSettings
from wsss.registry import METHODS
from wsss.seeding import Step
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier

__all__ = ["Pretrained", "PretrainedSettings"]


class PretrainedSettings(MethodSettings):
    """No settings of its own."""

    name: Literal["pretrained"] = "pretrained"


@METHODS.register(PretrainedSettings)
class Pretrained(Method[PretrainedSettings]):
    """The baseline of weights as they come, whose maps the CAM method `pretrained` reads.

    The classifier gets the part "pretrained_head". Its own head is a linear probe: batch norm,
    too, keeps what it knows.
    """

    def begin(self, start: Start) -> tuple[Named, ...]:
        """Ask for the weights' own head."""
        from wsss.models.pretrained_head import PretrainedHeadSettings

        return (PretrainedHeadSettings(),)

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        import torch

        from wsss.models.classifier import ClassifierOutput
        from wsss.models.pooling import pool

        model.backbone.eval()
        with torch.no_grad():
            features = model.backbone(images)
        maps = model.head(model.dropout(features))
        output = ClassifierOutput(pool(maps, model.head_settings), maps, features)
        return objective(output, [(1.0, labels)], self.settings)
