"""Aerial images of the ISPRS benchmark (Vaihingen, Potsdam): coloured labels, tiles with tags."""

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from wsss.artifacts import IGNORE_INDEX
from wsss.checks import did_you_mean, full_key
from wsss.cores import usable_cores
from wsss.data._base import Problem, RawDataset, RawSample, source_folder
from wsss.data._crops import write_crop
from wsss.data.images import BadImageError, open_rgb
from wsss.data.listing import list_images, some
from wsss.progress import track
from wsss.registry import DATASETS
from wsss.seeding import derive_seed
from wsss.settings import ConfigError, Named, Settings
from wsss.windows import window_starts

__all__ = ["CLASS_NAMES", "COLOURS", "Isprs", "IsprsSettings", "TownTileSettings", "cut_tiles"]

CLASS_NAMES = ("impervious_surface", "building", "low_vegetation", "tree", "car")
"""Every pixel shows one of them, or is ignored: there is no background."""

COLOURS = {
    (255, 255, 255): 1,
    (0, 0, 255): 2,
    (0, 255, 255): 3,
    (0, 255, 0): 4,
    (255, 255, 0): 5,
    (255, 0, 0): IGNORE_INDEX,
    (0, 0, 0): IGNORE_INDEX,
}
"""By RGB the class id: red is clutter, and black the borders that eroded labels leave out."""

_UNKNOWN = 254
_TABLE = np.full(8, _UNKNOWN, np.uint8)  # by the bits of red, green and blue
for _rgb, _id in COLOURS.items():
    _TABLE[sum(bit for bit, level in zip((4, 2, 1), _rgb, strict=True) if level)] = _id

_ENDINGS = re.compile(r"(_(rgbir|rgb|irrg|label|labels|gts?|noboundary))+$", re.IGNORECASE)

Box = tuple[int, int, int, int]


class TownTileSettings(Settings):
    """How images are drawn for their parts, and how they are cut."""

    num_masks: NonNegativeInt = 3
    """Images whose masks annotators gave: those that prepare_data.pixel_labels draws from."""
    num_val: PositiveInt = 7
    """Images for validation. The rest have tags of their tiles alone."""
    split_seed: int = 341
    """Draws both."""
    masks: tuple[str, ...] = Field(default=())
    """The images with masks by name, such as area11, instead of `num_masks` drawn ones."""
    val: tuple[str, ...] = Field(default=())
    """Those for validation, instead of `num_val` drawn ones."""
    tile: PositiveInt = 200
    """Side of a tile in pixels."""
    overlap: float = Field(default=0, ge=0, lt=1)
    """Share of a training tile that the next one covers again."""
    min_share: float = Field(default=0.01, ge=0, lt=1)
    """A tile is tagged with a class that has a pixel in it and at least this share of it."""
    tile_val: bool = True
    """Whether images for validation are cut into tiles, of nearly that side and without overlap;
    false takes them whole, tagged with what any part of them as large as a tile would be."""

    @model_validator(mode="after")
    def _different(self) -> Self:
        if both := sorted({*self.masks} & {*self.val}):
            raise ValueError(f"masks and val both name '{both[0]}'; leave it in one of them")
        return self


class IsprsSettings(Named, TownTileSettings):
    name: Literal["isprs"] = "isprs"
    root: str
    """The folder of the data; $VARS are expanded."""
    images: str = "top"
    """The folder of the images in it, such as 2_Ortho_RGB of Potsdam."""
    labels: str = "gts_for_participants"
    """The folder of their coloured labels, such as 5_Labels_all of Potsdam."""


@dataclass(frozen=True)
class _Area:
    """An image and its labels."""

    name: str
    image: Path
    labels: Path


@DATASETS.register(IsprsSettings)
class Isprs:
    """Tiles of aerial images, with the tags of an annotator who looks at one after another.

    Like `tiles`, this data set plays the annotator and **takes tags from masks**: which classes
    cover at least `min_share` of a tile. Clutter is ignored. The images are drawn in three parts:
    those with masks (N1), which alone `prepare_data.pixel_labels` draws from, those with tags (N2),
    and those for validation. Training tiles all have the same size and cover every pixel, by a
    larger overlap at the right and at the bottom; those for validation cover every pixel once.

    Images and labels are matched by their names without endings such as _RGB, _label or
    _noBoundary. A tile is called after its image, and the row and column of its first pixel.
    """

    def __init__(self, settings: IsprsSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Cut every image into `scratch`; see `Dataset.collect`."""
        del rng_seed  # the parts are those of split_seed, whatever else is drawn
        settings = self.settings
        root = source_folder(settings.root)
        areas, problems, warnings = _pairs(root, settings)
        return cut_town(areas, settings, scratch, problems, warnings)


def cut_town(
    areas: Sequence[_Area],
    settings: TownTileSettings,
    scratch: Path,
    problems: list[Problem],
    warnings: list[str],
) -> RawDataset:
    """Draw the parts of images and cut all of them."""
    _check_sizes(areas)
    parts = _parts([area.name for area in areas], settings)
    jobs = [(area, parts[area.name]) for area in areas]
    splits: dict[str, list[RawSample]] = {"train": [], "val": []}
    given: set[str] = set()
    with ThreadPoolExecutor(min(4, usable_cores() + 1)) as pool:
        work = partial(_cut, settings, scratch)
        results = track(pool.map(lambda job: work(*job), jobs), "tiles", len(jobs))
        for (_, part), found in zip(jobs, results, strict=True):
            if isinstance(found, Problem):
                problems.append(found)
                continue
            splits["val" if part == "val" else "train"] += found
            if part == "masks":
                given |= {sample.name for sample in found}
    shown = {
        class_id
        for sample in splits["train"]
        if sample.name in given
        for class_id in sample.class_ids
    }
    missing = [name for at, name in enumerate(CLASS_NAMES, 1) if at not in shown]
    if given and missing:
        warnings.append(
            f"none of the masks to learn from shows {some(missing, 5)}; draw others with "
            f"{full_key('dataset.split_seed')}, or name them in {full_key('dataset.masks')}"
        )
    return RawDataset(
        CLASS_NAMES,
        splits,
        problems,
        warnings,
        tags_from_masks=True,
        given=frozenset(given),
        has_background=False,
    )


def cut_tiles(size: tuple[int, int], tile: int, overlap: float | None) -> list[Box]:
    """Cut an image into tiles.

    Args:
        size: (height, width) in pixels.
        tile: side of a tile in pixels; a shorter side of the image is not cut.
        overlap: share of a tile that the next one covers again at least, in [0, 1): all tiles have
            one size, and every pixel lies in one. None is a partition: every pixel lies in exactly
            one, and sides are as near to `tile` as they can be.

    Returns:
        (left, top, right, bottom) of each in pixels, row by row.

    Raises:
        ValueError: the overlap leaves its range.

    Example:
        >>> cut_tiles((4, 10), 4, 0)
        [(0, 0, 4, 4), (4, 0, 8, 4), (6, 0, 10, 4)]
        >>> cut_tiles((4, 10), 4, None)
        [(0, 0, 5, 4), (5, 0, 10, 4)]
    """
    ranges = []
    for length in size:
        if overlap is None:
            count = max(1, round(length / tile))
            bounds = [length * at // count for at in range(count + 1)]
            ranges.append(list(pairwise(bounds)))
        else:
            side = min(tile, length)
            ranges.append([(start, start + side) for start in window_starts(length, side, overlap)])
    rows, columns = ranges
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _pairs(root: Path, settings: IsprsSettings) -> tuple[list[_Area], list[Problem], list[str]]:
    """Images with their labels, by name."""
    found, warnings = [], []
    for key in ("images", "labels"):
        folder = root / getattr(settings, key)
        listing = list_images(folder, full_key(f"dataset.{key}"))
        warnings += listing.warnings
        by_area: dict[str, Path] = {}
        for name, path in listing.files.items():
            area = _ENDINGS.sub("", name)
            if area in by_area:
                raise ValueError(
                    f"{full_key(f'dataset.{key}')}: {by_area[area].name} and {path.name} are both "
                    f"of '{area}'; leave one of them in {folder}"
                )
            by_area[area] = path
        found.append(by_area)
    images, labels = found
    areas = [_Area(name, images[name], labels[name]) for name in sorted(images.keys() & labels)]
    if not areas:
        raise ValueError(
            f"no image in {root / settings.images} has labels in {root / settings.labels}: images "
            f"are called such as {some(sorted(images), 1)}, and labels {some(sorted(labels), 1)}"
        )
    problems = [
        Problem(name, f"no labels to tag by: {root / settings.labels} has none of that name")
        for name in sorted(images.keys() - labels)
    ]
    return areas, problems, warnings


def _check_sizes(areas: Sequence[_Area]) -> None:
    """Raise ValueError where labels have not the size of their image."""
    for area in areas:
        sizes = []
        for path in (area.image, area.labels):
            try:
                with Image.open(path) as opened:
                    sizes.append(opened.size)
            except (OSError, UnidentifiedImageError):
                break  # whoever reads it says so
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            (width, height), (other_width, other_height) = sizes
            raise ValueError(
                f"{area.labels} has {other_height} x {other_width} pixels (height x width), but "
                f"{area.image} has {height} x {width}; take the labels of this very image, at its "
                "size"
            )


def _parts(names: Sequence[str], settings: TownTileSettings) -> dict[str, str]:
    """By image "masks", "tags" or "val"."""
    val, masks = (_known(getattr(settings, key), names, key) for key in ("val", "masks"))
    order = sorted(names, key=lambda name: derive_seed(settings.split_seed, "isprs", name))
    left = [name for name in order if name not in {*val, *masks}]
    for drawn, count in ((val, settings.num_val), (masks, settings.num_masks)):
        if not drawn:
            drawn += left[:count]
            del left[:count]
    if len(val) + len(masks) >= len(names) and not masks:
        raise ConfigError(
            f"{full_key('dataset.num_val')} is {settings.num_val}, but there are only {len(names)} "
            "images with labels, of which some must be left to train on; lower it"
        )
    if len(masks) < settings.num_masks and not settings.masks:
        raise ConfigError(
            f"{full_key('dataset.num_masks')} is {settings.num_masks}, but beside {len(val)} for "
            f"validation there are only {len(masks)} images with labels; lower it"
        )
    found = dict.fromkeys(names, "tags")
    return found | dict.fromkeys(val, "val") | dict.fromkeys(masks, "masks")


def _known(wanted: Sequence[str], names: Sequence[str], key: str) -> list[str]:
    """The images that settings name, whole or by the end of their names."""
    found = []
    for word in wanted:
        fits = [name for name in names if name == word] or [
            name for name in names if re.search(rf"(^|[_/]){re.escape(word)}$", name)
        ]
        if len(fits) != 1:
            which = f"several: {some(fits, 4)}" if fits else did_you_mean(word, names)
            raise ConfigError(
                f"{full_key(f'dataset.{key}')} names '{word}', which is no image; {which}"
            )
        found += fits
    return found


def _cut(
    settings: TownTileSettings, scratch: Path, area: _Area, part: str
) -> list[RawSample] | Problem:
    """The tagged tiles of an image, written below `scratch`; or the whole image."""
    try:
        image = open_rgb(area.image).rgb
    except BadImageError as error:
        return Problem(area.name, f"{area.image}: {error}")
    mask = _read_labels(area.labels)
    size = image.height, image.width
    if mask.shape != size:
        return Problem(area.name, f"{area.labels} is not of the size of {area.image}")
    whole = part == "val" and not settings.tile_val
    boxes = cut_tiles(size, settings.tile, None if part == "val" else settings.overlap)
    if whole:
        tags = {tag for box in boxes for tag in _tags(_inside(mask, box), settings.min_share)}
        boxes = [(0, 0, image.width, image.height)]
    samples = []
    for left, top, right, bottom in boxes:
        own = _inside(mask, (left, top, right, bottom))
        name = area.name if whole else f"{area.name}/{top:05d}_{left:05d}"
        image_path, mask_path = write_crop(scratch, name, image, (left, top, right, bottom), own)
        class_ids = sorted(tags) if whole else _tags(own, settings.min_share)
        samples.append(RawSample(name, image_path, tuple(class_ids), mask_path))
    return samples


def _inside(mask: np.ndarray, box: Box) -> np.ndarray:
    left, top, right, bottom = box
    return mask[top:bottom, left:right]


def _tags(mask: np.ndarray, min_share: float) -> list[int]:
    pixels = np.bincount(mask.ravel(), minlength=256)[1 : len(CLASS_NAMES) + 1]
    return [
        class_id
        for class_id, count in enumerate(pixels.tolist(), 1)
        if count and count >= min_share * mask.size
    ]


def _read_labels(path: Path) -> np.ndarray:
    """Coloured labels as (H, W) uint8 class ids and 255.

    Raises:
        ValueError: it cannot be read, or has a colour that means nothing; the text says where.
    """
    try:
        with Image.open(path) as opened:
            rgb = np.asarray(opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as labels: {error}; fetch it again") from None
    ids = np.empty(rgb.shape[:2], np.uint8)
    for rows in _strips(len(rgb)):
        strip = rgb[rows]
        ids[rows] = _TABLE[(strip >> 7) @ np.array([4, 2, 1], np.uint8)]
        ids[rows][((strip != 0) & (strip != 255)).any(axis=2)] = _UNKNOWN
    unknown = ids == _UNKNOWN
    if unknown.any():
        y, x = np.argwhere(unknown)[0].tolist()
        raise ValueError(
            f"{path} has the colour {_hex(rgb[y, x])} at x {x}, y {y}, and {unknown.sum()} pixels "
            f"of unknown colours in all; labels of this data set hold only "
            f"{', '.join(map(_hex, COLOURS))}: save them without loss and without interpolation"
        )
    return ids


def _hex(rgb: Iterable[int]) -> str:
    return "#" + "".join(f"{level:02x}" for level in rgb)


def _strips(height: int) -> Iterator[slice]:
    for start in range(0, height, 512):
        yield slice(start, start + 512)
