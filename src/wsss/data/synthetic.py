"""Painted scenes of boats, sheep and balloons with exact masks: the set that needs no download."""

import itertools
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from wsss.data._base import RawDataset
from wsss.data._painted import check_sides, paint_files
from wsss.data._scenery import Canvas, balloon, boat, scenery, sheep, tree
from wsss.registry import DATASETS
from wsss.seeding import generator
from wsss.settings import Named

__all__ = ["CLASS_NAMES", "Synthetic", "SyntheticSettings", "paint_scene"]

CLASS_NAMES = ("boat", "sheep", "balloon")
_BOAT, _SHEEP, _BALLOON = 1, 2, 3
_MIN_VISIBLE = 0.025  # share of the image that each tagged class shows at least


class SyntheticSettings(Named):
    name: Literal["synthetic"] = "synthetic"
    num_train: PositiveInt = 500
    """Training images, of which the selection split is held out."""
    num_val: PositiveInt = 120
    image_size: tuple[int, int] = (128, 128)
    """Height and width in pixels, each in 48..1024, the longer at most 4 times the shorter."""
    water_with_boat: float = Field(default=0.95, ge=0, le=1)
    """How often a boat is on water and not ashore."""
    water_without_boat: float = Field(default=0.12, ge=0, le=1)
    """How often there is water but no boat. The nearer to zero, the more a classifier takes
    water for a part of boats, as it takes rails for a part of trains."""
    empty_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of scenes without any object."""
    grain: float = Field(default=2.5, ge=0, le=50)
    """Standard deviation of the sensor noise in intensity levels."""


@DATASETS.register(SyntheticSettings)
class Synthetic:
    """Scenes drawn from `rng_seed`; the same seed gives the same bytes."""

    def __init__(self, settings: SyntheticSettings) -> None:
        for side in settings.image_size:
            if not 48 <= side <= 1024:
                raise ValueError(f"image_size must lie in 48..1024 pixels, but has {side}")
        check_sides(settings.image_size)
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Paint all scenes into `scratch`; see `Dataset.collect`."""
        counts = {"train": self.settings.num_train, "val": self.settings.num_val}
        paint = partial(_paint, self.settings, rng_seed)
        splits = paint_files(paint, scratch, counts, "synthetic scenes")
        return RawDataset(CLASS_NAMES, splits, [])


def _paint(
    settings: SyntheticSettings, rng_seed: int, split: str, index: int
) -> tuple[np.ndarray, np.ndarray]:
    return paint_scene(settings, generator(rng_seed, "synthetic", split, index))


def paint_scene(
    settings: SyntheticSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paint one scene.

    Returns:
        The image, (H, W, 3) uint8, and its mask, (H, W) uint8 in 0..3. Every class in the
        mask covers at least 2.5 % of it.
    """
    classes = _draw_classes(settings, rng)
    on_water = settings.water_with_boat if _BOAT in classes else settings.water_without_boat
    water = bool(rng.random() < on_water)
    for _ in itertools.count():  # until nobody is hidden; nearly always the first
        canvas = Canvas(settings.image_size, len(CLASS_NAMES), rng)
        _compose(canvas, classes, water=water)
        mask = canvas.mask()
        if all((mask == class_name).mean() >= _MIN_VISIBLE for class_name in classes):
            return canvas.image(settings.grain), mask
    raise AssertionError("unreachable")


def _draw_classes(settings: SyntheticSettings, rng: np.random.Generator) -> list[int]:
    if rng.random() < settings.empty_share:
        return []
    count = int(rng.choice([1, 2, 3], p=[0.5, 0.38, 0.12]))
    return sorted(int(item) for item in rng.permutation([_BOAT, _SHEEP, _BALLOON])[:count])


def _compose(canvas: Canvas, classes: Iterable[int], *, water: bool) -> None:
    rng, (height, width) = canvas.rng, canvas.size
    unit = min(height, width)
    horizon = rng.uniform(0.40, 0.55) * height
    shore = None
    if water:
        ashore = _SHEEP in classes or rng.random() < 0.3
        shore = rng.uniform(0.78, 0.88) * height if ashore else float(height)
    scenery(canvas, horizon, shore)
    for _ in range(int(rng.integers(0, 4))):
        lift = 0 if water else rng.uniform(0, 0.06) * height
        tree(canvas, rng.uniform(0, width), horizon + lift + 1, rng.uniform(0.12, 0.32) * unit)

    placed = []  # (y of the foot, class, x, extent): painted from far to near
    for class_id in classes:
        count = int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
        shrink = (1.0, 0.82, 0.7)[count - 1]
        for slot in rng.permutation(count):
            x = (slot + rng.uniform(0.25, 0.75)) / count * width
            if class_id == _BALLOON:
                size = rng.uniform(0.14, 0.23) * unit * shrink
                y = rng.uniform(
                    0.04 * height + size, max(0.06 * height + size, horizon - 0.9 * size)
                )
                placed.append((0.0, class_id, x, size, y))
            elif class_id == _BOAT:
                size = rng.uniform(0.42, 0.66) * unit * shrink
                last = (shore if shore is not None else height) - 0.05 * height
                y = rng.uniform(min(horizon + 0.10 * height, last), last)
                placed.append((y, class_id, x, size, y))
            else:
                size = rng.uniform(0.34, 0.54) * unit * shrink
                first = shore if shore is not None else horizon + 0.1 * height
                y = rng.uniform(min(first + 0.08 * height, 0.97 * height), 0.98 * height)
                placed.append((y, class_id, x, size, y))
    for _, class_id, x, size, y in sorted(placed):
        if class_id == _BALLOON:
            balloon(canvas, x, y, size, class_id)
        elif class_id == _BOAT:
            boat(canvas, x, y, size, class_id, afloat=water)
        else:
            sheep(canvas, x, y, size, class_id)
