"""The dense CRF's energy as a loss of all pixels, labelled or not."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from wsss.registry import PIXEL_LOSSES
from wsss.segment.losses._base import LossContext, LossSettings, PixelBatch, PixelLoss

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DenseCrf", "DenseCrfLossSettings"]


class DenseCrfLossSettings(LossSettings):
    """Regularises predictions, beside a loss of labelled pixels such as scribbles."""

    name: Literal["dense_crf"] = "dense_crf"
    weight: NonNegativeFloat = 2e-9
    """Small, as the kernel is not normalised: it goes with the number of pixels. 2e-9 is rloss',
    1e-7 that of ToCo with its gate."""
    sigma_rgb: PositiveFloat = 15
    """Tolerance in levels of an image in 0..255."""
    sigma_xy: PositiveFloat = 100
    """Reach in pixels of the crop."""
    scale_factor: float = Field(default=0.5, gt=0, le=1)
    """By which crops and probabilities are made smaller first, and sigma_xy with them."""
    gated: bool = False
    """Leaves out pixels of which the network is certain, unless they have no label (ToCo)."""


@PIXEL_LOSSES.register(DenseCrfLossSettings)
class DenseCrf(PixelLoss[DenseCrfLossSettings]):
    """See `wsss.densecrf.DenseCrfLoss`; padding is left out, and images are not normalised."""

    def __init__(self, settings: DenseCrfLossSettings, context: LossContext) -> None:
        super().__init__(settings, context)
        self._loss: Any = None

    def __call__(self, logits: "Tensor", batch: PixelBatch) -> "Tensor":
        from wsss.densecrf import DenseCrfLoss  # compiled; not needed to read settings

        if self._loss is None:
            kernel = self.settings.model_dump(exclude={"name", "weight"})
            self._loss = DenseCrfLoss(1.0, **kernel)
        levels = (batch.normalisation.to_unit(batch.images).clamp(0, 1) * 255).round()
        energy: Tensor = self._loss(
            levels,
            logits.float().softmax(dim=1),
            roi=batch.inside,
            unlabelled=~batch.labelled & batch.inside if self.settings.gated else None,
        )
        return energy
