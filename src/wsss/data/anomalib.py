"""Images of good and of defective parts, in the layout of MVTec AD that anomalib reads, too."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from wsss.artifacts import write_label_png
from wsss.checks import full_key
from wsss.data._base import RawDataset, RawSample, source_folder
from wsss.data._mask_pairs import missing_masks, pair_masks, refuse_lossy_masks
from wsss.data._matching import Names
from wsss.data.images import BadImageError, PixelRules, image_frame
from wsss.data.listing import list_images, some
from wsss.data.splits import hold_out, subset
from wsss.registry import DATASETS
from wsss.settings import ConfigError, Named

__all__ = ["Anomalib", "AnomalibSettings"]

_PARTS = ("train", "test", "val", "validation")
_ALL = "defect"
_ANY_BANDS = PixelRules(bands=(0,))  # the size is that of all bands


class AnomalibSettings(Named):
    name: Literal["anomalib"] = "anomalib"
    root: str
    """The folder with train, test and ground_truth of one kind of part, or with a folder of good
    images and one per defect; $VARS are expanded."""
    classes: Literal["defect", "kinds"] = "defect"
    """One class of all defects, or one per folder of defects."""
    good: str = Field(default="good", min_length=1)
    """What folders of images without any defect are called."""
    masks: str = Field(default="ground_truth", min_length=1)
    """The folder within root with a folder of masks per defect; any value but 0 is the defect."""
    val_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of all images held out for validation, of each kind of defect and of the good ones."""
    selection_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the others held out for choosing thresholds, likewise."""
    max_train: PositiveInt | None = None
    """Only so many images to learn and to choose from, chosen by rng_seed; none takes all."""


@DATASETS.register(AnomalibSettings)
class Anomalib:
    """Images in folders called `good` show no class, and those of other folders the defect that
    these are named after.

    The layout's own splits are for methods that learn from good images alone, so that all defects
    are in its test. Tags of defects are what is learned from here: all images are drawn anew, each
    kind in its share. An image of a defect without a mask is never scored, and a good one needs
    none.

    References:
        Bergmann, Fauser, Sattlegger and Steger: MVTec AD (CVPR 2019).
    """

    def __init__(self, settings: AnomalibSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """List the folders; see `Dataset.collect`."""
        settings = self.settings
        root = source_folder(settings.root)
        folders = self._folders(root)
        kinds = sorted({folder.name for folder in folders} - {settings.good})
        empty = _EmptyMasks(scratch)
        samples: list[RawSample] = []
        warnings: list[str] = []
        unmasked: list[Path] = []
        for folder in folders:
            listing = list_images(folder, full_key("dataset.root"))
            warnings += listing.warnings
            masks: Mapping[str, Path | None] = {}
            ids: tuple[int, ...] = ()
            values: dict[int | str, int] = {}
            if folder.name != settings.good:
                ids = (kinds.index(folder.name) + 1,)
                values = _values(ids[0] if settings.classes == "kinds" else 1)
                drawn = root / settings.masks / folder.name
                if drawn.is_dir():
                    masks, said = _paired(listing.files, folder, drawn)
                    warnings += said
                else:
                    unmasked.append(drawn)
            else:
                masks = {name: empty.of(path) for name, path in listing.files.items()}
            prefix = folder.relative_to(root).as_posix()
            samples += [
                RawSample(f"{prefix}/{name}", path, ids, masks.get(name), values)
                for name, path in listing.files.items()
            ]
        if unmasked:
            warnings.append(
                f"{len(unmasked)} folders of defects have no masks, such as {unmasked[0]}, which "
                "does not exist; their images are not scored"
            )
        # by kind even when there is one class: both then validate on the same images
        train, val = hold_out(samples, settings.val_share, len(samples), rng_seed, "val")
        if settings.max_train is not None:
            train = subset(train, settings.max_train, rng_seed)
        train, selection = hold_out(train, settings.selection_share, len(train), rng_seed)
        splits = {"train": train, "selection": selection, "val": val}
        if settings.classes == "defect":
            splits = {
                split: [replace(x, class_ids=(1,)) if x.class_ids else x for x in found]
                for split, found in splits.items()
            }
        warnings += missing_masks(splits, root / settings.masks)
        names = tuple(kinds) if settings.classes == "kinds" else (_ALL,)
        return RawDataset(names, splits, [], warnings)

    def _folders(self, root: Path) -> list[Path]:
        """The folders of good images and of defects, of all splits."""
        settings, key = self.settings, full_key("dataset.root")
        parts = [root / part for part in _PARTS if (root / part).is_dir()] or [root]
        folders = [
            item
            for part in parts
            for item in sorted(part.iterdir())
            if item.is_dir() and item != root / settings.masks and not item.name.startswith(".")
        ]
        good = [folder for folder in folders if folder.name == settings.good]
        if not good:
            inner = [item.name for item in folders if (item / "train" / settings.good).is_dir()]
            way_out = (
                f"set {key} to one of the kinds of parts in it: {some(inner)}"
                if inner
                else f"set {full_key('dataset.good')} to what it is called; it has "
                f"{some([folder.name for folder in folders]) or 'no folders'}"
            )
            raise ConfigError(
                f"{key}: {root} has no folder '{settings.good}' of images without a defect, itself "
                f"or in {some(_PARTS[:2])}; {way_out}"
            )
        if len(good) == len(folders):
            raise ConfigError(
                f"{key}: {root} has good images alone, and no folder of a defect, such as "
                f"test/scratch; nothing can be learned without any: add some"
            )
        return folders


def _paired(
    images: Mapping[str, Path], folder: Path, masks: Path
) -> tuple[Mapping[str, Path], list[str]]:
    """The masks of images, which are called 000_mask or 000, and what a person must know."""
    key = full_key("dataset.masks")
    files = list_images(masks, key).files
    refuse_lossy_masks(files.values(), key)
    found = {
        name: files[called]
        for name in images
        for called in (name, f"{name}_mask")
        if called in files
    }
    if len(found) == len(files):
        return found, []
    return pair_masks(Names(images, folder), masks, key)


class _EmptyMasks:
    """Masks of good images: one file for all of a size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: dict[tuple[int, int], Path] = {}

    def of(self, image: Path) -> Path | None:
        """The mask of an image; None of one that cannot be opened, which is left out later."""
        try:
            size = image_frame(image, _ANY_BANDS).upright
        except BadImageError:
            return None
        if size not in self._written:
            path = self.folder / f"good {size[1]}x{size[0]}.png"
            write_label_png(path, np.zeros(size, np.uint8))
            self._written[size] = path
        return self._written[size]


def _values(class_id: int) -> dict[int | str, int]:
    """What values of a mask mean: any but 0 is the defect."""
    return {0: 0, **dict.fromkeys(range(1, 256), class_id)}
