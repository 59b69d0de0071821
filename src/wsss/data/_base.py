"""What a data set is: images, tags and perhaps masks where they lie, split by split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from wsss.checks import full_key
from wsss.settings import ConfigError, expand_path

__all__ = ["Dataset", "Problem", "RawBox", "RawDataset", "RawPoint", "RawSample", "source_folder"]


@dataclass(frozen=True)
class RawBox:
    """A box as its file has it.

    Attributes:
        class_id: in 1..K.
        corners: left, top, right and bottom, of which the last two lie outside: in pixels, or as
            shares of the image's width and height where `relative`.
        where: the file and the place in it, for errors.
        relative: see `corners`.
        drawn_on: (height, width) of the image by that file; None where it does not say.
    """

    class_id: int
    corners: tuple[float, float, float, float]
    where: str
    relative: bool = False
    drawn_on: tuple[int, int] | None = None


@dataclass(frozen=True)
class RawPoint:
    """A point as its file has it.

    Attributes:
        class_id: in 1..K, or 0 for the background.
        x: pixels from the left edge of the image, or a share of its width where `relative`.
        y: pixels from its top, or a share of its height.
        where: the file and the place in it, for errors.
        relative: see `x`.
    """

    class_id: int
    x: float
    y: float
    where: str
    relative: bool = False


@dataclass(frozen=True, slots=True)
class RawSample:
    """One image before preparation.

    Attributes:
        name: unique over all splits; may hold '/', spaces and any letters.
        image: the image file.
        class_ids: the tags, ascending, values in 1..K; empty when no class is there.
        mask: the ground truth file (0 background, 1..K, 255 ignored), or None. A data set
            never opens it, and never takes tags from it; the exceptions are `tiles` and `ijmond`,
            which play the annotator.
        mask_values: what the mask's values, or its colours, mean where they are not yet class
            ids, such as {0: 0, 255: 1} or {"#000000": 0, "#ff0000": 1}; then it may hold no other.
        uncertain: see `wsss.artifacts.Sample`.
        boxes: what annotators gave besides; see `RawDataset.offers`.
        points: likewise.
        scribbles: a file like a mask, 255 where nobody drew.
        scribble_values: as mask_values.
    """

    name: str
    image: Path
    class_ids: tuple[int, ...]
    mask: Path | None = None
    mask_values: Mapping[int | str, int] = field(default_factory=dict, hash=False)
    uncertain: tuple[tuple[int, float | None], ...] = ()
    boxes: tuple[RawBox, ...] = ()
    points: tuple[RawPoint, ...] = ()
    scribbles: Path | None = None
    scribble_values: Mapping[int | str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Problem:
    """An image, or a line about one, that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class RawDataset:
    """What `Dataset.collect` finds.

    Attributes:
        class_names: K names; class id c has name class_names[c - 1].
        splits: samples of "train" and "val", and of "selection" where the set names one.
        problems: what had to be left out.
        warnings: what a person must know of what was found, such as files passed over.
        tags_from_masks: whether masks gave the tags, so that they have nothing to say about them.
        offers: of "boxes", "points" and "scribbles" those that the set has of its own; others may
            be taken from masks, as an annotator would give them.
        given: names of the images whose masks annotators gave to learn from, as
            prepare_data.pixel_labels draws them; None are all that have one.
        has_background: whether a pixel may show none of the classes; False where classes divide all
            of an image among them, as in aerial maps.
    """

    class_names: tuple[str, ...]
    splits: dict[str, list[RawSample]]
    problems: list[Problem]
    warnings: list[str] = field(default_factory=list)
    tags_from_masks: bool = False
    offers: frozenset[str] = frozenset()
    given: frozenset[str] | None = None
    has_background: bool = True


class Dataset(Protocol):
    """Built from its settings; registered with `DATASETS`."""

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Find every sample, without decoding images.

        Args:
            scratch: an empty folder for files the data set makes itself; the folder that
                the data comes from is never written to.
            rng_seed: for sets that draw their images or splits.

        Raises:
            ValueError: lists or labels are missing or contradict one another.
        """


def source_folder(root: str) -> Path:
    """The folder a data set's `root` names, with $VARS and ~ expanded.

    Raises:
        ConfigError: a variable is not set, or the folder does not exist.
    """
    folder = expand_path(root, "dataset.root")
    if not folder.is_dir():
        raise ConfigError(
            f"{full_key('dataset.root')} is '{root}', but {folder} is not a folder; "
            "set it to where the data lies"
        )
    return folder
