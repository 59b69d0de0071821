"""Distillation: a student, such as a vision transformer, learns from the maps of frozen teachers.

The loss is classification + transfer_weight * transfer, and two more terms that are 0 by default.
The convolutional teacher says where an object is, the transformer where it ends.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from wsss.checks import full_key
from wsss.loading.normalisation import Normalisation
from wsss.methods._transfer import (
    DISTANCES,
    Distance,
    Transfer,
    boundary_loss,
    logits_loss,
    map_loss,
    onto_grid_of,
    randomly_projected,
)
from wsss.methods.base import Method, Start, Teacher
from wsss.methods.objective import MethodSettings
from wsss.registry import METHODS, PARTS
from wsss.seeding import Step
from wsss.settings import Named

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier, ClassifierOutput

__all__ = ["Distillation", "DistillationSettings", "another_view"]

log = logging.getLogger(__name__)

JITTER = (0.2, 0.2, 0.2, 0.1)
"""Ranges of brightness, contrast, saturation and hue in another view of an image."""


class DistillationSettings(MethodSettings):
    """The defaults are those of the best row of the thesis."""

    read_when: ClassVar[Mapping[str, Any]] = {
        **MethodSettings.read_when,
        "temperature": ("distance", ("kl",)),
        "consistency_of": ("consistency_weight", None),
    }

    name: Literal["distillation"] = "distillation"
    teachers: tuple[str, ...] = Field(default=("teacher",), min_length=1)
    """Entries of train_teachers; the terms of several are averaged."""
    teacher_map: Literal["auto", "cam", "pcm"] = "auto"
    """cam is the teacher's map M, pcm its sum with the refined one, M + M K, of a teacher with a
    pixel correlation module; auto is pcm where there is one."""
    transfer: Transfer = "global"
    """What is compared: all cells and channels as one vector, the channels of a cell (spatial),
    the cells of a channel, the mean map, the products of channels (gram), or the logits."""
    distance: Distance = "cosine"
    """l1 and l2 for map, gram and logits too, kl for logits alone."""
    transfer_weight: NonNegativeFloat = 1
    """Weight of the transfer term."""
    temperature: PositiveFloat = 1
    """Temperature of kl, by which logits are divided."""
    project: bool = False
    """Compares the student's features after a learned 1x1 convolution to the teacher's channels,
    in place of the student's own map."""
    compat_random_projection: bool = False
    """Compares the student's features with the teacher's map after a linear layer to their
    number, whose weights are drawn anew in every step and never learned, as the published code
    does where the channels differ; of global and spatial."""
    compat_channel_pairs: bool = False
    """Compares each channel of the student with all of the teacher in transfer: channel, as the
    published code does, which draws the maps of all classes together; the same for one class."""
    consistency_weight: NonNegativeFloat = 0
    """Weight of the squared difference between an image and its mirror image in other colours."""
    consistency_of: Literal["logits", "maps"] = "logits"
    """What should not differ; maps are mirrored back."""
    boundary_weight: NonNegativeFloat = 0
    """Weight of our own term, `_transfer.boundary_loss`, always of the student's own map."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        allowed = DISTANCES[self.transfer]
        if self.distance not in allowed:
            raise ValueError(
                f"transfer: {self.transfer} has no distance '{self.distance}'; "
                f"choose {' or '.join(allowed)}"
            )
        if self.transfer == "logits" and self.project:
            raise ValueError("project is for maps, but transfer is logits; leave one of them out")
        if self.compat_random_projection:
            if self.project:
                raise ValueError("project and compat_random_projection are on; choose one of them")
            if self.transfer not in ("global", "spatial"):
                raise ValueError(
                    "compat_random_projection is for transfer: global or spatial, but transfer is "
                    f"{self.transfer}; leave it out"
                )
        if self.compat_channel_pairs and self.transfer != "channel":
            raise ValueError(
                f"compat_channel_pairs is for transfer: channel, but transfer is {self.transfer}; "
                "leave it out"
            )
        return self


@METHODS.register(DistillationSettings)
class Distillation(Method[DistillationSettings]):
    """Teachers are asked about the very images the student sees, and never change.

    The student's map is resized to the teacher's grid, bilinearly. Some forms teach nothing of
    one class, whose vectors have a single component: spatial (unless compat_random_projection),
    gram and the cosine of logits, of which training warns, and kl of a softmax.

    References:
        arXiv 2507.21959, and the code of the thesis it comes from.
    """

    def __init__(self, settings: DistillationSettings) -> None:
        super().__init__(settings)
        self.teachers: tuple[Teacher, ...] = ()

    def begin(self, start: Start) -> tuple[Named, ...]:
        settings = self.settings
        self.teachers = tuple(start.teachers[name] for name in settings.teachers)
        for name, teacher in zip(settings.teachers, self.teachers, strict=True):
            outputs = teacher.model.head.out_channels
            if outputs != len(start.class_names):
                raise ValueError(
                    f"the teacher '{name}' has {outputs} classes, but the student has "
                    f"{len(start.class_names)}; train it on the same data"
                )
            if settings.teacher_map == "pcm":
                teacher.model.part("pcm", full_key("method.teacher_map: pcm"))
        form = (settings.transfer, settings.distance)
        signs = form in {("spatial", "cosine"), ("logits", "cosine")}
        idle = (signs and not settings.compat_random_projection) or settings.transfer == "gram"
        if len(start.class_names) == 1 and idle:
            log.warning("transfer: %s by %s teaches nothing of one class; choose global", *form)
        if not settings.project:
            return ()
        channels = tuple(teacher.model.head.out_channels for teacher in self.teachers)
        return (PARTS.settings("projection").model_validate({"channels": channels}),)

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        settings = self.settings
        output = model(images)
        losses = objective(output, [(1.0, labels)], settings)
        asked = self.teachers if settings.transfer_weight or settings.boundary_weight else ()
        answers = [_ask(teacher, images, settings.teacher_map) for teacher in asked]
        if settings.transfer_weight:
            transfer = self._transfer(model, output, answers, objective, step)
            losses.add("transfer", transfer, settings.transfer_weight)
        if settings.consistency_weight:
            consistency = self._consistency(model, images, output, step)
            losses.add("consistency", consistency, settings.consistency_weight)
        if settings.boundary_weight:
            boundary = _mean(
                [
                    boundary_loss(onto_grid_of(output.maps, maps), maps, labels)
                    for maps, _ in answers
                ]
            )
            losses.add("boundary", boundary, settings.boundary_weight)
        return losses

    def _transfer(
        self,
        model: "Classifier",
        output: "ClassifierOutput",
        answers: "list[tuple[Tensor, Tensor]]",
        objective: "Objective",
        step: Step,
    ) -> "Tensor":
        settings = self.settings
        transfer, distance = settings.transfer, settings.distance
        if transfer == "logits":
            return _mean(
                [
                    logits_loss(
                        output.logits, logits, distance, objective.loss, settings.temperature
                    )
                    for _, logits in answers
                ]
            )
        students, wanted = [output.maps] * len(answers), [maps for maps, _ in answers]
        if settings.project:
            students = model.parts["projection"](output.features)
        elif settings.compat_random_projection:
            students = [output.features] * len(answers)
            channels = output.features.shape[1]
            wanted = [randomly_projected(maps, channels, step.rng) for maps in wanted]
        pairs = settings.compat_channel_pairs
        return _mean(
            [
                map_loss(onto_grid_of(student, maps), maps, transfer, distance, all_pairs=pairs)
                for student, maps in zip(students, wanted, strict=True)
            ]
        )

    def _consistency(
        self, model: "Classifier", images: "Tensor", output: "ClassifierOutput", step: Step
    ) -> "Tensor":
        """Both views have a gradient."""
        from torch.nn import functional

        backbone = model.backbone
        other = model(another_view(images, backbone.normalisation, step.rng))
        first, second = output.logits, other.logits
        if self.settings.consistency_of == "maps":
            first, second = output.maps, other.maps.flip(3)
        return functional.mse_loss(first.float(), second.float())


def another_view(
    images: "Tensor", normalisation: Normalisation, rng: "np.random.Generator"
) -> "Tensor":
    """The mirror images in other colours; one jitter is drawn for the whole batch.

    Args:
        images: (B, 3, H, W) normalised.
        normalisation: theirs.
        rng: draws the factors of brightness, contrast and saturation and the shift of hue, each
            evenly from 1 (0 for hue) plus or minus what `JITTER` says.

    Returns:
        (B, 3, H, W) normalised, within the range of an image.
    """
    from torchvision.transforms.v2 import functional

    brightness, contrast, saturation, hue = (
        float(rng.uniform(-largest, largest)) for largest in JITTER
    )
    view = normalisation.to_unit(images).clamp(0, 1).flip(3)
    view = functional.adjust_brightness(view, 1 + brightness)
    view = functional.adjust_contrast(view, 1 + contrast)
    view = functional.adjust_saturation(view, 1 + saturation)
    return normalisation.from_unit(functional.adjust_hue(view, hue))


def _ask(
    teacher: Teacher, images: "Tensor", kind: Literal["auto", "cam", "pcm"]
) -> "tuple[Tensor, Tensor]":
    """A teacher's (B, L, h, w) maps and (B, L) logits, float32 and without a gradient."""
    import torch

    if kind == "cam" or (kind == "auto" and "pcm" not in teacher.model.parts):
        output = teacher(images)
        return output.maps.float(), output.logits.float()
    from wsss.models.pooling import pool

    output = teacher(images, with_stages=True)
    with torch.no_grad():
        maps = output.maps.float()
        refined = teacher.model.parts["pcm"](teacher.normalised(images), output.stages, maps)
        maps = maps + refined.float()
        return maps, pool(maps, teacher.model.head_settings)


def _mean(losses: "list[Tensor]") -> "Tensor":
    import torch

    return torch.stack(losses).mean()
