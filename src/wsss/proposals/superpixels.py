"""Superpixels of several sizes: regions of even colour, without a network or a download."""

from typing import ClassVar, Literal, Self

import numpy as np
from PIL import Image
from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from wsss.artifacts import Proposals
from wsss.checks import check_image
from wsss.proposals._base import Device
from wsss.registry import PROPOSALS
from wsss.settings import Named

__all__ = ["Superpixels", "SuperpixelsSettings"]


class SuperpixelsSettings(Named):
    """Levels, each a partition of the image. A refiner has the regions of all of them."""

    name: Literal["superpixels"] = "superpixels"
    felzenszwalb_scales: tuple[PositiveFloat, ...] = (100, 300)
    """A level per value; a larger one gives fewer and larger regions, a doubled one about half
    as many. Empty leaves the method out."""
    felzenszwalb_sigma: NonNegativeFloat = 0.8
    """Standard deviation of the blur before, in pixels."""
    felzenszwalb_min_size: NonNegativeInt = 20
    """Smaller regions are merged with a neighbour, in pixels."""
    slic_segments: tuple[PositiveInt, ...] = (100, 400)
    """A level per value: about so many regions or fewer, of similar size. Empty leaves the method
    out."""
    slic_compactness: PositiveFloat = 10
    """A larger one gives squarer regions, a smaller one follows colour."""
    slic_sigma: NonNegativeFloat = 0
    """Standard deviation of the blur before, in pixels."""
    long_side: PositiveInt = 1024
    """Images whose longer side exceeds this, in pixels, are looked at in this size: time and the
    number of regions stay bounded, and edges are as coarse as that."""

    @model_validator(mode="after")
    def _some_level(self) -> Self:
        if not self.felzenszwalb_scales and not self.slic_segments:
            raise ValueError("name at least one level in felzenszwalb_scales or slic_segments")
        return self


@PROPOSALS.register(SuperpixelsSettings)
class Superpixels:
    """Regions by the graph of Felzenszwalb and Huttenlocher, and by SLIC.

    References:
        Felzenszwalb and Huttenlocher, Efficient Graph-Based Image Segmentation, IJCV 2004.
        Achanta et al., SLIC Superpixels Compared to State-of-the-Art Superpixel Methods, PAMI 2012.
    """

    parallel: ClassVar[bool] = True

    def __init__(self, settings: SuperpixelsSettings, device: Device) -> None:
        del device
        self.settings = settings

    def __call__(self, image: np.ndarray) -> Proposals:
        from skimage.segmentation import felzenszwalb, slic

        check_image("image", image)
        settings = self.settings
        height, width = image.shape[:2]
        shrink = min(1, settings.long_side / max(height, width))
        seen = Image.fromarray(image)
        if shrink < 1:
            size = max(1, round(width * shrink)), max(1, round(height * shrink))
            seen = seen.resize(size, Image.Resampling.BOX)
        colours = np.asarray(seen, np.float32) / np.float32(255)
        levels = [
            felzenszwalb(
                colours, scale, settings.felzenszwalb_sigma, settings.felzenszwalb_min_size
            )
            for scale in settings.felzenszwalb_scales
        ]
        levels += [
            slic(
                colours,
                min(number, colours[..., 0].size),
                settings.slic_compactness,
                sigma=settings.slic_sigma,
                start_label=0,
            )
            for number in settings.slic_segments
        ]
        if shrink < 1:
            levels = [_enlarged(level, (width, height)) for level in levels]
        return Proposals.join([Proposals.from_labels(level) for level in levels])


def _enlarged(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels of the nearest pixels; size is (width, height)."""
    image = Image.fromarray(labels.astype(np.int32))
    return np.asarray(image.resize(size, Image.Resampling.NEAREST))
