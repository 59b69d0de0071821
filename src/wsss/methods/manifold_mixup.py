"""Manifold Mixup: features of a stage blended in place of images."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from wsss.checks import full_key
from wsss.methods._mixing import Mix, MixSettings, draw_mix, mixed_losses
from wsss.methods.base import Method
from wsss.registry import METHODS
from wsss.seeding import Step

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier, ClassifierOutput

__all__ = ["ManifoldMixup", "ManifoldMixupSettings"]


class ManifoldMixupSettings(MixSettings):
    name: Literal["manifold_mixup"] = "manifold_mixup"
    layers: tuple[Literal["input", 1, 2, 3, 4], ...] = Field(
        default=("input", 1, 2, 3), min_length=1
    )
    """One is drawn per batch: the images, or the output of a stage of the backbone. The head is
    linear, so that after stage 4 little more than logits would be mixed."""


@METHODS.register(ManifoldMixupSettings)
class ManifoldMixup(Method[ManifoldMixupSettings]):
    """The forward pass goes on with blended features; the maps are those of that pass.

    References:
        Manifold Mixup (Verma et al., ICML 2019), which draws shares from Beta(2, 2).
    """

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        mix = draw_mix(images, self.settings.alpha, step.rng)
        layer = self.settings.layers[step.rng.integers(len(self.settings.layers))]
        output = _forward(model, images, mix, layer)
        return mixed_losses(objective, output, labels, mix, self.settings)


def _forward(
    model: "Classifier", images: "Tensor", mix: Mix, layer: int | str
) -> "ClassifierOutput":
    """The output of `model` if features are blended after `layer`."""
    if isinstance(layer, str):
        output: ClassifierOutput = model(mix.blend(images))
        return output
    stages = model.backbone.stages()
    if layer > len(stages):
        raise ValueError(
            f"{full_key('method.layers')} has {layer}, but the backbone has {len(stages)} "
            "stages that can be mixed; leave it out"
        )
    hook = stages[layer - 1].register_forward_hook(lambda _, inputs, features: mix.blend(features))
    try:
        output = model(images)
    finally:
        hook.remove()
    return output
