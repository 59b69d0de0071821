"""Labels that the network itself is certain of, among the classes that the tags allow."""

from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

from pydantic import Field, NonNegativeFloat

from wsss.artifacts import IGNORE_INDEX
from wsss.seeding import Step
from wsss.segment.forms._base import Predict, TagForm, TrainBatch
from wsss.segment.losses import summed_nll
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ConfidenceSettings",
    "OwnLabelForm",
    "OwnLabelSettings",
    "own_label_loss",
    "own_labels",
    "tag_masked",
]

Confidence = Annotated[float, Field(ge=0, lt=1)]


class ConfidenceSettings(Named):
    """When the network's own labels are taken."""

    class_keys = ("class_confidence",)

    confidence: Confidence = 0.9
    """The probability that a class must exceed, after the absent ones are left out."""
    class_confidence: dict[str, Confidence] = Field(default={})
    """Another one by class name, such as 0.7 for one that is small and rare."""
    start: float = Field(default=0, ge=0, le=1)
    """Share of all steps that are done before own labels are learned; until then the network learns
    from what people gave."""


class OwnLabelSettings(ConfidenceSettings):
    """Own labels beside those that people gave."""

    needs_given: ClassVar[bool] = True
    """Without a pixel that people labelled no own label is ever certain."""
    weight: NonNegativeFloat = 1
    """Of the loss of own labels, beside that of given ones."""


S = TypeVar("S", bound=ConfidenceSettings)


class OwnLabelForm(TagForm[S]):
    """Labels come from the running mean of the weights where there is one (Tarvainen & Valpola,
    Mean Teachers, NeurIPS 2017), else from the network itself."""

    def rows(self, batch: TrainBatch, step: Step) -> "Tensor":
        """(R,) int64: the images that learn own labels in this step; none before `start`."""
        rows = batch.rows()
        return rows if step.progress >= self.settings.start else rows[:0]

    def certain(self, predict: Predict, batch: TrainBatch, rows: "Tensor") -> "Tensor":
        """(R, S, S) int64: own labels of these rows, 255 at padding and where none is certain."""
        least, of_class = self.settings.confidence, self.settings.class_confidence
        background = least if self.has_background else 1  # which no probability exceeds
        thresholds = [background, *(of_class.get(name, least) for name in self.class_names)]
        own = own_labels(
            predict(batch.images[rows]), batch.labels[rows], batch.images.new_tensor(thresholds)
        )
        return own.where(batch.inside[rows], IGNORE_INDEX)

    def own(self, predict: Predict, batch: TrainBatch, rows: "Tensor") -> "Tensor":
        """As `certain`, and 255 where people said what it is."""
        free = batch.masks[rows] == IGNORE_INDEX
        return self.certain(predict, batch, rows).where(free, IGNORE_INDEX)


def tag_masked(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Logits in which classes that an image is known not to have are -inf.

    Args:
        logits: (B, K + 1, ...), of which the background always stays.
        labels: (B, K): 0 for an absent class; NaN, which is unknown, stays.

    Example:
        >>> import torch
        >>> tag_masked(torch.ones(1, 4), torch.tensor([[0, 0.2, torch.nan]])).tolist()
        [[1.0, -inf, 1.0, 1.0]]
    """
    import torch

    absent = torch.cat([torch.zeros_like(labels[:, :1]), labels == 0], dim=1).bool()
    return logits.masked_fill(absent.view(*absent.shape, *[1] * (logits.ndim - 2)), -torch.inf)


def own_labels(logits: "Tensor", labels: "Tensor", thresholds: "Tensor") -> "Tensor":
    """The most probable class of each pixel among those the tags allow, where it is certain.

    Args:
        logits: (B, K + 1, H, W).
        labels: (B, K), as of `tag_masked`.
        thresholds: (K + 1,) probabilities that a class must exceed, background first.

    Returns:
        (B, H, W) int64: 0, class ids, or 255.
    """
    probs, classes = tag_masked(logits.float(), labels).softmax(dim=1).max(dim=1)
    return classes.where(probs > thresholds[classes], IGNORE_INDEX)


def own_label_loss(logits: "Tensor", own: "Tensor", inside: "Tensor") -> "Tensor":
    """Cross-entropy towards own labels, averaged over all pixels of the images.

    Pixels without an own label count as 0, so that few certain pixels weigh little.

    Args:
        logits: (B, K + 1, H, W).
        own: (B, H, W) int64, 255 where there is none.
        inside: (B, H, W) bool.
    """
    return summed_nll(logits, own) / inside.sum().clamp(min=1)
