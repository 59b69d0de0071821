"""PASCAL VOC 2012: its folder layout and lists, with SBD's additional masks where present."""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from wsss.checks import did_you_mean, full_key
from wsss.data._base import Problem, RawBox, RawDataset, RawSample, source_folder
from wsss.data._mask_pairs import missing_masks, pair_masks
from wsss.data._matching import Names
from wsss.data._tables import read_text
from wsss.data._tag_files import read_json_text
from wsss.data._voc_xml import XmlObject, read_voc_xml, with_origin
from wsss.data.listing import list_images, missing_folder, similar_folder, some
from wsss.data.splits import subset
from wsss.registry import DATASETS
from wsss.settings import ConfigError, Named

__all__ = ["VOC_CLASSES", "PascalVoc", "PascalVocSettings"]

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

_MASKS = ("SegmentationClassAug", "SegmentationClass")


class PascalVocSettings(Named):
    name: Literal["pascal_voc"] = "pascal_voc"
    root: str = "$VOC_ROOT"
    """The folder that holds VOCdevkit/VOC2012, or VOC2012 itself; $VARS are expanded."""
    classes: tuple[str, ...] = Field(default=VOC_CLASSES, min_length=1)
    """The names in the order of their ids, for a set of one's own in this layout; the 20 classes
    of PASCAL VOC unless given."""
    train_list: str = "train_aug"
    """A list in ImageSets/Segmentation or ImageSets/Main, without .txt."""
    val_list: str = "val"
    selection_list: str | None = None
    """A list for choosing thresholds; none holds some of train out."""
    drop_difficult: bool = False
    """Whether objects that the XML annotations mark as difficult give no tag."""
    max_train: PositiveInt | None = None
    """Only so many training images, chosen by rng_seed; none takes all."""


@DATASETS.register(PascalVocSettings)
class PascalVoc:
    """Tags come from Annotations/<name>.xml, or, where that is missing, from
    image_labels.json ({name: [class ids]}) beside or above ImageSets; never from masks.

    Masks come from SegmentationClassAug where it has one, else from SegmentationClass, and boxes
    from the XMLs.
    """

    def __init__(self, settings: PascalVocSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Read lists and tags; see `Dataset.collect`."""
        del scratch
        settings = self.settings
        root = source_folder(settings.root)
        voc = _voc_folder(root)
        key = full_key("dataset.root")
        listing = list_images(voc / "JPEGImages", key)
        masks, warnings = _masks(Names(listing.files, voc / "JPEGImages"), voc, key)
        labels = _read_labels(voc, root)
        if not labels and not (voc / "Annotations").is_dir():
            raise missing_folder(voc / "Annotations", f"{key}, without image_labels.json")
        lists = {"train": settings.train_list, "val": settings.val_list}
        if settings.selection_list is not None:
            lists["selection"] = settings.selection_list
        splits: dict[str, list[RawSample]] = {}
        problems: list[Problem] = []
        named: dict[str, list[Path]] = {}
        objects: dict[str, list[XmlObject]] = {}
        for split, list_name in lists.items():
            splits[split] = []
            for name in _read_list(voc / "ImageSets", list_name, listing.files):
                tags = self._tags(voc, name, labels, named, objects)
                if name not in listing.files:
                    path = voc / "JPEGImages" / f"{name}.jpg"
                    problems.append(Problem(name, f"{path} does not exist"))
                elif isinstance(tags, str):
                    problems.append(Problem(name, tags))
                else:
                    splits[split].append(
                        RawSample(name, listing.files[name], tags, masks.get(name))
                    )
        if not named.keys() <= set(settings.classes):
            raise ConfigError(_unknown(named, settings.classes))
        boxes = _boxes(objects, settings.classes)
        splits = {
            split: [_with_boxes(sample, boxes.get(sample.name, ())) for sample in samples]
            for split, samples in splits.items()
        }
        warnings += missing_masks(splits, *(voc / folder for folder in _MASKS))
        if settings.max_train is not None:
            splits["train"] = subset(splits["train"], settings.max_train, rng_seed)
        offers = frozenset({"boxes"} if boxes else ())
        said = [*listing.warnings, *warnings]
        return RawDataset(settings.classes, splits, problems, said, offers=offers)

    def _tags(
        self,
        voc: Path,
        name: str,
        labels: dict[str, Any],
        named: dict[str, list[Path]],
        objects: dict[str, list[XmlObject]],
    ) -> tuple[int, ...] | str:
        """An image's class ids, or why it has none.

        XMLs are added to `named` by what they name, and their objects to `objects`.
        """
        classes = self.settings.classes
        path = voc / "Annotations" / f"{name}.xml"
        if path.is_file():
            try:
                found = read_voc_xml(path)
            except ValueError as error:
                return str(error)
            objects[name] = found
            dropped = self.settings.drop_difficult
            names = {item.name for item in found if not (dropped and item.is_difficult)}
            for item in names:
                named.setdefault(item, []).append(path)
            return tuple(sorted(classes.index(item) + 1 for item in names & set(classes)))
        if name in labels:
            return _json_tags(labels[name], classes)
        return f"no tags: neither {path} nor image_labels.json has them"


def _voc_folder(root: Path) -> Path:
    """The folder with ImageSets: the root, or the only VOC2012 or VOC<year> in it."""
    within = sorted((*root.glob("VOC2*"), *root.glob("VOCdevkit/VOC2*")))
    preferred = [root, root / "VOC2012", root / "VOCdevkit/VOC2012"]
    found = [folder for folder in preferred if (folder / "ImageSets").is_dir()][:1] or [
        folder for folder in within if (folder / "ImageSets").is_dir()
    ]
    if len(found) == 1:
        return found[0]
    key = full_key("dataset.root")
    if found:
        raise ConfigError(f"{root} holds {some([x.name for x in found])}; set {key} to one of them")
    if (root / "JPEGImages").is_dir():
        raise ConfigError(
            f"{root} has JPEGImages, but no lists of images: write their names, one a line, into "
            "ImageSets/Segmentation/train_aug.txt and val.txt there"
        )
    raise ConfigError(
        f"{root} holds no VOC2012: expected ImageSets/Segmentation in it, in VOC2012 or in "
        f"VOCdevkit/VOC2012; set {key} to one of these three"
    )


def _read_list(sets: Path, list_name: str, images: Collection[str]) -> list[str]:
    """Names from lines such as '2007_000032', '2007_000032 -1', as lists of single classes have,
    or '/JPEGImages/2007_000032.jpg /….png'.
    """
    folders = [sets / "Segmentation", sets / "Main"]
    path = next((x for folder in folders if (x := folder / f"{list_name}.txt").is_file()), None)
    if path is None:
        known = [item.stem for folder in folders for item in folder.glob("*.txt")]
        raise ConfigError(
            f"{folders[0] / list_name}.txt does not exist, nor does it in Main; "
            f"{did_you_mean(list_name, known[:20])}"
        )
    names = []
    for line in filter(None, map(str.strip, read_text(path).splitlines())):
        first = re.sub(r"\s+(-?\d+|/?\S+\.png)$", "", line) if line not in images else line
        name = first.replace("\\", "/").rpartition("JPEGImages/")[2]
        if name not in images:
            name = re.sub(r"\.\w{3,4}$", "", name)
        names.append(name if name in images else name.rpartition("/")[2])
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path} lists '{min(twice)}' twice; remove one of the lines")
    return names


def _masks(names: Names, voc: Path, key: str) -> tuple[dict[str, Path], list[str]]:
    """The mask of each image, and what a person must know of them."""
    masks: dict[str, Path] = {}
    warnings: list[str] = []
    folders = [voc / folder for folder in _MASKS]
    similar = similar_folder(folders[1])
    if not any(map(Path.is_dir, folders)) and similar and "Object" not in similar.name:
        raise missing_folder(folders[1], key)
    for folder in filter(Path.is_dir, folders):
        found, said = pair_masks(names, folder, key)
        masks = found | masks
        warnings += said
    return masks, warnings


def _read_labels(voc: Path, root: Path) -> dict[str, Any]:
    for path in (voc / "image_labels.json", root / "image_labels.json"):
        if path.is_file():
            labels = read_json_text(path)
            if not isinstance(labels, dict):
                raise ValueError(f"{path} must map each image's name to a list of class ids")
            return labels
    return {}


def _with_boxes(sample: RawSample, boxes: Sequence[RawBox]) -> RawSample:
    """An image with the boxes of its tags: others are of objects that were dropped."""
    return replace(sample, boxes=tuple(box for box in boxes if box.class_id in sample.class_ids))


def _boxes(
    objects: Mapping[str, Sequence[XmlObject]], classes: Sequence[str]
) -> dict[str, tuple[RawBox, ...]]:
    """By image the boxes of the classes whose objects all have one, difficult ones too."""
    listed = [(name, item) for name, found in objects.items() for item in found]
    lacking = {(name, item.name) for name, item in listed if item.corners is None}
    boxes: dict[str, list[RawBox]] = {}
    for (name, _), item in zip(listed, with_origin(item for _, item in listed), strict=True):
        if item.corners and (name, item.name) not in lacking and item.name in classes:
            class_id = classes.index(item.name) + 1
            box = RawBox(class_id, item.corners, item.where, drawn_on=item.drawn_on)
            boxes.setdefault(name, []).append(box)
    return {name: tuple(own) for name, own in boxes.items()}


def _unknown(named: dict[str, list[Path]], classes: Sequence[str]) -> str:
    """What XMLs name beside the classes, all at once."""
    counts = sorted(named.items(), key=lambda item: (-len(item[1]), item[0]))
    unknown = {name: paths for name, paths in counts if name not in classes}
    xmls = {path for paths in unknown.values() for path in paths}
    said = some([f"'{name}' ({len(paths)})" for name, paths in unknown.items()], 12)
    close = {name: difflib.get_close_matches(name, classes, n=1) for name in unknown}
    hints = [f"'{name}' may be '{found[0]}'" for name, found in close.items() if found]
    return (
        f"{len(xmls)} XMLs name {said}, not among the {len(classes)} classes "
        f"({some(classes, 4)}), such as {min(xmls)}; "
        + (f"{some(hints)}: mend them, or " if hints else "")
        + f"list all classes in {full_key('dataset.classes')}, in the order of their ids in masks, "
        f"such as [{', '.join(name for name, _ in counts[:12])}]"
    )


def _json_tags(ids: Any, classes: Sequence[str]) -> tuple[int, ...] | str:
    known = range(1, len(classes) + 1)
    if not isinstance(ids, list) or any(
        type(class_id) is not int or class_id not in known for class_id in ids
    ):
        return f"image_labels.json gives {ids}, but tags are class ids in 1..{len(classes)}"
    return tuple(sorted(set(ids)))
