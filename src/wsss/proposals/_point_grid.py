"""Masks that a grid of point prompts gives, by segment-anything's automatic generator."""

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from wsss.artifacts import Proposals
from wsss.checks import check_image
from wsss.proposals._base import Device
from wsss.settings import Named

__all__ = ["PointGrid", "PointGridSettings"]


class PointGridSettings(Named):
    """What the generator can be told, with its own names and defaults.

    The smoke thesis (arXiv 2507.21959) takes points_per_side 8, pred_iou_thresh 0.7,
    stability_score_thresh 0.85 and min_mask_region_area 20, with vit_h.
    """

    checkpoint: str
    """The weights, a path that may hold ~ and $VARIABLES."""
    points_per_side: PositiveInt = 32
    """Points along each side of the image, the square of it in all; each gives three masks."""
    points_per_batch: PositiveInt = 64
    """Points that run together. More is faster on a GPU; 64 of them take 0.8 GB for masks of
    1024 x 1024 pixels, and as much again for every million pixels of the image."""
    pred_iou_thresh: float = Field(default=0.88, ge=0, le=1)
    """Masks stay whose IoU with the object, as the network predicts it, is above this."""
    stability_score_thresh: float = Field(default=0.95, ge=0, le=1)
    """Masks stay whose IoU between a higher and a lower cut of their logits is at least this."""
    stability_score_offset: PositiveFloat = 1.0
    """How far those two cuts are from the mask's own, in logits."""
    box_nms_thresh: float = Field(default=0.7, ge=0, le=1)
    """Where boxes have a greater IoU than this, the mask of the best predicted IoU stays."""
    crop_n_layers: NonNegativeInt = 0
    """Layers of crops that run besides the whole image; layer n has 4^n crops, each of which
    costs as much as the image."""
    crop_nms_thresh: float = Field(default=0.7, ge=0, le=1)
    """As box_nms_thresh, between crops; that of the smaller crop stays."""
    crop_overlap_ratio: float = Field(default=512 / 1500, ge=0, lt=1)
    """By which crops of the first layer overlap, a share of the image's shorter side; half as
    much with each further layer."""
    crop_n_points_downscale_factor: PositiveInt = 1
    """Crops of layer n have points_per_side divided by its nth power."""
    min_mask_region_area: NonNegativeInt = 0
    """Holes and islands of a mask below this many pixels are filled and removed; needs OpenCV."""

    @model_validator(mode="after")
    def _last_layer_has_points(self) -> Self:
        divisor = self.crop_n_points_downscale_factor**self.crop_n_layers
        if divisor > self.points_per_side:
            raise ValueError(
                f"points_per_side {self.points_per_side} divided by crop_n_points_downscale_factor "
                f"{self.crop_n_points_downscale_factor} for each of {self.crop_n_layers} layers of "
                "crops leaves no point in the last; lower one of the two"
            )
        return self


class PointGrid(ABC):
    """A source that prompts a network with points (Kirillov et al., ICCV 2023, appendix B).

    Subclasses say which network, by `make_predictor`. The quality of a mask is the IoU that the
    network predicts for it, which a network may put above 1.

    Args:
        settings: of the source.
        device: where the network goes.

    Raises:
        ImportError: a package is missing that the settings need.
        ValueError: the checkpoint does not fit.
    """

    parallel: ClassVar[bool] = False

    def __init__(self, settings: Any, device: Device) -> None:
        self.settings = settings
        if settings.min_mask_region_area and find_spec("cv2") is None:
            raise ImportError(
                f"min_mask_region_area is {settings.min_mask_region_area}, which needs OpenCV: "
                "pip install opencv-python-headless; or set it to 0"
            )
        self.generator = _make_generator(settings, self.make_predictor(device))

    @abstractmethod
    def make_predictor(self, device: Device) -> Any:
        """A `SamPredictor`, or what answers the generator's calls like one."""

    def __call__(self, image: np.ndarray) -> Proposals:
        from segment_anything.utils.amg import rle_to_mask

        check_image("image", image)
        found = [Proposals.from_masks(np.zeros((0, *image.shape[:2]), bool))]
        for record in self.generator.generate(image):
            if record["area"]:  # without a stability threshold, empty masks come through
                mask = rle_to_mask(record["segmentation"])[None]
                found.append(Proposals.from_masks(mask, np.array([record["predicted_iou"]])))
        return Proposals.join(found)


def _make_generator(settings: PointGridSettings, predictor: Any) -> Any:
    from segment_anything import SamAutomaticMaskGenerator
    from segment_anything.utils.amg import MaskData

    class Generator(SamAutomaticMaskGenerator):  # type: ignore[misc]
        def _process_crop(self, image: Any, box: list[int], layer: int, size: Any) -> Any:
            left, top, right, bottom = box
            if left >= right or top >= bottom:  # a crop of an image of a few pixels
                return MaskData()
            data = super()._process_crop(image, box, layer, size)
            # no masks leave no columns here, which cannot be joined with those of other crops
            data["crop_boxes"] = data["crop_boxes"].reshape(-1, 4)
            return data

    options = settings.model_dump(exclude={"name", "checkpoint", "model_type"})
    generator = Generator(predictor.model, **options, output_mode="uncompressed_rle")
    generator.predictor = predictor
    return generator
