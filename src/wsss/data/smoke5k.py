"""SMOKE5K: photographs that all show smoke, whole, with masks; to be scored."""

from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from wsss.checks import full_key
from wsss.data._base import Problem, RawDataset, RawSample, source_folder
from wsss.data._mask_pairs import pair_masks
from wsss.data._matching import Names
from wsss.data.listing import list_images
from wsss.registry import DATASETS
from wsss.settings import Named

__all__ = ["Smoke5k", "Smoke5kSettings"]

_MASK_VALUES: dict[int | str, int] = {0: 0, 1: 1, 255: 1}


class Smoke5kSettings(Named):
    name: Literal["smoke5k"] = "smoke5k"
    root: str = "$SMOKE5K_ROOT"
    """The folder that holds images/<split> and masks/<split>, or <split>/img and <split>/gt as the
    set was published; $VARS are expanded."""
    train: str = "train"
    """What the training images' folder is called; it need not be there."""
    val: str = "test"
    """What that of the validation images is called."""

    @model_validator(mode="after")
    def _two_folders(self) -> Self:
        if Path(self.train) == Path(self.val):
            raise ValueError(f"train and val are both '{self.train}'; name two folders")
        return self


@DATASETS.register(Smoke5kSettings)
class Smoke5k:
    """Every image has the tag smoke, and a mask in which 255 (or 1) is smoke.

    So it is for `prepare_data.scored_sets`: a classifier has nothing to learn from a tag that all
    images have. The data set `tiles` makes tags of tiles from the same folders.

    References:
        Yan, Zhang and Barnes: Transmission-guided Bayesian generative model for smoke segmentation
        (AAAI 2022).
    """

    def __init__(self, settings: Smoke5kSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Pair images and masks; see `Dataset.collect`."""
        del scratch, rng_seed
        root = source_folder(self.settings.root)
        raw = RawDataset(("smoke",), {"train": [], "val": []}, [])
        for split, folder in (("train", self.settings.train), ("val", self.settings.val)):
            images, masks = _folders(root, folder)
            if split == "train" and not images.is_dir():
                continue
            key = full_key(f"dataset.{split}")
            listing = list_images(images, key)
            mask_of, said = pair_masks(Names(listing.files, images), masks, key)
            raw.warnings.extend([*listing.warnings, *said])
            for name, image in listing.files.items():
                if name in mask_of:
                    sample = RawSample(f"{split}/{name}", image, (1,), mask_of[name], _MASK_VALUES)
                    raw.splits[split].append(sample)
                else:
                    reason = f"{masks / name}.png is no file"
                    raw.problems.append(Problem(f"{split}/{name}", reason))
        return raw


def _folders(root: Path, split: str) -> tuple[Path, Path]:
    """The images' and the masks' folder of a split."""
    published = root / split / "img"
    if published.is_dir():
        return published, root / split / "gt"
    return root / "images" / split, root / "masks" / split
