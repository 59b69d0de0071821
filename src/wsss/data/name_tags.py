"""Images with their tags in their names, as sets of tissue patches have them: 12-345-[1, 0, 1]."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from wsss.artifacts import IGNORE_INDEX
from wsss.checks import full_key
from wsss.data._base import RawDataset, RawSample, source_folder
from wsss.data._mask_pairs import missing_masks, pair_masks, refuse_lossy_masks
from wsss.data._mask_values import MaskKey, MaskValues
from wsss.data._matching import Names
from wsss.data.listing import list_images, missing_folder, some
from wsss.data.splits import subset
from wsss.registry import DATASETS
from wsss.settings import ConfigError, Named

__all__ = ["NameTags", "NameTagsSettings", "tags_of_name"]

_VECTOR = re.compile(r"\[([^\[\]]*)\]")


class NameTagsSettings(Named):
    name: Literal["name_tags"] = "name_tags"
    root: str
    """The folder that everything lies in; $VARS are expanded."""
    classes: tuple[str, ...] = Field(min_length=1)
    """The names of the classes in the order of the values in the images' names."""
    train: str = "training"
    """The folder of the images to learn from, within root."""
    train_masks: str | None = None
    """The folder of their masks, if there are any."""
    val: str = "val/img"
    """The folder of the images for validation."""
    val_masks: str | None = "val/mask"
    """The folder of their masks, named as the images, with or without the values."""
    selection: str | None = None
    """The folder of images for choosing thresholds; none holds some of train out."""
    selection_masks: str | None = None
    """The folder of their masks."""
    mask_values: dict[MaskKey, int | str] = Field(default_factory=dict)
    """What values of masks mean, as of the data set `folder`. Without it, they count the classes
    from 0, and the value after the last one, white background and what was excluded, is ignored.
    Where none of them means 0, no pixel is background."""
    max_train: PositiveInt | None = None
    """Only so many training images, chosen by rng_seed; none takes all."""

    @model_validator(mode="after")
    def _different_classes(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must be different names")
        return self


@DATASETS.register(NameTagsSettings)
class NameTags:
    """The last square brackets of a name hold a 0 or 1 per class: `[1 0 1]`, `[1, 0, 1]`, `[101]`.

    Of images for validation whose names have no values, which is how these sets come, nobody knows
    the tags: the classifier is not scored on them, and their masks are. An image keeps its whole
    name, below that of its split.

    References:
        Han et al.: WSSS4LUAD (2022), and Multi-layer pseudo-supervision for histopathology tissue
        semantic segmentation using patch-level classification labels (2022), of BCSS-WSSS and
        LUAD-HistoSeg.
    """

    def __init__(self, settings: NameTagsSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """List images and read their names; see `Dataset.collect`."""
        del scratch
        settings = self.settings
        root = source_folder(settings.root)
        count = len(settings.classes)
        meanings = settings.mask_values or {**{n: n + 1 for n in range(count)}, count: IGNORE_INDEX}
        values = MaskValues(meanings, settings.classes)
        splits: dict[str, list[RawSample]] = {}
        warnings: list[str] = []
        for split, images, masks in (
            ("train", settings.train, settings.train_masks),
            ("val", settings.val, settings.val_masks),
            ("selection", settings.selection, settings.selection_masks),
        ):
            if images is None:
                continue
            key = full_key(f"dataset.{split}")
            listing = list_images(root / images, key)
            warnings += listing.warnings
            tags = self._tags(split, listing.files, warnings)
            paired: Mapping[str, Path] = {}
            if masks is not None:
                paired, said = _paired(listing.files, root / images, root / masks, f"{key}_masks")
                warnings += said
            splits[split] = [
                self._sample(f"{split}/{name}", path, tags[name], paired.get(name), values)
                for name, path in listing.files.items()
            ]
        if settings.max_train is not None:
            splits["train"] = subset(splits["train"], settings.max_train, rng_seed)
        folders = [x for x in (settings.train_masks, settings.val_masks) if x is not None]
        warnings += missing_masks(splits, *(root / folder for folder in folders))
        return RawDataset(
            settings.classes, splits, [], warnings, has_background=0 in meanings.values()
        )

    def _sample(
        self,
        name: str,
        path: Path,
        tags: tuple[int, ...] | None,
        mask: Path | None,
        values: MaskValues,
    ) -> RawSample:
        if tags is None:
            unknown = tuple((class_id, None) for class_id in range(1, len(values.class_names) + 1))
        else:
            unknown = ()
        meanings = values.of(tags or ()) if mask else {}
        if meanings is None:
            raise ConfigError(
                f"{full_key('dataset.mask_values')} maps a value to the image's tag, but images "
                f"have several, such as {path}; name its class"
            )
        return RawSample(name, path, tags or (), mask, meanings, unknown)

    def _tags(
        self, split: str, files: Mapping[str, Path], warnings: list[str]
    ) -> dict[str, tuple[int, ...] | None]:
        """The class ids of each image; None where nobody knows them."""
        settings, key = self.settings, full_key("dataset.classes")
        without = [name for name in files if not _VECTOR.search(name.rpartition("/")[2])]
        if split == "val" and len(without) == len(files):
            warnings.append(
                f"the names of the {len(files)} images of val have no values, such as "
                f"'{without[0]}': nobody knows their tags, on which no classifier is scored; their "
                "masks count"
            )
            return dict.fromkeys(files)
        tags: dict[str, tuple[int, ...] | None] = {}
        wrong: list[str] = []
        for name, path in files.items():
            try:
                tags[name] = tags_of_name(path.stem, settings.classes)
            except ValueError as error:
                wrong.append(f"{path}: {error}")
        if wrong:
            listing = "\n  ".join(wrong[:3])
            more = f"\n  and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ValueError(
                f"{len(wrong)} of {len(files)} images of {split} have no tags in their names:\n  "
                f"{listing}{more}\nrename or remove them, or list the classes of the values in "
                f"{key}, which has {len(settings.classes)}: {some(settings.classes)}"
            )
        return tags


def tags_of_name(name: str, classes: Sequence[str]) -> tuple[int, ...]:
    """The class ids that the last square brackets of a name say.

    Args:
        name: of a file, without its suffix.
        classes: K names.

    Raises:
        ValueError: it has no brackets, or they hold anything but K values of 0 and 1.

    Example:
        >>> tags_of_name("1031280-2300-27920-[1, 0, 1]", ["tumor", "stroma", "normal"])
        (1, 3)
    """
    found = _VECTOR.findall(name)
    if not found:
        raise ValueError("its name has no values in square brackets, such as [1, 0, 1]")
    values = [value for value in re.split(r"[\s,;_]+", found[-1].strip()) if value]
    if len(values) == 1 and values[0].isdecimal():
        values = list(values[0])
    wrong = [value for value in values if not re.fullmatch(r"[01](\.0*)?", value)]
    if wrong:
        raise ValueError(f"[{found[-1]}] holds '{wrong[0]}', but values are 0 and 1")
    if len(values) != len(classes):
        raise ValueError(
            f"[{found[-1]}] holds {len(values)} values, but there are {len(classes)} classes"
        )
    return tuple(class_id for class_id, value in enumerate(values, 1) if value[0] == "1")


def _paired(
    images: Mapping[str, Path], folder: Path, masks: Path, key: str
) -> tuple[Mapping[str, Path], list[str]]:
    """The masks of images, by their names with or without values, and what a person must know."""
    if not masks.is_dir():
        raise missing_folder(masks, key)
    files = list_images(masks, key).files
    refuse_lossy_masks(files.values(), key)
    plain: dict[str, list[Path]] = {}
    for name, path in files.items():
        plain.setdefault(_plain(name), []).append(path)
    found = {name: files[name] for name in images if name in files}
    for name in images:
        others = plain.get(_plain(name), [])
        if name not in found and len(others) == 1:
            found[name] = others[0]
    shared = len(set(found.values())) < len(found)
    if shared or not found:
        return pair_masks(Names(images, folder), masks, key)
    left = sorted(set(files.values()) - set(found.values()))
    if not left:
        return found, []
    return found, [f"{key}: {len(left)} of {len(files)} files fit no image, such as {left[0].name}"]


def _plain(name: str) -> str:
    """A name without its values and what separates them."""
    return re.sub(r"[\s_-]*\[[^\[\]]*\](?!.*\[)", "", name)
