"""A painted town from above, in the format of the ISPRS benchmark: needs no download."""

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from wsss.artifacts import IGNORE_INDEX
from wsss.data._base import RawDataset
from wsss.data._painted import spread
from wsss.data._town import paint_town
from wsss.data.isprs import COLOURS, Isprs, IsprsSettings, TownTileSettings
from wsss.progress import track
from wsss.registry import DATASETS
from wsss.seeding import generator
from wsss.settings import Named

__all__ = ["SyntheticAerial", "SyntheticAerialSettings", "paint_areas"]


class SyntheticAerialSettings(Named, TownTileSettings):
    name: Literal["synthetic_aerial"] = "synthetic_aerial"
    num_images: PositiveInt = 33
    """Images, of which `num_masks` have masks to learn from and `num_val` are for validation."""
    image_size: tuple[int, int] = (384, 512)
    """Height and width in pixels, each in 64..4096."""
    car: float = Field(default=16, ge=6, le=64)
    """Length of a car in pixels; all else has its size."""
    tile: PositiveInt = 128
    """Side of a tile in pixels."""


@DATASETS.register(SyntheticAerialSettings)
class SyntheticAerial:
    """Towns drawn from `rng_seed`; the same seed gives the same bytes.

    Streets, roofs, lawns, trees, cars and some clutter, in near infrared, red and green, are
    written as TIFFs beside labels of Vaihingen's colours, and read as other images of `isprs`.
    """

    def __init__(self, settings: SyntheticAerialSettings) -> None:
        for side in settings.image_size:
            if not 64 <= side <= 4096:
                raise ValueError(f"image_size must lie in 64..4096 pixels, but has {side}")
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Paint all images into `scratch`, and cut them; see `Dataset.collect`."""
        settings = self.settings
        root = scratch / "town"
        paint_areas(root, settings.num_images, settings.image_size, settings.car, rng_seed)
        shared = {key: getattr(settings, key) for key in TownTileSettings.model_fields}
        return Isprs(IsprsSettings(root=str(root), **shared)).collect(scratch, rng_seed)


def paint_areas(
    root: Path, count: int, size: tuple[int, int], car: float, rng_seed: int
) -> list[str]:
    """Write images below root/top and their labels below root/gts_for_participants.

    Args:
        root: of the data set; made where it is missing.
        count: of images.
        size: (height, width) in pixels.
        car: length of a car in pixels.
        rng_seed: of all that is drawn.

    Returns:
        The images' names.
    """
    for folder in ("top", "gts_for_participants"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    work = partial(_paint, root, size, car, rng_seed)
    return list(track(spread(work, list(range(1, count + 1))), "towns", count))


def _paint(root: Path, size: tuple[int, int], car: float, rng_seed: int, number: int) -> str:
    image, ids = paint_town(size, generator(rng_seed, "synthetic_aerial", str(number)), car)
    table = np.zeros((256, 3), np.uint8)
    for colour, class_id in reversed(COLOURS.items()):
        table[6 if class_id == IGNORE_INDEX else class_id] = colour
    table[6] = (255, 0, 0)
    name = f"top_mosaic_09cm_area{number}"
    Image.fromarray(image).save(root / f"top/{name}.tif")
    Image.fromarray(table[ids]).save(
        root / f"gts_for_participants/{name}.tif", compression="tiff_lzw"
    )
    return name
