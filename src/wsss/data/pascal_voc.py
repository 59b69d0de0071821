"""PASCAL VOC 2012: its folder layout and lists, with SBD's additional masks where present."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt

from wsss.artifacts import read_json
from wsss.checks import did_you_mean, full_key
from wsss.data._base import Problem, RawDataset, RawSample, source_folder
from wsss.data.splits import subset
from wsss.registry import DATASETS
from wsss.settings import ConfigError, Named

__all__ = ["VOC_CLASSES", "PascalVoc", "PascalVocSettings"]

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


class PascalVocSettings(Named):
    name: Literal["pascal_voc"] = "pascal_voc"
    root: str = "$VOC_ROOT"
    """The folder that holds VOCdevkit/VOC2012, or VOC2012 itself; $VARS are expanded."""
    train_list: str = "train_aug"
    """A list in ImageSets/Segmentation, without .txt."""
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

    Masks come from SegmentationClassAug where it has one, else from SegmentationClass.
    """

    def __init__(self, settings: PascalVocSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Read lists and tags; see `Dataset.collect`."""
        del scratch
        settings = self.settings
        root = source_folder(settings.root)
        voc = _voc_folder(root)
        labels = _read_labels(voc, root)
        lists = {"train": settings.train_list, "val": settings.val_list}
        if settings.selection_list is not None:
            lists["selection"] = settings.selection_list
        splits: dict[str, list[RawSample]] = {}
        problems: list[Problem] = []
        for split, list_name in lists.items():
            names = _read_list(voc / "ImageSets/Segmentation", list_name)
            splits[split] = []
            for name in names:
                found = self._sample(voc, name, labels)
                if isinstance(found, Problem):
                    problems.append(found)
                else:
                    splits[split].append(found)
        if settings.max_train is not None:
            splits["train"] = subset(splits["train"], settings.max_train, rng_seed)
        return RawDataset(VOC_CLASSES, splits, problems)

    def _sample(self, voc: Path, name: str, labels: dict[str, Any]) -> RawSample | Problem:
        image = voc / "JPEGImages" / f"{name}.jpg"
        if not image.is_file():
            return Problem(name, f"{image} does not exist")
        annotation = voc / "Annotations" / f"{name}.xml"
        if annotation.is_file():
            tags = _xml_tags(annotation, drop_difficult=self.settings.drop_difficult)
        elif name in labels:
            tags = _json_tags(labels[name])
        else:
            return Problem(name, f"no tags: neither {annotation} nor image_labels.json has them")
        if isinstance(tags, str):
            return Problem(name, tags)
        masks = (
            voc / folder / f"{name}.png" for folder in ("SegmentationClassAug", "SegmentationClass")
        )
        return RawSample(name, image, tags, next((path for path in masks if path.is_file()), None))


def _voc_folder(root: Path) -> Path:
    for folder in (root, root / "VOC2012", root / "VOCdevkit/VOC2012"):
        if (folder / "ImageSets/Segmentation").is_dir():
            return folder
    raise ConfigError(
        f"{root} holds no VOC2012: expected ImageSets/Segmentation in it, in VOC2012 or in "
        f"VOCdevkit/VOC2012; set {full_key('dataset.root')} to one of these three"
    )


def _read_list(folder: Path, list_name: str) -> list[str]:
    """Names from lines such as '2007_000032' or '/JPEGImages/2007_000032.jpg /….png'."""
    path = folder / f"{list_name}.txt"
    if not path.is_file():
        known = [item.stem for item in folder.glob("*.txt")]
        raise ConfigError(f"{path} does not exist; {did_you_mean(list_name, known)}")
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    names = [re.sub(r"\.(jpg|png)$", "", words[0].rpartition("/")[2]) for words in lines if words]
    twice = (
        sorted({name for name in names if names.count(name) > 1})
        if len(set(names)) < len(names)
        else []
    )
    if twice:
        raise ValueError(f"{path} lists '{twice[0]}' twice; remove one of the lines")
    return names


def _read_labels(voc: Path, root: Path) -> dict[str, Any]:
    for path in (voc / "image_labels.json", root / "image_labels.json"):
        if path.is_file():
            labels = read_json(path)
            if not isinstance(labels, dict):
                raise ValueError(f"{path} must map each image's name to a list of class ids")
            return labels
    return {}


def _xml_tags(path: Path, *, drop_difficult: bool) -> tuple[int, ...] | str:
    try:
        objects = ET.parse(path).getroot().findall("object")
    except ET.ParseError as error:
        return f"{path} is not valid XML: {error}"
    tags = set()
    for found in objects:
        name = (found.findtext("name") or "").strip()
        if name not in VOC_CLASSES:
            return f"{path} names the class '{name}'; {did_you_mean(name, VOC_CLASSES)}"
        if not (drop_difficult and (found.findtext("difficult") or "").strip() == "1"):
            tags.add(VOC_CLASSES.index(name) + 1)
    return tuple(sorted(tags))


def _json_tags(ids: Any) -> tuple[int, ...] | str:
    known = range(1, len(VOC_CLASSES) + 1)
    if not isinstance(ids, list) or any(
        type(class_id) is not int or class_id not in known for class_id in ids
    ):
        return f"image_labels.json gives {ids}, but tags are class ids in 1..{len(VOC_CLASSES)}"
    return tuple(sorted(set(ids)))
