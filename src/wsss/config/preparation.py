"""The section of params.yaml that says what the data are."""

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from wsss.artifacts import CORRECTIONS, RESERVED, SPLITS
from wsss.registry import DATASETS
from wsss.settings import Named, Settings

__all__ = ["LabelledPart", "PrepareDataSettings", "ScoredSetSettings"]

if TYPE_CHECKING:
    DatasetChoice: TypeAlias = Named
else:
    DatasetChoice = DATASETS.choice()

LabelledPart: TypeAlias = (
    Literal["none", "all"]
    | Annotated[int, Field(strict=True, ge=1)]
    | Annotated[float, Field(strict=True, gt=0, le=1)]
    | Annotated[tuple[str, ...], Field(min_length=1)]
)
"""Which images of train and selection have a label of a kind: none, all that can, a number of them
(1 is one image), a share of them (1.0 is all), or those of a list."""


class ScoredSetSettings(Settings):
    dataset: DatasetChoice
    """Where the images and their masks come from. Its classes are matched by name."""
    part: Literal["val", "all"] = "val"
    """Its validation images, as the data set names or draws them, or all of its images."""


class PrepareDataSettings(Settings):
    dataset: DatasetChoice = Field(default_factory=lambda: DATASETS.default("synthetic"))
    selection_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training images held out for choosing thresholds and checkpoints, where
    the data set names no selection split of its own."""
    selection_max: PositiveInt = 1000
    """At most this many images are held out."""
    on_bad_image: Literal["skip", "error"] = "skip"
    """An unreadable image, or one whose tags or mask do not fit: leave out and list it, or stop."""
    max_skipped_share: float = Field(default=0.05, ge=0, le=1)
    """More skipped images than this share is an error all the same."""
    contradicting_masks: Literal["error", "warn"] = "error"
    """Masks that contradict the tags of all their images: stop, or warn where the tags are what is
    wrong."""
    pixel_range: Literal["auto"] | tuple[float, float] = "auto"
    """The values that become black and white, of images of more than 8 bits or of floating-point
    numbers, such as [0, 4095] for 12 bits; auto takes what the file states, or all 16 bits."""
    bands: tuple[NonNegativeInt, ...] | None = Field(default=None, min_length=1, max_length=3)
    """The bands, counted from 0, that are red, green and blue, or the one that is grey, of images
    whose bands are not colours; none skips those."""
    turned_masks: Literal["auto", "stored", "upright"] = "auto"
    """What masks show of images that EXIF turns: their stored pixels, so that they are turned
    alike, or what one sees. Their sizes tell, and where these are equal auto goes by the others of
    the set, or by where outlines fit."""
    long_side_max: NonNegativeInt = 0
    """Images whose longer side is larger, in pixels, are shrunk to it, and their masks with them;
    all results have that size. 0 keeps images as they are."""
    pack_above: NonNegativeInt = 50_000
    """With more images than this, the files that this and all later stages make of images are
    packed: some 1500 to a file, so that a disk and DVC do not see hundreds of thousands."""
    pixel_labels: LabelledPart = "none"
    """Images whose masks are given to learn from, besides tags: none, all, a number such as 100, a
    share such as 0.05, or a list of names; of train and selection together, those of val never. A
    number or a share is drawn by rng_seed, each class in its share, and a larger one has all of a
    smaller one."""
    corrections: str = CORRECTIONS
    """The folder of masks that people have corrected, with `wsss annotations import`: those of
    images of train and selection are given to learn from, before all other masks, and their tags
    follow them. It need not be there; none leaves corrections out."""
    box_labels: LabelledPart = "none"
    """The same for boxes, each of which bounds its class: where the data set has none, boxes of
    the masks' parts."""
    point_labels: LabelledPart = "none"
    """The same for points: where the data set has none, a pixel deep within each of the masks'
    parts and one of the background."""
    scribble_labels: LabelledPart = "none"
    """The same for scribbles: where the data set has none, strokes along the middle of the masks'
    parts and of the background."""
    background_images: str | None = None
    """A folder, searched with all below it, of images that show none of the classes, $VARS
    expanded: one more class for the classifier to tell apart while it is trained."""
    background_max: PositiveInt | None = None
    """Only so many of them, chosen by rng_seed; none takes all."""
    scored_sets: dict[str, ScoredSetSettings] = Field(default={})
    """Further data sets, by name, whose images are scored beside val, each set by itself: what is
    made of val is made of them, and nothing is learned from or chosen on them."""

    @field_validator("scored_sets")
    @classmethod
    def _free_names(cls, sets: dict[str, ScoredSetSettings]) -> dict[str, ScoredSetSettings]:
        for name in sets:
            if not re.fullmatch("[a-z][a-z0-9_]*", name):
                raise ValueError(f"the name '{name}' must be of a-z, 0-9 and _, a letter first")
            if name in SPLITS or name in RESERVED:
                raise ValueError(
                    f"the name '{name}' is taken: a split, a file or a key of reports is called "
                    "so; use another name"
                )
        return sets

    @model_validator(mode="after")
    def _usable_pixels(self) -> Self:
        if self.pixel_range != "auto" and self.pixel_range[0] >= self.pixel_range[1]:
            raise ValueError("pixel_range is [black, white], of which white is the larger")
        if self.bands is not None and len(self.bands) == 2:
            raise ValueError(
                "bands names three bands, red, green and blue, or the one that is grey"
            )
        return self
