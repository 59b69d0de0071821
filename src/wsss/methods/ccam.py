"""CCAM: object and background told apart by contrast between images."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveInt

from wsss.methods._contrast import contrast_loss
from wsss.methods._erasing import erased_targets
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

__all__ = ["Ccam", "CcamSettings", "edge_means"]

BORDER = 4  # pixels of an image


class CcamSettings(MethodSettings):
    """What CCAM learns from, and its supervision by erased images."""

    name: Literal["ccam"] = "ccam"
    alpha: NonNegativeFloat = 0.25
    """How fast the weight of a pair of like sides falls with its rank: exp(-alpha rank)."""
    class_specific: bool = False
    """One map per class, which the images with its tag contrast; or one map for all."""
    classification_weight: NonNegativeFloat = 0
    """Weight of the classification loss. At 0 the head stays as it was while the backbone learns
    from the contrast alone, so that logits and CAMs are of no use."""
    ecs_weight: NonNegativeFloat = 0
    """Weight of the squared difference from the CAM of the image or of the erased image, whichever
    is higher; 1 with classification_weight 1 for CCAM+ECS. The head gives these CAMs."""
    ecs_delta: NonNegativeFloat = 0.6
    """Where a CAM is above this share of its maximum, its image is erased; from 1 on nowhere."""
    ecs_radius: PositiveInt = 7
    """Radius of the Gaussian kernel that erases by blurring, in pixels; 7 is 15 by 15 pixels."""
    flip_check: Literal["border", "corners"] = "border"
    """Where the background is looked for once training is done: in the cells on the outer 4
    pixels, or in those of the four corners."""
    compat_fixed_norm: bool = False
    """The disentangler's batch norm keeps a scale of 1 and a shift of 0, as in the published code,
    whose optimiser never got them; false learns them."""


@METHODS.register(CcamSettings)
class Ccam(Method[CcamSettings]):
    """A map parts each image into two sides, alike over images and unlike one another.

    Images without a tag of the data's own classes have no object and take no part; background
    images teach the classification alone. A class-specific map contrasts the images that have its
    tag: of one image only its two sides, of none nothing; classes count alike. Batch norm takes
    its statistics over all images of the batch.

    Which side is the object, the loss cannot tell. At the end the side that prevails at the edge
    of the training images becomes the background.

    References:
        CCAM (Xie et al., CVPR 2022); CCAM+ECS of S3, with the maps of ECS-Net.
    """

    keep: ClassVar[Literal["best", "last"]] = "last"

    def begin(self, start: Start) -> tuple[Named, ...]:
        from wsss.models.disentangler import DisentanglerSettings

        del start
        settings = self.settings
        return (
            DisentanglerSettings(
                class_specific=settings.class_specific, fixed_norm=settings.compat_fixed_norm
            ),
        )

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        from torch.nn import functional

        del step
        settings = self.settings
        output = model(images, with_stages=True)
        part = model.parts["disentangler"]
        features = part.join(output.stages)
        logits = part(features)
        tags = present(labels[:, : len(model.class_names)]).bool()  # (B, K)
        if settings.class_specific:
            logits, counted = logits[:, : tags.shape[1]], tags
        else:
            counted = tags.any(dim=1, keepdim=True)
        losses = objective(
            output,
            [(1.0, labels)],
            settings,
            classification_weight=settings.classification_weight,
        )
        losses.add("contrast", contrast_loss(features, logits, counted, settings.alpha))
        if settings.ecs_weight:
            targets = erased_targets(
                model,
                images,
                output.maps,
                tags,
                delta=settings.ecs_delta,
                radius=settings.ecs_radius,
                exclusive=objective.loss == "single_label",
            )
            if not settings.class_specific:
                targets = targets.amax(dim=1, keepdim=True)
            if targets.shape[2:] != logits.shape[2:]:
                targets = functional.interpolate(targets, logits.shape[2:], mode="bilinear")
            squares = (logits.sigmoid() - targets).square()[counted]  # (P, h, w)
            losses.add("ecs", squares.sum() / max(1, squares.numel()), settings.ecs_weight)
        return losses

    def finish(self, model: "Classifier", start: Start) -> None:
        """Find out for each map, over all training images, whether it shows the background."""
        import torch

        check = self.settings.flip_check

        def edges(model: "Classifier", images: "Tensor") -> "Tensor":
            part = model.parts["disentangler"]
            maps = part(part.join(model(images, with_stages=True).stages)).sigmoid()
            return edge_means(maps, (images.shape[2], images.shape[3]), check)

        means = start.over_images(model, edges)  # (N, C)
        counted = start.labels >= 0.5
        if not self.settings.class_specific:
            counted = counted[:, : len(model.class_names)].max(axis=1, keepdims=True)
        mean = (means * counted).sum(axis=0) / counted.sum(axis=0).clip(1)
        model.parts["disentangler"].inverted.copy_(torch.from_numpy(mean > 0.5))


def edge_means(
    maps: "Tensor", size: tuple[int, int], check: Literal["border", "corners"]
) -> "Tensor":
    """Mean of each map over the cells at the edge of its image.

    Args:
        maps: (B, C, h, w).
        size: (height, width) of the images in pixels.
        check: the cells on the outer `BORDER` pixels, or the four corner cells.

    Returns:
        (B, C).

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[[1.0, 0, 1], [0, 9, 0], [1, 0, 1]]]])
        >>> edge_means(maps, (48, 48), "border"), edge_means(maps, (48, 48), "corners")
        (tensor([[0.5000]]), tensor([[1.]]))
    """
    if check == "corners":
        return maps[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].mean(dim=2)
    height, width = maps.shape[2:]
    rows, columns = -(-BORDER * height // size[0]), -(-BORDER * width // size[1])
    edge = maps.new_ones(height, width).bool()
    edge[rows : height - rows, columns : width - columns] = False
    return maps[:, :, edge].mean(dim=2)
