"""Pseudo masks, corrected on the way by what the network has learned from all of them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from wsss.artifacts import IGNORE_INDEX
from wsss.registry import TAG_FORMS
from wsss.seeding import Step
from wsss.segment.forms._base import Lesson, Predict, TagForm, TrainBatch
from wsss.segment.forms._own_labels import own_labels
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Corrected", "CorrectedSettings"]


class CorrectedSettings(Named):
    """Pseudo masks teach, and later what the network is certain of instead."""

    name: Literal["corrected"] = "corrected"
    start: float = Field(default=0.5, ge=0, le=1)
    """Share of the training that learns from pseudo masks as they are: a network first learns what
    most of them say, and then the errors of each."""
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """The probability that a class must exceed, after those that the tags deny are left out, to
    take the place of what the pseudo mask says."""


@TAG_FORMS.register(CorrectedSettings)
class Corrected(TagForm[CorrectedSettings]):
    """Labels of the running mean of the weights replace those of pseudo masks where it is certain.

    References:
        Liu et al., Adaptive Early-Learning Correction for Segmentation from Noisy Annotations
        (ADELE), CVPR 2022, with a fixed start for all classes in place of a fit to each one's
        curve; Tarvainen & Valpola, Mean Teachers, NeurIPS 2017.
    """

    takes_pseudo_masks = True
    keep = "last"

    def __call__(self, model: Any, predict: Predict, batch: TrainBatch, step: Step) -> Lesson:
        rows = batch.rows()
        if step.progress >= self.settings.start and len(rows):
            batch = replace(batch, masks=batch.masks.index_copy(0, rows, self._own(predict, batch)))
        return Lesson(model(batch.images), batch.images, batch.masks, batch.inside)

    def _own(self, predict: Predict, batch: TrainBatch) -> "Tensor":
        """(R, S, S) int64: masks of rows without a given one, corrected where that is certain."""
        rows = batch.rows()
        least = batch.images.new_full((len(self.class_names) + 1,), self.settings.confidence)
        own = own_labels(predict(batch.images[rows]), batch.labels[rows], least)
        own = own.where(batch.inside[rows], IGNORE_INDEX)
        return own.where(own != IGNORE_INDEX, batch.masks[rows])
