"""The network's own certain predictions as labels."""

from typing import TYPE_CHECKING, Any, Literal

from wsss.registry import TAG_FORMS
from wsss.seeding import Step
from wsss.segment.forms._base import Lesson, Predict, TrainBatch
from wsss.segment.forms._own_labels import OwnLabelForm, OwnLabelSettings, own_label_loss

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SelfTraining", "SelfTrainingSettings"]


class SelfTrainingSettings(OwnLabelSettings):
    """Pixels learn what the network is certain of, among the classes that the tags allow."""

    name: Literal["self_training"] = "self_training"


@TAG_FORMS.register(SelfTrainingSettings)
class SelfTraining(OwnLabelForm[SelfTrainingSettings]):
    """Own labels are those of the very crop that learns them."""

    def __call__(self, model: Any, predict: Predict, batch: TrainBatch, step: Step) -> Lesson:
        rows = self.rows(batch, step)
        own = self.own(predict, batch, rows) if len(rows) else batch.masks[:0]
        logits: Tensor = model(batch.images)
        loss = batch.images.new_zeros(())
        if len(rows):
            loss = own_label_loss(logits[rows], own, batch.inside[rows])
        terms = {"own_labels": self.settings.weight * loss}
        return Lesson(logits, batch.images, batch.masks, batch.inside, terms)
