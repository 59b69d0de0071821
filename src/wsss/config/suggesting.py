"""The section of params.yaml that says what a person's work costs, and how lists are made."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from wsss.settings import Settings

__all__ = ["SecondsSettings", "SuggestSettings"]


class SecondsSettings(Settings):
    """What annotating takes a person, in seconds; a stopwatch of one's own is better."""

    tag: PositiveFloat = 1
    """A look whether an image shows a class (Papadopoulos et al., ICCV 2017)."""
    box: PositiveFloat = 10
    """A box around one object; 7 by its extreme points (Papadopoulos et al., ICCV 2017)."""
    mask: PositiveFloat = 240
    """A mask of a whole image from nothing (Bearman et al., ECCV 2016); one object alone takes 80
    (COCO, Lin et al., ECCV 2014), and correcting a mask that is nearly right less."""


class SuggestSettings(Settings):
    """What `wsss suggest` reckons with; no stage depends on it."""

    seconds: SecondsSettings = SecondsSettings()
    boxes_per_tag: PositiveFloat = 1.5
    """Objects of a class in an image that shows it, on average."""
    curve: str = "annotations"
    """What masks and boxes add to tags, as measured: a file of recipes/curves, without .yaml."""
    masks: Literal["random", "chosen"] = "random"
    """Which images are to get masks: drawn at random, each class in its share; or chosen, where
    maps are undecided and for what many images look like."""
    folds: int = Field(default=5, ge=2)
    """Parts of the images; the tags of each are foretold from the others."""
    fewest_tags: PositiveInt = 10
    """A class with fewer tagged images is not judged: too little to foretell it from."""
    wrong_share: float = Field(default=0.05, gt=0, lt=1)
    """The share of tags that are thought to be wrong, as many false as missing: what a person
    would guess before looking. The order of either kind does not depend on it."""
    suspicious_from: float = Field(default=0.1, gt=0, lt=1)
    """The chance of being wrong from which a tag is to be checked; see docs/suggest.md for how many
    of such tags were wrong."""
    wrong_tag_worth: PositiveFloat = 1
    """What mending a wrong tag adds, counted in masks of an average image. Not measured."""
