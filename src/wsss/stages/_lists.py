"""The lists of images that are prepared, and what is checked of them before any image is read."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from wsss.artifacts import SPLITS, single_label_fault
from wsss.checks import full_key
from wsss.config.params import Params
from wsss.data import RawDataset, RawSample
from wsss.data.listing import list_images
from wsss.data.splits import hold_out, subset
from wsss.settings import ConfigError, expand_path
from wsss.stages._annotation_parts import takes_masks
from wsss.stages._data_checks import listed_problems

__all__ = [
    "BACKGROUND",
    "background_list",
    "check_any_tag",
    "check_files",
    "check_names",
    "check_selection_masks",
    "check_single_label",
    "with_selection",
]

BACKGROUND = "background"
"""The list of images of anything but the classes."""

Lists = Mapping[str, Sequence[RawSample]]


def background_list(params: Params) -> tuple[dict[str, list[RawSample]], list[str]]:
    """The list of images of anything but the classes, and what was passed over.

    No list where no folder is named.
    """
    settings = params.prepare_data
    if settings.background_images is None:
        return {}, []
    key = "background_images"
    listing = list_images(expand_path(settings.background_images, key), full_key(key))
    samples = [RawSample(f"{BACKGROUND}/{name}", path, ()) for name, path in listing.files.items()]
    maximum = settings.background_max or len(samples)
    return {BACKGROUND: subset(samples, maximum, params.base.rng_seed)}, listing.warnings


def with_selection(raw: RawDataset, params: Params) -> dict[str, list[RawSample]]:
    """The splits of a data set, with the images held out where it names no selection split.

    Raises:
        ValueError: train or val is empty, or there is nothing to hold out.
    """
    splits = {name: list(raw.splits.get(name, [])) for name in SPLITS}
    for name in ("train", "val"):
        if not splits[name]:
            raise ValueError(f"no usable image for the {name} split{listed_problems(raw.problems)}")
    if not splits["selection"]:
        settings = params.prepare_data
        splits["train"], splits["selection"] = hold_out(
            splits["train"],
            settings.selection_share,
            settings.selection_max,
            params.base.rng_seed,
            spare_masks=takes_masks(settings, raw),
        )
    return splits


def check_names(lists: Lists) -> None:
    """Raise ValueError where two images have one name."""
    owner: dict[str, str] = {}
    for split, samples in lists.items():
        for sample in samples:
            if sample.name in owner:
                way_out = (
                    "splits must not share images: remove it from one of the lists"
                    if split in SPLITS
                    else f"rename the folder '{split}' of the data set's own images"
                )
                raise ValueError(
                    f"the name '{sample.name}' occurs twice, in {owner[sample.name]} and in "
                    f"{split}; {way_out}"
                )
            owner[sample.name] = split


def check_files(splits: Lists, background: Lists) -> None:
    """Raise ConfigError where images without any class are the data set's own and background."""
    if not background:
        return
    resolved = cache(Path.resolve)
    own = {
        (resolved(sample.image.parent), sample.image.name)
        for samples in splits.values()
        for sample in samples
    }
    both = [
        sample.image
        for sample in background[BACKGROUND]
        if (resolved(sample.image.parent), sample.image.name) in own
    ]
    if both:
        raise ConfigError(
            f"{full_key('background_images')} has {len(both)} images that the data set has as its "
            f"own, such as {both[0]}; images of a sub-folder or with a tag that "
            f"{full_key('dataset.empty_tag')} names are known to show no class: leave "
            "background_images out, or name a folder of other images"
        )


def check_any_tag(splits: Lists) -> None:
    """Raise ValueError unless a training image has a tag."""
    if not any(sample.class_ids for sample in splits["train"]):
        raise ValueError(
            f"none of the {len(splits['train'])} training images has a tag, so there is nothing to "
            "learn; check the data set's tags, or how its images are split"
        )


def check_selection_masks(splits: Lists, params: Params) -> None:
    """Raise ConfigError where a threshold is to be chosen on masks, and there is none."""
    if params.make_pseudo_masks.selects_threshold and not any(
        sample.mask for sample in splits["selection"]
    ):
        raise ConfigError(
            "make_pseudo_masks.threshold is 'selected', but no selection image has a mask to "
            "choose it on; set it to usual, or add masks for some training images"
        )


def check_single_label(splits: Lists, params: Params) -> None:
    """Raise ConfigError where classes are exclusive, and an image has none or several."""
    if params.train_classifier.loss == "single_label":
        samples = [item for split in splits.values() for item in split]
        if wrong := single_label_fault(samples, "train_classifier.loss"):
            raise ConfigError(wrong)
