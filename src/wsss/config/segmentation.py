"""Sections of params.yaml from pseudo masks to predictions."""

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from wsss.artifacts.background import BackgroundSettings
from wsss.config.sections import TrainSettings
from wsss.settings import Settings

__all__ = [
    "PredictMasksSettings",
    "PseudoMaskSettings",
    "SegmenterSettings",
    "TrainSegmenterSettings",
]


class PseudoMaskSettings(BackgroundSettings):
    chain: str = "crf"
    """The refine chain that masks are made from."""
    threshold: float | Literal["selected"] = "selected"
    """The score of the constant background, in [0, 1]; 'selected' takes the best of the selection
    split."""
    ignore_margin: float = Field(default=0.05, ge=0, lt=1)
    """A pixel whose winner leads the runner-up by less, background included, is ignored (255).
    Scores are compared after their odds are divided by the threshold's, which becomes 0.5."""
    ignore_below: float = Field(default=0, ge=0, lt=1)
    """A pixel whose winner has a smaller share of the sum of scores, the background's 1 - max
    among them, is ignored; 0.95 in CLIP-ES. Of a dense CRF these shares are its probabilities."""
    min_area_share: float = Field(default=0, ge=0, lt=1)
    """A class that covers less of its image than this share is ignored there."""

    @field_validator("threshold")
    @classmethod
    def _range(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and not 0 <= value <= 1:
            raise ValueError("a threshold lies in [0, 1], or is 'selected'")
        return value


class SegmenterSettings(Settings):
    arch: str = "deeplabv3plus"
    """Any architecture of segmentation-models-pytorch."""
    encoder: str = "classifier"
    """'classifier' for the classifier's backbone, or a name of segmentation-models-pytorch."""
    encoder_weights: str = "classifier"
    """'classifier' (what train_classifier learned), 'backbone' (the file or hub weights the
    classifier started from), 'none', a pretrained name such as 'imagenet', or a file."""
    arch_kwargs: dict[str, Any] = Field(default={})
    """Further arguments of segmentation_models_pytorch.create_model."""
    freeze_batchnorm: bool = False
    """Batch norm of the encoder keeps its running statistics and affine values."""


class TrainSegmenterSettings(TrainSettings):
    model: SegmenterSettings = SegmenterSettings()
    eval_long_side: NonNegativeInt = 320
    """Longer side of selection images when scored, in pixels. 0 follows the images: the median
    longer side of the training images."""


class PredictMasksSettings(Settings):
    splits: tuple[Literal["train", "selection", "val"], ...] = Field(default=("val",), min_length=1)
    scales: tuple[PositiveFloat, ...] = Field(default=(0.75, 1.0, 1.25), min_length=1)
    flip: bool = True
    batch_size: PositiveInt = 16
    """Images of one size, or windows of one image, that run together."""
    window: NonNegativeInt = 0
    """Side of the windows that larger images are cut into, in pixels of the image, best a multiple
    of 32; each is predicted at all scales. 0 runs images whole. For images too large for memory."""
    window_overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a window that the next one covers again."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
