"""Pseudo masks as if they were masks."""

from typing import TYPE_CHECKING, Any, Literal

from wsss.registry import TAG_FORMS
from wsss.seeding import Step
from wsss.segment.forms._base import Lesson, Predict, TagForm, TrainBatch
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PseudoMasks", "PseudoMasksSettings"]


class PseudoMasksSettings(Named):
    """Images with tags alone teach what make_pseudo_masks made of them."""

    name: Literal["pseudo_masks"] = "pseudo_masks"


@TAG_FORMS.register(PseudoMasksSettings)
class PseudoMasks(TagForm[PseudoMasksSettings]):
    """All images have a label map, and the pixel losses do not tell them apart."""

    takes_pseudo_masks = True

    def __call__(self, model: Any, predict: Predict, batch: TrainBatch, step: Step) -> Lesson:
        del predict, step
        logits: Tensor = model(batch.images)
        return Lesson(logits, batch.images, batch.masks, batch.inside)
