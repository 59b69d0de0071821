"""Sub-category exploration and teaching: clusters of each class's images as finer labels.

What has been published under these names are settings of one method, in which "teacher" is an
entry of train_teachers:

- SC-CAM (Chang et al., CVPR 2020): the defaults, with a plain `cam` classifier of the same
  backbone as the teacher. Its code writes 10 and 200 in several files; here every size follows
  from the clusters that were found.
- Sub-category exploration of mva-wsss: clustering finch, sub_weight 2 as in its code (its
  report says 1), and the same kind of teacher. That code clusters the images it is validated
  on along with the training images, and so learns from them; there is no setting for that.
- Sub-category teaching of mva-wsss: the same with a vision transformer as the teacher and
  rounds 1. It learns the teacher's clusters alone, without any soft target; kd_weight 1 adds
  the distillation that its report cites.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from wsss.clustering import cluster_per_class
from wsss.methods.base import Method, Start, Teacher
from wsss.methods.objective import MethodSettings
from wsss.registry import CLUSTERINGS, METHODS
from wsss.seeding import Step
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier

    ClusteringChoice: TypeAlias = Named
else:
    ClusteringChoice = CLUSTERINGS.choice()

__all__ = ["Subcategory", "SubcategorySettings", "soft_distillation"]

log = logging.getLogger(__name__)


class SubcategorySettings(MethodSettings):
    name: Literal["subcategory"] = "subcategory"
    teachers: tuple[str, ...] = Field(default=("teacher",), min_length=1, max_length=1)
    """The classifier of train_teachers whose features make the first clustering, and whose
    logits kd_weight asks for."""
    rounds: PositiveInt = 3
    """Trainings, each from the weights of the backbone; from the second on, the features of the
    classifier before are clustered."""
    clustering: ClusteringChoice = Field(default_factory=lambda: CLUSTERINGS.default("kmeans"))
    """How the images of each class are split."""
    sub_weight: NonNegativeFloat = 5
    """Weight of the classification loss of the sub-categories; 0 is without them."""
    kd_weight: NonNegativeFloat = 0
    """Weight of the distance to the teacher's softened class probabilities."""
    kd_temperature: PositiveFloat = 4
    """Logits are divided by it before they are compared."""


@METHODS.register(SubcategorySettings)
class Subcategory(Method[SubcategorySettings]):
    """A second head learns, for each class of an image, which of the class's clusters it is in."""

    def __init__(self, settings: SubcategorySettings) -> None:
        super().__init__(settings)
        self.rounds = settings.rounds
        self.sub_labels: dict[str, np.ndarray] = {}
        """(sum of K_c,) float32 labels of the clusters of each training image by name."""
        self._teacher: Teacher | None = None

    def begin(self, start: Start) -> tuple[Named, ...]:
        """Cluster the training images, which alone are seen here."""
        settings = self.settings
        self._teacher = start.teachers[settings.teachers[0]]
        if not settings.sub_weight:
            return ()
        from wsss.models.sub_categories import SubCategoryHeadSettings

        source = self._teacher.model if start.previous is None else start.previous
        features = start.over_images(source, _mean_features)
        # by name, so that the order of the files does not matter
        order = sorted(range(len(start.names)), key=start.names.__getitem__)
        tags = start.labels[order]
        found = cluster_per_class(
            features[order],
            (tags >= 0.5).astype(np.float32),
            CLUSTERINGS.build(settings.clustering),
            rng_seed=start.rng_seed,
        )
        names = (start.names[row] for row in order)
        labels = found.labels * _of_clusters(tags, found.counts)
        self.sub_labels = dict(zip(names, labels, strict=True))
        counted = zip(start.class_names, found.counts, (tags >= 0.5).sum(axis=0), strict=True)
        log.info(
            "round %d: %d sub-categories: %s",
            *(start.round + 1, sum(found.counts)),
            ", ".join(
                _describe_clusters(name, count, int(images)) for name, count, images in counted
            ),
        )
        return (SubCategoryHeadSettings(counts=found.counts),)

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        import torch

        from wsss.models.pooling import pool

        settings = self.settings
        output = model(images)
        losses = objective(output, [(1.0, labels)], settings)
        if settings.sub_weight:
            hot = torch.from_numpy(np.stack([self.sub_labels[name] for name in step.names]))
            maps = model.parts["sub_categories"](model.dropout(output.features))
            logits = pool(maps, model.head_settings)
            sub_categories = objective.classification(logits, hot.to(images.device))
            losses.add("sub_categories", sub_categories, settings.sub_weight)
        if settings.kd_weight:
            assert self._teacher is not None
            taught = self._teacher(images).logits
            distillation = soft_distillation(
                output.logits, taught, settings.kd_temperature, objective.loss
            )
            losses.add("distillation", distillation, settings.kd_weight)
        return losses


def soft_distillation(
    student: "Tensor",
    teacher: "Tensor",
    temperature: float,
    loss: Literal["multi_label", "single_label"],
) -> "Tensor":
    """T² KL(teacher ‖ student) of probabilities at temperature T, in nats, mean over images.

    The factor keeps gradients of one size whatever T is; for a large T the value becomes that
    of squared differences of logits: their mean over classes / 8 for multi_label, and the
    variance over classes / 2 for single_label.

    Args:
        student: (B, L) logits.
        teacher: (B, L) logits.
        temperature: T > 0.
        loss: multi_label takes each class as a coin, and the mean over classes; single_label
            takes the classes as the sides of one die.

    References:
        Hinton et al., 2015.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 1, 0]]), torch.tensor([[2.0, 0, -1]])
        >>> [round(float(soft_distillation(student, teacher, 4, loss)), 6)
        ...  for loss in ("single_label", "multi_label")]
        [0.491104, 0.122781]
    """
    from torch.nn import functional

    student, teacher = student.float() / temperature, teacher.float() / temperature
    if loss == "single_label":
        wanted, given = teacher.log_softmax(dim=1), student.log_softmax(dim=1)
        distance = (wanted.exp() * (wanted - given)).sum(dim=1)
    else:
        heads = functional.logsigmoid(teacher) - functional.logsigmoid(student)
        tails = functional.logsigmoid(-teacher) - functional.logsigmoid(-student)
        distance = (teacher.sigmoid() * heads + (-teacher).sigmoid() * tails).mean(dim=1)
    return temperature**2 * distance.mean()


def _of_clusters(tags: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """What the multi-hot labels of clusters are multiplied by.

    Args:
        tags: (N, K) probabilities, NaN where nobody knows.
        counts: clusters of each class.

    Returns:
        (N, sum of counts): the probability of the class where it is taken to be there, 1 where it
        is known not to be. NaN in between, since nothing tells in which cluster it would be.
    """
    unsure = np.isnan(tags) | ((tags > 0) & (tags < 0.5))
    factors = np.where(unsure, np.nan, np.where(tags > 0, tags, 1))
    return np.repeat(factors, counts, axis=1).astype(np.float32)


def _mean_features(model: "Classifier", images: "Tensor") -> "Tensor":
    """(B, D) means over cells."""
    features: Tensor = model.backbone(images).float().mean(dim=(2, 3))
    return features


def _describe_clusters(name: str, count: int, images: int) -> str:
    """A class's clusters in words; as many as images are fewer than were asked for, or useless."""
    if count < images:
        return f"{name} {count}"
    return f"{name} {count} (as many as images)" if images else f"{name} 0 (no image)"
