"""What a form is: how images without a whole mask of an annotator teach a segmenter."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from wsss.loading.normalisation import Normalisation
from wsss.seeding import Step
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Lesson", "Predict", "TagForm", "TrainBatch"]


@dataclass(frozen=True)
class TrainBatch:
    """Crops and what is known of them.

    Attributes:
        images: (B, 3, S, S) float32, normalised.
        masks: (B, S, S) int64: 0, class ids, or 255 where no label is known.
        labels: (B, K) float32: 1 where the image has the class, 0 where not, between them where a
            probability is known, NaN where nothing is.
        given: (B,) bool: whether `masks` has the whole mask of an annotator.
        inside: (B, S, S) bool: False where a crop leaves its image.
    """

    images: "Tensor"
    masks: "Tensor"
    labels: "Tensor"
    given: "Tensor"
    inside: "Tensor"

    @classmethod
    def of(cls, batch: Mapping[str, Any]) -> "TrainBatch":
        """The items of a `TrainDataset` with label maps, as a loader puts them together."""
        names = ("image", "mask", "labels", "given", "inside")
        return cls(*(batch[name] for name in names))

    def rows(self) -> "Tensor":
        """(R,) int64: those without a whole mask."""
        return (~self.given).nonzero()[:, 0]


@dataclass(frozen=True)
class Lesson:
    """What a form makes of a batch.

    Attributes:
        logits: (B, K + 1, S, S) of `images`.
        images: (B, 3, S, S) as the network saw them.
        masks: (B, S, S) int64: their labels for the pixel losses.
        inside: (B, S, S) bool.
        terms: further losses by name, float32 scalars, with their weights; the same names for all
            batches.
    """

    logits: "Tensor"
    images: "Tensor"
    masks: "Tensor"
    inside: "Tensor"
    terms: dict[str, "Tensor"] = field(default_factory=dict)


S = TypeVar("S", bound=Named)

Predict = Callable[["Tensor"], "Tensor"]
"""(B, 3, S, S) normalised images to (B, K + 1, S, S) float32 logits, in eval mode and without a
gradient: of the running mean of the weights where there is one, else of the network itself."""


class TagForm(ABC, Generic[S]):
    """Built from its settings; registered with `TAG_FORMS`.

    A batch of given masks alone is taught by the pixel losses alone, with nothing drawn, so that a
    training whose images all have masks is the same under every form.

    Attributes:
        settings: its own.
        has_background: whether a pixel may show none of the classes.
        takes_pseudo_masks: images without a whole mask have the pseudo mask as labels; otherwise
            the points and scribbles that were given, if any.
        takes_tags: images of which no pixel has a label are in the batches, too.
        keep: the epoch that is kept: the "best" by agreement with the masks of the selection split,
            or the "last", where a form learns to differ from pseudo masks.
    """

    takes_pseudo_masks: ClassVar[bool] = False
    takes_tags: ClassVar[bool] = True
    keep: ClassVar[Literal["best", "last"]] = "best"

    def __init__(
        self,
        settings: S,
        class_names: Sequence[str],
        normalisation: Normalisation,
        *,
        has_background: bool = True,
    ) -> None:
        self.settings, self.class_names = settings, tuple(class_names)
        self.normalisation, self.has_background = normalisation, has_background

    @abstractmethod
    def __call__(
        self, model: "Callable[[Tensor], Tensor]", predict: Predict, batch: TrainBatch, step: Step
    ) -> Lesson:
        """Run the network on a batch.

        Args:
            model: which learns: (B, 3, S, S) to (B, K + 1, S, S) logits.
            predict: what the form may ask for labels.
            batch: crops and what is known of them.
            step: where training stands, and the generator to draw from.
        """
