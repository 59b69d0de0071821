"""What the network is certain of in an image, it must say of a distorted one."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat

from wsss.registry import TAG_FORMS
from wsss.seeding import Step
from wsss.segment.forms._base import Lesson, Predict, TrainBatch
from wsss.segment.forms._own_labels import OwnLabelForm, OwnLabelSettings, own_label_loss

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Consistency", "ConsistencySettings"]


class ConsistencySettings(OwnLabelSettings):
    """Own labels of the crop teach a view of it with other colours, blurred, in parts replaced."""

    name: Literal["consistency"] = "consistency"
    confidence: float = Field(default=0.95, ge=0, lt=1)
    """The probability that a class must exceed, after the absent ones are left out."""
    jitter: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (0.5, 0.5, 0.5)
    """Brightness, contrast and saturation are multiplied by 1 - this to 1 + this, in 8 of 10
    views."""
    grey_share: float = Field(default=0.2, ge=0, le=1)
    """Share of views without colour."""
    blur_share: float = Field(default=0.5, ge=0, le=1)
    """Share of views that are blurred, by a Gaussian of 0.1 to 2 pixels."""
    cut_share: float = Field(default=0.5, ge=0, le=1)
    """Share of views with a rectangle of another image of the batch (CutMix), labels with it."""


@TAG_FORMS.register(ConsistencySettings)
class Consistency(OwnLabelForm[ConsistencySettings]):
    """Weak to strong consistency.

    References:
        Sohn et al., FixMatch, NeurIPS 2020; Yang et al., Revisiting Weak-to-Strong Consistency in
        Semi-Supervised Semantic Segmentation (UniMatch), CVPR 2023, whose views these are; Yun et
        al., CutMix, ICCV 2019.
    """

    def __call__(self, model: Any, predict: Predict, batch: TrainBatch, step: Step) -> Lesson:
        rows = self.rows(batch, step)
        if not len(rows):
            none = {"own_labels": batch.images.new_zeros(())}
            return Lesson(model(batch.images), batch.images, batch.masks, batch.inside, none)
        own = self.own(predict, batch, rows)
        strong = self._recoloured(batch.images[rows], step.rng)
        strong = strong * batch.inside[rows, None]  # padding stays what it is
        parts = [strong, own, batch.masks[rows], batch.inside[rows]]
        strong, own, masks, inside = self._cut(parts, step.rng)
        seen = TrainBatch(
            batch.images.index_copy(0, rows, strong.to(batch.images.dtype)),
            batch.masks.index_copy(0, rows, masks),
            batch.labels,
            batch.given,
            batch.inside.index_copy(0, rows, inside),
        )
        logits: Tensor = model(seen.images)
        loss = self.settings.weight * own_label_loss(logits[rows], own, inside)
        return Lesson(logits, seen.images, seen.masks, seen.inside, {"own_labels": loss})

    def _recoloured(self, images: "Tensor", rng: np.random.Generator) -> "Tensor":
        """(R, 3, S, S) normalised, each with changes of its own."""
        import torch
        from torchvision.transforms.v2 import functional

        views = []
        for image in self.normalisation.to_unit(images).clamp(0, 1):
            view = image
            draws = rng.random(3)
            factors = 1 + np.array(self.settings.jitter) * rng.uniform(-1, 1, 3)
            sigma = float(rng.uniform(0.1, 2))
            if draws[0] < 0.8:
                brightness, contrast, saturation = factors.clip(0).tolist()
                view = functional.adjust_brightness(view, brightness)
                view = functional.adjust_contrast(view, contrast)
                view = functional.adjust_saturation(view, saturation)
            if draws[1] < self.settings.grey_share:
                view = functional.rgb_to_grayscale(view, num_output_channels=3)
            if draws[2] < self.settings.blur_share:
                view = functional.gaussian_blur(view, [2 * round(2 * sigma) + 1] * 2, [sigma] * 2)
            views.append(view)
        return self.normalisation.from_unit(torch.stack(views))

    def _cut(self, parts: "list[Tensor]", rng: np.random.Generator) -> "list[Tensor]":
        """Tensors (R, ..., S, S) with a rectangle of another row in some rows, the same in all."""
        import torch

        count, side = len(parts[0]), parts[0].shape[-1]
        partners = torch.arange(count)
        cut = torch.zeros(count, side, side, dtype=torch.bool)
        for row, partner in enumerate(rng.permutation(count).tolist()):
            area, ratio, *corner = rng.uniform(
                [0.02, np.log(0.3), 0, 0], [0.4, np.log(1 / 0.3), 1, 1]
            )
            if rng.random() >= self.settings.cut_share:
                continue
            shape = side * np.sqrt(area * np.exp([ratio, -ratio]))
            height, width = shape.round().astype(int).clip(1, side).tolist()
            top, left = (
                int(at * (side - length + 1)) for at, length in zip(corner, (height, width))
            )
            partners[row] = partner
            cut[row, top : top + height, left : left + width] = True
        partners, cut = partners.to(parts[0].device), cut.to(parts[0].device)
        return [
            part[partners].where(cut[:, None] if part.ndim == 4 else cut, part) for part in parts
        ]
