"""Painted surfaces with small defects of exact masks, and as many without any."""

import math
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from wsss.data._base import RawDataset
from wsss.data._flaws import FLAWS, draw_flaw
from wsss.data._painted import check_sides, paint_files
from wsss.data._surfaces import SURFACES, Surface, light, paint_surface
from wsss.registry import DATASETS
from wsss.seeding import generator
from wsss.settings import Named

__all__ = ["SyntheticDefects", "SyntheticDefectsSettings", "paint_defects"]


class SyntheticDefectsSettings(Named):
    name: Literal["synthetic_defects"] = "synthetic_defects"
    num_train: PositiveInt = 400
    """Training images, of which the selection split is held out."""
    num_val: PositiveInt = 120
    image_size: tuple[int, int] = (256, 256)
    """Height and width in pixels, each in 96..2048, the longer at most 4 times the shorter."""
    size_spread: float = Field(default=0, ge=0, lt=1)
    """Sides are up to this share longer or shorter, each image its own."""
    good_share: float = Field(default=0.5, ge=0, lt=1)
    """Share of images without a defect, of each split."""
    surfaces: tuple[Surface, ...] = Field(default=SURFACES, min_length=1)
    """What they show."""
    contrast: tuple[float, float] = (0.35, 1.0)
    """The faintest and the clearest defects, of 1 as clear as they get."""
    several_share: float = Field(default=0.3, ge=0, le=1)
    """Share of images with a defect that have other kinds besides."""
    clutter: bool = True
    """Dust, joints, thick threads, veins and reflections, which are no defects."""
    grain: float = Field(default=2.5, ge=0, le=50)
    """Standard deviation of the sensor noise in intensity levels."""
    grey: bool = False
    """Without colours."""
    single_class: bool = False
    """All kinds are one class, 'defect'."""


@DATASETS.register(SyntheticDefectsSettings)
class SyntheticDefects:
    """Surfaces drawn from `rng_seed`; the same seed gives the same bytes.

    A defect covers 0.05 % to 5 % of its image; at times there are several, and of several kinds.
    """

    def __init__(self, settings: SyntheticDefectsSettings) -> None:
        low, high = settings.contrast
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"contrast is {[low, high]}, but is the faintest and the clearest, in (0, 1]; "
                "take such as [0.35, 1.0]"
            )
        for side in settings.image_size:
            if not 96 <= side <= 2048:
                raise ValueError(f"image_size must lie in 96..2048 pixels, but has {side}")
        check_sides(settings.image_size, settings.size_spread)
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Paint all images into `scratch`; see `Dataset.collect`."""
        counts = {"train": self.settings.num_train, "val": self.settings.num_val}
        paint = partial(_paint, self.settings, rng_seed)
        splits = paint_files(paint, scratch, counts, "surfaces")
        return RawDataset(("defect",) if self.settings.single_class else FLAWS, splits, [])


def _paint(
    settings: SyntheticDefectsSettings, rng_seed: int, split: str, index: int
) -> tuple[np.ndarray, np.ndarray]:
    rng = generator(rng_seed, "synthetic_defects", split, index)
    share = settings.good_share
    good = math.floor((index + 1) * share) > math.floor(index * share)
    return paint_defects(settings, rng, good=good)


def paint_defects(
    settings: SyntheticDefectsSettings, rng: np.random.Generator, *, good: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Paint one surface.

    Args:
        settings: of the set.
        rng: draws the rest.
        good: whether it is without a defect.

    Returns:
        The image, (H, W, 3) uint8, and its mask, (H, W) uint8: 0 and the place in `FLAWS`, from
        1, or 1 for all of them with `single_class`. No two defects touch.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    spread = settings.size_spread
    height, width = (round(s * rng.uniform(1 - spread, 1 + spread)) for s in settings.image_size)
    size = (height, width)
    surface = settings.surfaces[int(rng.integers(len(settings.surfaces)))]
    levels = paint_surface(surface, rng, size, clutter=settings.clutter)
    mask = np.zeros(size, np.uint8)
    for kind in () if good else _kinds(settings, rng):
        for _ in range(int(rng.choice([1, 2, 3], p=[0.65, 0.25, 0.1]))):
            low, high = np.log(settings.contrast)
            flaw = draw_flaw(FLAWS[kind], rng, size, float(np.exp(rng.uniform(low, high))))
            near = ndimage.binary_dilation(flaw.mask, iterations=3)
            if not (mask[near] > 0).any():
                levels += flaw.change
                mask[flaw.mask] = 1 if settings.single_class else kind + 1
    levels *= light(rng, size)[..., None]
    if settings.grey:
        levels[:] = levels.mean(axis=2, keepdims=True)
        levels += rng.normal(0, settings.grain, (*size, 1))
    else:
        levels += rng.normal(0, settings.grain, levels.shape)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8), mask


def _kinds(settings: SyntheticDefectsSettings, rng: np.random.Generator) -> list[int]:
    """Places in `FLAWS`, the first of which is sure to be painted."""
    order = [int(kind) for kind in rng.permutation(len(FLAWS))]
    if rng.random() >= settings.several_share:
        return order[:1]
    return order[: int(rng.choice([2, 3], p=[0.75, 0.25]))]
