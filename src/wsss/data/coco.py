"""COCO: folders of images, and a JSON of instances for each split; also of one's own objects."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from wsss.artifacts import IGNORE_INDEX, write_label_png
from wsss.checks import did_you_mean, full_key
from wsss.cores import usable_cores
from wsss.data._base import Problem, RawBox, RawDataset, RawSample, source_folder
from wsss.data._coco_file import CocoFile, CocoImage, CocoObject, read_coco
from wsss.data._mask_pairs import missing_masks
from wsss.data._matching import Names
from wsss.data.listing import list_images, some
from wsss.data.splits import hold_out, subset
from wsss.progress import track
from wsss.registry import DATASETS
from wsss.settings import ConfigError, Named

__all__ = ["Coco", "CocoSettings", "drawn_objects"]


class CocoSettings(Named):
    name: Literal["coco"] = "coco"
    root: str = "$COCO_ROOT"
    """The folder that everything lies in; $VARS are expanded."""
    train: str = "annotations/instances_train2017.json"
    """The JSON of the instances to learn from, within root."""
    train_images: str = "train2017"
    """The folder of its images, within root."""
    val: str | None = "annotations/instances_val2017.json"
    """The same for validation; none holds out `val_share` of train."""
    val_images: str | None = "val2017"
    """The folder of the images of val; none takes that of train."""
    selection: str | None = None
    """The same for choosing thresholds; none holds some of train out."""
    selection_images: str | None = None
    """The folder of the images of selection; none takes that of train."""
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The names of the categories that are classes, in the order of their ids in masks, from 1 on;
    others are background. None takes all categories in the order of the JSON's ids."""
    val_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the images held out for validation where `val` is none."""
    max_train: PositiveInt | None = None
    """Only so many training images, chosen by rng_seed; none takes all."""

    @model_validator(mode="after")
    def _different_classes(self) -> Self:
        if self.classes and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must be different names")
        return self


@dataclass(frozen=True)
class _Source:
    """The files of a split; `key` is the setting that names the folder of its images."""

    path: Path
    file: CocoFile
    folder: Path
    key: str


@DATASETS.register(CocoSettings)
class Coco:
    """Tags are the categories of an image's objects; an image without any has no class, and one
    that the JSON does not list is not used. A crowd gives its tag.

    Masks are drawn from polygons and run lengths, small objects over larger ones, and crowds are
    255 (ignored) below all. An image with an object that has no region has no mask. Boxes are those
    of the objects, but of a class that has a crowd in the image, or an object without a box, none:
    boxes of a class hold all of it.

    Where train and val lie in different folders, images are called by these, too.

    References:
        Lin et al.: Microsoft COCO: Common Objects in Context (ECCV 2014).
    """

    def __init__(self, settings: CocoSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Read the JSONs and draw masks; see `Dataset.collect`."""
        settings = self.settings
        root = source_folder(settings.root)
        sources = self._sources(root)
        class_names = self._class_names(sources)
        apart = len({source.folder for source in sources.values()}) > 1
        problems: list[Problem] = []
        found = {split: _matched(source, problems) for split, source in sources.items()}
        warnings = _passed_over(sources, found)
        drawn: dict[str, CocoImage] = {}
        splits: dict[str, list[RawSample]] = {}
        for split, source in sources.items():
            folder = Path(os.path.relpath(source.folder, root)).as_posix()
            prefix = f"{folder}/" if apart and folder != "." else ""
            masks = scratch / "masks" / split if _has_regions(source.file) else None
            splits[split] = []
            for name, (path, image) in sorted(found[split].items()):
                sample = _sample(prefix + name, path, image, class_names, masks)
                drawn[sample.name] = image
                splits[split].append(sample)
        if "val" not in splits and splits["train"]:
            splits["train"], splits["val"] = hold_out(
                splits["train"], settings.val_share, len(splits["train"]), rng_seed, "val"
            )
        if settings.max_train is not None:
            splits["train"] = subset(splits["train"], settings.max_train, rng_seed)
        changed = max(source.path.stat().st_mtime_ns for source in sources.values())
        splits = _with_masks(splits, drawn, class_names, problems, changed)
        warnings += missing_masks(splits, *dict.fromkeys(item.path for item in sources.values()))
        has_boxes = any(sample.boxes for samples in splits.values() for sample in samples)
        offers = frozenset({"boxes"} if has_boxes else ())
        return RawDataset(class_names, splits, problems, warnings, offers=offers)

    def _sources(self, root: Path) -> dict[str, _Source]:
        settings = self.settings
        sources = {}
        for split, file, images in (
            ("train", settings.train, settings.train_images),
            ("val", settings.val, settings.val_images),
            ("selection", settings.selection, settings.selection_images),
        ):
            if file is None:
                continue
            path = root / file
            if not path.is_file():
                found = sorted(
                    item.relative_to(root).as_posix()
                    for pattern in ("*.json", "*/*.json", "*/*/*.json")
                    for item in root.glob(pattern)
                )
                hint = did_you_mean(file, found) if found else f"{root} holds no .json"
                raise ConfigError(
                    f"{full_key(f'dataset.{split}')} is '{file}', but {path} is not a file; {hint}"
                )
            folder = Path(os.path.normpath(root / (images or settings.train_images)))
            key = full_key(f"dataset.{split if images else 'train'}_images")
            sources[split] = _Source(path, read_coco(path), folder, key)
        return sources

    def _class_names(self, sources: Mapping[str, _Source]) -> tuple[str, ...]:
        """The settings' classes, or all categories that are more than a heading."""
        key = full_key("dataset.classes")
        if self.settings.classes:
            known = {name for source in sources.values() for name in source.file.names}
            for name in self.settings.classes:
                if name not in known:
                    raise ConfigError(
                        f"{key} names '{name}', which is no category of {sources['train'].path}; "
                        f"{did_you_mean(name, known)}"
                    )
            return self.settings.classes
        every = [source.file for source in sources.values()]
        used = {item.word for file in every for image in file.images for item in image.objects}
        train = sources["train"].file
        names = tuple(name for name in train.names if name not in train.headings - used)
        for source in sources.values():
            words = {item.word for image in source.file.images for item in image.objects}
            if other := sorted(words - set(names)):
                raise ConfigError(
                    f"{source.path} has objects of {some(other)}, which are no categories of "
                    f"{sources['train'].path}; list those to learn in {key}, such as "
                    f"[{', '.join(names[:4])}]"
                )
        if not names:
            raise ValueError(f"{sources['train'].path} has no categories; add those of its objects")
        return names


def drawn_objects(
    objects: Sequence[CocoObject], size: tuple[int, int], class_names: Sequence[str]
) -> np.ndarray:
    """Draw a mask: crowds below all, and then objects, the larger ones first.

    Of two of the same size, the later one lies on top.

    Args:
        objects: with regions, of classes and perhaps others, which are left out.
        size: (height, width) of the image.
        class_names: K names.

    Returns:
        (H, W) uint8: 0, class ids, and 255 of crowds.

    Raises:
        ValueError: a region cannot be read or does not fit the image; the text names the
            annotation.
    """
    regions = []
    for item in objects:
        if item.word not in class_names:
            continue
        try:
            if item.shape is None:
                raise ValueError(item.wrong)
            at, inside = item.shape.pixels(size)
        except ValueError as error:
            raise ValueError(f"{item.where}: {error}") from None
        class_id = IGNORE_INDEX if item.is_crowd else class_names.index(item.word) + 1
        regions.append((not item.is_crowd, -int(inside.sum()), class_id, at, inside))
    mask = np.zeros(size, np.uint8)
    for _, _, class_id, at, inside in sorted(regions, key=lambda region: region[:2]):
        mask[at][inside] = class_id
    return mask


def _matched(source: _Source, problems: list[Problem]) -> dict[str, tuple[Path, CocoImage]]:
    """The images of a file that lie in its folder, by name; others are added to `problems`."""
    listing = list_images(source.folder, source.key)
    names, images = Names(listing.files, source.folder), source.file.images
    matched = names.match(dict.fromkeys(image.entry for image in images))
    missing = [image for image in images if image.entry not in matched]
    if len(missing) == len(images):
        first = f"lists '{missing[0].entry}'" if missing else "lists none"
        raise ConfigError(
            f"none of the {len(missing)} images of {source.path} lies in {source.folder}: it "
            f"{first}, where images are called {some([repr(name) for name in names.files], 2)}; "
            f"set {source.key} to their folder"
        )
    problems += [
        Problem(
            image.entry,
            f"{image.where}: there is no such image in {source.folder}, nor are {len(missing) - 1} "
            f"others of its {len(images)}; copy them there, or remove them from the JSON",
        )
        for image in missing
    ]
    found: dict[str, tuple[Path, CocoImage]] = {}
    for image in images:
        name = matched.get(image.entry)
        if name in found:
            raise ValueError(
                f"{image.where}: '{image.entry}' is the image of {found[name][1].where}, too; put "
                "the objects of both to one of them"
            )
        if name is not None:
            found[name] = listing.files[name], image
    return found


def _passed_over(
    sources: Mapping[str, _Source], found: Mapping[str, Mapping[str, object]]
) -> list[str]:
    """What a person must know of the folders: what is no image, or in no JSON."""
    warnings = []
    for folder, key in {source.folder: source.key for source in sources.values()}.items():
        listing = list_images(folder, key)
        listed = {
            name for split in found for name in found[split] if sources[split].folder == folder
        }
        warnings += listing.warnings
        if left := [name for name in listing.files if name not in listed]:
            warnings.append(
                f"{folder} has {len(left)} images that no JSON lists, such as '{left[0]}'; they "
                "are not used"
            )
    return warnings


def _has_regions(file: CocoFile) -> bool:
    """Whether objects have regions at all, and not only boxes."""
    return any(item.shape or item.wrong for image in file.images for item in image.objects)


def _sample(
    name: str, path: Path, image: CocoImage, class_names: Sequence[str], masks: Path | None
) -> RawSample:
    """An image with its tags and boxes, and where its mask will be, if all objects have a region.

    Args:
        name: of the image.
        path: its file.
        image: what is said of it.
        class_names: K names.
        masks: the folder of masks; None where there are none.
    """
    own = [item for item in image.objects if item.word in class_names]
    without = {item.word for item in own if item.is_crowd or item.corners is None}
    boxes = tuple(
        RawBox(class_names.index(item.word) + 1, item.corners, item.where, drawn_on=image.size)
        for item in own
        if item.corners is not None and item.word not in without
    )
    class_ids = tuple(sorted({class_names.index(item.word) + 1 for item in own}))
    drawable = all(item.shape or item.wrong for item in own)
    mask = masks / f"{name}.png" if masks and drawable else None
    return RawSample(name, path, class_ids, mask, boxes=boxes)


def _with_masks(
    splits: Mapping[str, Sequence[RawSample]],
    images: Mapping[str, CocoImage],
    class_names: Sequence[str],
    problems: list[Problem],
    changed: int,
) -> dict[str, list[RawSample]]:
    """Draw the masks, as old as their source; samples without become problems.

    A run that goes on after a kill knows by their age that they are the same.
    """

    def draw(sample: RawSample) -> str:
        image = images[sample.name]
        if sample.mask is None:
            return ""
        try:
            write_label_png(sample.mask, drawn_objects(image.objects, image.size, class_names))
            os.utime(sample.mask, ns=(changed, changed))
        except ValueError as error:
            return str(error)
        return ""

    samples = [sample for found in splits.values() for sample in found]
    with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
        wrong = list(track(pool.map(draw, samples), "masks", len(samples)))
    problems += [Problem(item.name, text) for item, text in zip(samples, wrong) if text]
    bad = {item.name for item, text in zip(samples, wrong) if text}
    return {
        split: [sample for sample in found if sample.name not in bad]
        for split, found in splits.items()
    }
