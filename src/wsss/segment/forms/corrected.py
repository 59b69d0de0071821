"""Pseudo masks, corrected where the network comes to be certain of something else."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from wsss.artifacts import IGNORE_INDEX
from wsss.registry import TAG_FORMS
from wsss.seeding import Step
from wsss.segment.forms._base import Lesson, Predict, TrainBatch
from wsss.segment.forms._own_labels import ConfidenceSettings, OwnLabelForm

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Corrected", "CorrectedSettings"]


class CorrectedSettings(ConfidenceSettings):
    """Networks learn what pseudo masks have in common before they learn their mistakes; from then
    on, a label that they contradict with certainty is replaced by theirs."""

    name: Literal["corrected"] = "corrected"
    confidence: float = Field(default=0.8, ge=0, lt=1)
    """The probability that a class must exceed, after the absent ones are left out."""
    start: float = Field(default=0.3, ge=0, le=1)
    """Share of all steps that are done before labels are corrected."""


@TAG_FORMS.register(CorrectedSettings)
class Corrected(OwnLabelForm[CorrectedSettings]):
    """Pseudo masks whose mistakes are left behind; points and boxes in them are not held on to.

    References:
        After Liu et al., Adaptive Early-Learning Correction for Segmentation from Noisy
        Annotations (ADELE), CVPR 2022, with one start for all classes and without its scales.
    """

    takes_pseudo_masks = True
    keep = "last"

    def __call__(self, model: Any, predict: Predict, batch: TrainBatch, step: Step) -> Lesson:
        rows, masks = self.rows(batch, step), batch.masks
        if len(rows):
            own = self.certain(predict, batch, rows)
            masks = masks.index_copy(0, rows, own.where(own != IGNORE_INDEX, masks[rows]))
        logits: Tensor = model(batch.images)
        return Lesson(logits, batch.images, masks, batch.inside)
