"""One network that classifies images by its own masks, and learns from these masks."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from wsss.artifacts import IGNORE_INDEX
from wsss.methods._self_labels import self_label_loss, self_labels
from wsss.methods.base import Method, Start
from wsss.methods.objective import MethodSettings, present
from wsss.registry import METHODS
from wsss.seeding import Step
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier
    from wsss.models.segmentation_head import SegmentationHead

__all__ = ["SingleStage", "SingleStageSettings"]


class SingleStageSettings(MethodSettings):
    """The defaults are those of the paper's code."""

    class_keys = ("class_weights",)

    name: Literal["single_stage"] = "single_stage"
    stage: Literal[1, 2] = 1
    """Stage of the backbone whose features tell the edges; masks have its grid."""
    rates: tuple[PositiveInt, ...] = Field(default=(1, 12, 24, 36), min_length=1)
    """Dilations in which the last features are looked at, in cells of theirs. These are for 8
    pixels per cell: take [1, 6, 12, 18] for 16 of them."""
    channels: PositiveInt = 256
    """Of the head."""
    gate: float = Field(default=0.3, ge=0, lt=1)
    """How much the shallow features count beside the deep ones; in training, how often they stand
    in their place."""
    area: PositiveFloat = 1
    """Cells that count with a logit of 0 in the mean over a mask: 1 as in the code; as good as 0
    in the paper, such as 0.00001."""
    class_weights: dict[str, PositiveFloat] = Field(default={})
    """Weights of classes in the classification loss, by name; 1 for those not named."""
    segmentation_from: float = Field(default=5 / 24, ge=0, le=1)
    """Share of all steps after which masks teach themselves: 5 of 24 epochs. 1 is never."""
    segmentation_weight: NonNegativeFloat = 1
    """Weight of what they teach."""
    dilations: tuple[PositiveInt, ...] = Field(default=(1, 2, 4, 8, 12, 24), min_length=1)
    """Of the averages over pixels of like colour, in cells of the masks; see the refiner pamr."""
    n_iters: NonNegativeInt = 10
    """How often these averages are taken."""
    squared: bool = False
    """Weights of the averages as in the paper's text; see the refiner pamr."""
    least: float = Field(default=0.2, ge=0, le=1)
    """Score of a mask, after the averages, up to which a pixel gets no label."""
    background_share: float = Field(default=0.7, ge=0, le=1)
    """Share of the highest score of the background up to which a pixel is not labelled as such."""
    class_share: float = Field(default=0.6, ge=0, le=1)
    """The same of a class."""


@METHODS.register(SingleStageSettings)
class SingleStage(Method[SingleStageSettings]):
    """Tags teach masks through their mean logit; refined masks teach masks.

        L = C(s, y) + w L_seg,    s_c = sum_p m_c y_c / (area + sum_p m_c) + (1 - m)^3 ln(0.01 + m)

    Masks are the softmax over the classes' logits and the background's, which is 1 and is left out
    of data without one. What they
    teach after a while are their averages over pixels of like colour (PAMR), at the pixels where
    one class of the image, or its background, is alone in being sure: class-balanced cross-entropy
    of the images in which each of them has such a pixel. A class of which nobody knows whether it
    is there competes for pixels, and teaches none; a class without its tag has none. Extra classes,
    of background images, are for the classification alone.

    The maps to use afterwards are those of the CAM method single_stage. The classifier's own head
    is a linear probe, on features cut from the graph: it changes nothing, and its logits and CAMs
    show what the same features give without masks.

    References:
        Single-Stage Semantic Segmentation from Image Labels (Araslanov and Roth, CVPR 2020). Where
        its text and code differ, `area` and `squared` are settings, with the code as default.
    """

    keep: ClassVar[Literal["best", "last"]] = "last"

    def begin(self, start: Start) -> tuple[Named, ...]:
        """Ask for the segmentation head."""
        from wsss.models.segmentation_head import SegmentationHeadSettings

        settings = self.settings
        self._has_background = start.has_background
        if not start.has_background and len(start.class_names) < 2:
            raise ValueError(
                "the data have no background, so that all pixels are of the only class, "
                f"'{start.class_names[0]}', and 'single_stage' has nothing to learn: give the data "
                "more classes, or set prepare_data.dataset.background to true"
            )
        weights = settings.class_weights
        self._class_weights = [weights.get(name, 1.0) for name in start.class_names]
        values = settings.model_dump(include={"stage", "rates", "channels", "gate"})
        values["background"] = start.has_background
        return (SegmentationHeadSettings.model_validate(values),)

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        from wsss.models.classifier import ClassifierOutput
        from wsss.models.pooling import pool

        settings, part = self.settings, model.parts["segmentation_head"]
        features, stages = model.backbone.with_stages(images)
        logits = part(features, stages, step.rng if model.training else None)
        losses = objective(
            ClassifierOutput(part.scores(logits, settings.area), logits, features),
            [(1.0, labels)],
            settings,
            class_weights=self._class_weights if settings.class_weights else None,
        )
        probed = pool(model.head(model.dropout(features.detach())), model.head_settings)
        losses.add("probe", objective.classification(probed, labels))
        if step.progress < settings.segmentation_from or not settings.segmentation_weight:
            losses.add("segmentation", logits.new_zeros(()), 0)
            return losses
        tags = labels[:, : len(model.class_names)]
        segmentation = self._segmentation(part, logits, images, tags)
        losses.add("segmentation", segmentation, settings.segmentation_weight)
        return losses

    def _segmentation(
        self, part: "SegmentationHead", logits: "Tensor", images: "Tensor", tags: "Tensor"
    ) -> "Tensor":
        """The loss of masks that learn from themselves.

        Args:
            part: of the classifier.
            logits: (B, L, h, w) float32.
            images: (B, 3, H, W), normalised.
            tags: (B, K), those of extra classes left out.
        """
        import torch
        from torch.nn import functional

        from wsss.models.pamr import pixel_adaptive_mean

        settings = self.settings
        own, extra = int(self._has_background), logits.shape[1] - tags.shape[1]
        shares = [settings.background_share] * own + [settings.class_share] * logits.shape[1]

        def all_classes(of_tags: "Tensor") -> "Tensor":
            """(B, K) bool to (B, C): the background is there, an extra class is not."""
            return functional.pad(functional.pad(of_tags, (own, 0), value=True), (0, extra))

        def stretched(maps: "Tensor") -> "Tensor":
            return functional.interpolate(
                maps, images.shape[2:], mode="bilinear", align_corners=True
            )

        logits = part.with_background(logits)
        wanted = all_classes(present(tags).bool())
        with torch.no_grad():
            masks = pixel_adaptive_mean(
                images.float(),
                logits.detach().softmax(dim=1),
                settings.dilations,
                settings.n_iters,
                squared=settings.squared,
            )
            possible = wanted | all_classes(tags.isnan())
            labels = self_labels(
                stretched(masks), possible, masks.new_tensor(shares), settings.least
            )
            taught = wanted.gather(1, labels.clamp(max=wanted.shape[1] - 1).flatten(1))
            labels = labels.where(taught.view(labels.shape), IGNORE_INDEX)
        return self_label_loss(stretched(logits), labels, wanted)
