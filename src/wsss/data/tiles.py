"""Binary masks to image tags by tiling, for sets in which every image shows the class."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from wsss.artifacts import read_label_png
from wsss.checks import full_key
from wsss.cores import usable_cores
from wsss.data._base import Problem, RawDataset, RawSample, source_folder
from wsss.data._crops import write_crop
from wsss.data._mask_pairs import pair_masks
from wsss.data._matching import Names
from wsss.data.images import BadImageError, OpenedImage, open_rgb, turned
from wsss.data.listing import list_images
from wsss.data.splits import hold_out, subset
from wsss.progress import track
from wsss.registry import DATASETS
from wsss.settings import Named

__all__ = ["Tiles", "TilesSettings", "tile_boxes"]


class TilesSettings(Named):
    name: Literal["tiles"] = "tiles"
    root: str
    """The folder that holds images/<split> and masks/<split>; $VARS are expanded."""
    class_name: str = Field(default="smoke", min_length=1)
    """What the masks show; any value but 0 means it."""
    train: str = "train"
    """The sub-folder of images and masks for training."""
    val: str = "test"
    """The one for validation."""
    tile_share: float = Field(default=1 / 3, gt=0, le=1)
    """Side of a tile as a share of the image's shorter side."""
    min_share: float = Field(default=0.02, ge=0, lt=1)
    """A tile is tagged if more than 0 and at least this share of its pixels are in the mask."""
    tile_val: bool = True
    """Whether validation is on tiles; false takes whole images, tagged if a tile of theirs is."""
    selection_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training images whose tiles are the selection split: whole images, since
    tiles of one image resemble each other."""
    max_train: PositiveInt | None = None
    """Only so many images are cut into training tiles, chosen by rng_seed; none takes all."""

    @model_validator(mode="after")
    def _two_folders(self) -> Self:
        if Path(self.train) == Path(self.val):
            raise ValueError(f"train and val are both '{self.train}'; name two folders")
        return self


@DATASETS.register(TilesSettings)
class Tiles:
    """Simulates an annotator who looks at tiles and says which of them show the class.

    A set such as SMOKE5K has masks but no tags, and as every image shows smoke, "smoke" for a
    whole image would teach nothing. So images are cut into tiles, and **this data set, and
    `ijmond` alone besides, takes tags from masks**: the one bit per tile that a person would have
    given. Results on it are those of tile tags, and no other part of the masks reaches training.

    Images and masks are matched by name; a mask is a binary PNG of its image's size. Text
    around images' names in those of masks, such as _mask, is found.
    """

    def __init__(self, settings: TilesSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Cut every image into `scratch`; see `Dataset.collect`."""
        settings = self.settings
        root = source_folder(settings.root)
        problems: list[Problem] = []
        warnings: list[str] = []
        images = {
            split: self._pair(root, split, folder, problems, warnings)
            for split, folder in (("train", settings.train), ("val", settings.val))
        }
        if settings.max_train is not None:
            images["train"] = subset(images["train"], settings.max_train, rng_seed)
        if images["train"]:
            images["train"], images["selection"] = hold_out(
                images["train"], settings.selection_share, len(images["train"]), rng_seed
            )
        jobs = [(split, item) for split, found in images.items() for item in found]
        splits: dict[str, list[RawSample]] = {split: [] for split in images}
        either: list[str] = []
        cut = partial(_cut, settings, scratch, either)
        with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
            results = track(pool.map(lambda job: cut(*job), jobs), "tiles", len(jobs))
            for (split, _), found in zip(jobs, results, strict=True):
                if isinstance(found, Problem):
                    problems.append(found)
                else:
                    splits[split] += found
        if either:
            warnings.append(
                f"{len(either)} images that EXIF turns are as high as wide, or upside down, such "
                f"as '{min(either)}': their masks were taken as drawn on the stored pixels, and "
                "turned alike. If they show the upright image, turn the images' files themselves: "
                "magick mogrify -auto-orient *.jpg"
            )
        return RawDataset((settings.class_name,), splits, problems, warnings, tags_from_masks=True)

    @staticmethod
    def _pair(
        root: Path, split: str, folder: str, problems: list[Problem], warnings: list[str]
    ) -> list[RawSample]:
        """Images with their masks, not yet tagged."""
        key = full_key(f"dataset.{split}")
        images, masks = root / "images" / folder, root / "masks" / folder
        listing = list_images(images, key)
        mask_of, said = pair_masks(Names(listing.files, images), masks, key)
        warnings += [*listing.warnings, *said]
        problems += [
            Problem(f"{split}/{name}", f"no mask to tag by: {masks / name}.png is no file")
            for name in listing.files
            if name not in mask_of
        ]
        return [
            RawSample(f"{split}/{name}", image, (), mask_of[name])
            for name, image in listing.files.items()
            if name in mask_of
        ]


def tile_boxes(
    size: tuple[int, int], tile_share: float
) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """Cut an image into tiles of one size, nearly square, which do not overlap.

    Each side is cut into as many parts as come nearest to the tiles' side; the few pixels that
    do not divide, fewer than there are parts, are left over at the right and at the bottom.

    Args:
        size: (height, width) of the image in pixels.
        tile_share: a tile's side as a share of the shorter side of the image, in (0, 1].

    Returns:
        By row and column, (left, top, right, bottom) of each tile in pixels.

    Example:
        >>> tile_boxes((6, 13), 0.9)
        {(0, 0): (0, 0, 6, 6), (0, 1): (6, 0, 12, 6)}
    """
    side = tile_share * min(size)
    rows, columns = (min(max(1, round(length / side)), length) for length in size)
    height, width = size[0] // rows, size[1] // columns
    return {
        (row, column): (column * width, row * height, (column + 1) * width, (row + 1) * height)
        for row in range(rows)
        for column in range(columns)
    }


def _cut(
    settings: TilesSettings, scratch: Path, either: list[str], split: str, sample: RawSample
) -> list[RawSample] | Problem:
    """The tagged tiles of an image, written below `scratch`; or the whole image with its tag.

    Whose mask fits an image that EXIF turns either way is added to `either`.
    """
    assert sample.mask is not None
    try:
        opened = open_rgb(sample.image)
        if opened.levels is not None and opened.levels.is_dark:
            raise BadImageError(
                f"its 16 bits hold values up to {opened.levels.high:g} only and would be nearly "
                "black; save it with 8 bits"
            )
        image = opened.rgb
        mask, value = _read_binary(sample.mask, opened)
    except BadImageError as error:
        return Problem(sample.name, f"{sample.image}: {error}")
    except ValueError as error:
        return Problem(sample.name, str(error))
    if opened.orientation != 1 and opened.stored == opened.size:
        either.append(sample.name)
    boxes = tile_boxes((image.height, image.width), settings.tile_share)
    masks = {at: mask[top:bottom, left:right] for at, (left, top, right, bottom) in boxes.items()}
    shown = {at for at, tile in masks.items() if tile.any() and tile.mean() >= settings.min_share}
    if split == "val" and not settings.tile_val:
        return [replace(sample, class_ids=(1,) if shown else (), mask_values={0: 0, value: 1})]
    tiles = []
    for (row, column), box in boxes.items():
        name = f"{sample.name}/{row}_{column}"
        own = masks[row, column].astype(np.uint8)
        image_path, mask_path = write_crop(scratch, name, image, box, own)
        class_ids = (1,) if (row, column) in shown else ()
        tiles.append(RawSample(name, image_path, class_ids, mask_path))
    return tiles


def _read_binary(path: Path, image: OpenedImage) -> tuple[np.ndarray, int]:
    """A mask as (H, W) bool, and the value in it that stands for true.

    One of the stored pixels' size is turned as EXIF turned its image.
    """
    mask, size = read_label_png(path), image.size
    if mask.shape == image.stored:
        mask = turned(mask, image.orientation)
    if mask.shape != size:
        raise ValueError(
            f"{path} has {mask.shape[0]} x {mask.shape[1]} pixels (height x width), but its image "
            f"has {size[0]} x {size[1]}"
        )
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[1:]) + 1
    if len(values) > 1:
        raise ValueError(
            f"{path} holds {len(values)} values beside 0, such as {values[0]} and {values[1]}; a "
            "binary mask holds 0 and one other"
        )
    return mask > 0, int(values[0]) if len(values) else 1
