"""Class tokens: a vision transformer with one token per class, each taught its own tag."""

from typing import TYPE_CHECKING, Literal

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

__all__ = ["ClassTokens", "ClassTokensSettings"]


class ClassTokensSettings(MethodSettings):
    """No settings of its own; MCTformer+ has `head.pooling: ranked` and a 3 x 3 head."""

    name: Literal["class_tokens"] = "class_tokens"


@METHODS.register(ClassTokensSettings)
class ClassTokens(Method[ClassTokensSettings]):
    """The mean of a class token is a logit of its class, next to that of the patches.

        L = C(class-token logits, y) + C(patch logits, y)

    What a class token attends to is then a map of its class (the CAM method
    class_token_attention); the classifier's own logits and maps are those of the patches. For
    plain vision transformers with a class token (ViT, DeiT).

    References:
        MCTformer (Xu et al., CVPR 2022) and MCTformer+ (2023), without the contrast of class
        tokens that the latter adds.
    """

    def begin(self, start: Start) -> tuple[Named, ...]:
        return (PARTS.default("class_tokens"),)

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        output, logits = model.parts["class_tokens"](model.backbone.net, lambda: model(images))
        losses = objective(output, [(1.0, labels)], self.settings)
        losses.add("tokens", objective.classification(logits, labels))
        return losses
