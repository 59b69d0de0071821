"""What a training method is: images and tags to losses."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from wsss.loading.normalisation import Normalisation
from wsss.methods.losses import Losses
from wsss.methods.objective import MethodSettings, Objective
from wsss.seeding import Step
from wsss.settings import Named

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from wsss.models.classifier import Classifier, ClassifierOutput

__all__ = ["Method", "Start", "Teacher"]


S = TypeVar("S", bound=MethodSettings)


class Teacher:
    """A trained classifier that is asked and never changed.

    Args:
        model: in eval mode, on the device of the images.
        normalisation: of the student's images.
    """

    def __init__(self, model: "Classifier", normalisation: Normalisation) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.normalisation = normalisation

    def __call__(self, images: "Tensor", *, with_stages: bool = False) -> "ClassifierOutput":
        """Its output for images normalised for the student, without a gradient."""
        import torch

        with torch.no_grad():
            output: ClassifierOutput = self.model(self.normalised(images), with_stages=with_stages)
        return output

    def normalised(self, images: "Tensor") -> "Tensor":
        """The student's images as this classifier expects them."""
        own: Normalisation = self.model.backbone.normalisation
        return own.convert(images, self.normalisation)


@dataclass(frozen=True)
class Start:
    """What a method may look at before a round of training, and at its end.

    Attributes:
        round: 0-based.
        class_names: of the L classes, the data's own and then extra ones.
        names: of the N training images.
        labels: (N, L) float32; see `Method.__call__`.
        teachers: the classifiers of train_teachers by name.
        previous: the classifier of the round before; None in the first.
        over_images: applies a function of (classifier, images) to all training images, whole and
            at evaluation size, in eval mode without gradients, and stacks what it gives for
            each: (N, ...) in the order of `names`.
        rng_seed: for what a method draws here.
        has_background: whether a pixel may show none of the data's classes.
    """

    round: int
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    labels: "np.ndarray"
    teachers: Mapping[str, Teacher]
    previous: "Classifier | None"
    over_images: "Callable[[Classifier, Callable[[Classifier, Tensor], Tensor]], np.ndarray]"
    rng_seed: int
    has_background: bool = True


class Method(ABC, Generic[S]):
    """Built from its settings; registered with `METHODS`.

    Attributes:
        settings: its own.
        keep: the epoch whose weights stay: that with the best mean average precision on the
            selection split, or the last, for methods that do not train the classifier's logits.
        rounds: how many times training starts again from the weights of the backbone.
    """

    keep: ClassVar[Literal["best", "last"]] = "best"
    rounds: int = 1

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def begin(self, start: Start) -> tuple[Named, ...]:
        """Prepare a round of training.

        Returns:
            Settings of the `PARTS` that the classifier needs besides backbone and head.
        """
        del start
        return ()

    @abstractmethod
    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: Objective,
        step: Step,
    ) -> Losses:
        """The losses of one batch.

        Args:
            model: whose parameters learn, those of its parts included.
            images: (B, 3, H, W) float32, normalised.
            labels: (B, L) float32: 1 of a class that is there and 0 of one that is not, or a
                probability in between; NaN where nobody knows.
            objective: makes the losses of outputs and labels, regularisers included.
            step: where training stands, and the generator to draw from.
        """

    def finish(self, model: "Classifier", start: Start) -> None:
        """Complete a trained classifier before it is saved, such as by setting a buffer."""
        del model, start
