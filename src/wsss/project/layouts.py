"""What a folder of images means: which data set reads it, with which settings."""

import json
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from wsss.checks import naming
from wsss.data import RawDataset
from wsss.data.listing import image_suffixes, some
from wsss.data.pascal_voc import VOC_CLASSES
from wsss.registry import DATASETS
from wsss.settings import ConfigError

__all__ = ["KNOWN", "Understood", "has_masks", "read_folder"]

KNOWN = {
    "a sub-folder per class": "cat/001.jpg, dog/002.jpg; train/cat/001.jpg; none/003.jpg, or "
    "good, ok, normal, has none",
    "a table of tags": "images/001.jpg and tags.csv with the lines `image,tags` and "
    "`001.jpg,cat;dog` (also .tsv, .json, .jsonl, an export of Label Studio or CVAT)",
    "COCO": "train/_annotations.coco.json beside its images, or annotations/instances_train.json "
    "and train/001.jpg",
    "good and defective parts": "train/good/000.png, test/scratch/000.png and "
    "ground_truth/scratch/000_mask.png; without the last, train has good images alone",
    "PASCAL VOC": "JPEGImages/001.jpg, Annotations/001.xml and ImageSets/Main/train.txt, val.txt",
    "tags in file names": "patch-12[1 0 0 1].png, a 0 or 1 per class",
}
"""The layouts that are understood, with an example of each."""

_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".xml")
_IMAGES = ("images", "imgs", "img", "JPEGImages", "photos", ".")
_MASKS = ("masks", "mask", "annotations", "SegmentationClass", "gt", "labels", "ground_truth")
_MOST_TABLES = 5  # that are tried: of many, each tells of one image
_GOOD = ("good", "ok", "normal")


@dataclass(frozen=True)
class Understood:
    """A folder that can be read.

    Attributes:
        layout: a name of `KNOWN`.
        dataset: the settings of prepare_data.dataset.
        raw: what that data set finds.
    """

    layout: str
    dataset: dict[str, Any]
    raw: RawDataset


def read_folder(folder: Path, tags: Path | None = None, rng_seed: int = 2024) -> Understood:
    """Find the data set that reads a folder as it lies.

    Args:
        folder: of images, with what tells their tags.
        tags: a file of tags, in the folder or elsewhere; None looks for what there is.
        rng_seed: draws splits, where the folder has none.

    Raises:
        ConfigError: there is no such folder or file, or several files may be the one that tells.
        ValueError: it is not understood; the text says what was seen, what was tried, and which
            layouts are known.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; name the one that the images lie in")
    if tags is not None and not tags.is_file():
        raise ConfigError(f"{tags} is not a file; name the table with the tags of the images")
    tried: list[str] = []
    for layout, dataset in _candidates(folder.resolve(), tags):
        try:
            raw = _tagged(dataset, rng_seed)
        except (ValueError, OSError) as error:
            tried.append(f"  as {layout}: {error}")
            continue
        if dataset["name"] == "folder" and "masks" in dataset and not has_masks(raw):
            continue  # it is a class that is called so
        if layout == "a table of tags" and tags is None:
            _refuse_rivals(folder.resolve(), dataset["tags"], rng_seed)
        return Understood(layout, _with_masks(dataset, raw, rng_seed), raw)
    known = [f"  {layout}: {example}" for layout, example in KNOWN.items()]
    raise ValueError(
        "\n".join(
            [
                f"{folder} is not understood: {_seen(folder)}",
                *(["tried"] if tried else []),
                *dict.fromkeys(tried),
                "known are",
                *known,
                "What lies otherwise can be named by hand: `wsss init` without --from, then the "
                "settings of prepare_data.dataset",
            ]
        )
    )


def has_masks(raw: RawDataset) -> bool:
    """Whether any image that is not an empty one has a mask to score with."""
    samples = (sample for items in raw.splits.values() for sample in items)
    return any(sample.mask is not None and sample.class_ids for sample in samples)


def _collected(dataset: dict[str, Any], rng_seed: int) -> RawDataset:
    with naming("prepare_data"), TemporaryDirectory(prefix="wsss-") as scratch:
        built = DATASETS.build(DATASETS.settings(dataset["name"]).model_validate(dataset))
        found: RawDataset = built.collect(Path(scratch), rng_seed)
        return found


def _tagged(dataset: dict[str, Any], rng_seed: int) -> RawDataset:
    raw = _collected(dataset, rng_seed)
    if not any(sample.class_ids for sample in raw.splits.get("train", ())):
        raise ValueError("no image to learn from has a tag")
    return raw


Candidate = tuple[str, dict[str, Any]]


def _candidates(folder: Path, tags: Path | None) -> Iterator[Candidate]:
    """Layout and settings, the surest first."""
    if tags is not None:
        yield from _of_table(folder, tags.resolve())
        return
    finders: Sequence[Callable[[Path], Iterator[Candidate]]] = (
        _coco,
        _voc,
        _parts,
        _tables,
        _file_names,
        _sub_folders,
    )
    for find in finders:
        yield from find(folder)


def _coco(folder: Path) -> Iterator[Candidate]:
    by_split = defaultdict[str, list[Path]](list)
    files = [path for path in _files(folder, 2) if path.suffix == ".json" and _is_coco(path)]
    for path in files:
        by_split[_split(path.relative_to(folder).as_posix())].append(path)
    train = by_split["train"] or (files if len(files) == 1 else [])
    if not train:
        return
    settings: dict[str, Any] = {
        "name": "coco",
        "root": str(folder),
        "val": None,
        "val_images": None,
    }
    for split, found in (("train", train), ("val", by_split["val"] or by_split["test"])):
        file = _instances(folder, found)
        if file is not None and (images := _images_of(folder, file)) is not None:
            settings |= {split: file.relative_to(folder).as_posix(), f"{split}_images": images}
    yield "COCO", settings


def _instances(folder: Path, files: list[Path]) -> Path | None:
    """The file of objects among those of a split, beside which COCO has key points and captions."""
    if len(files) > 1:
        files = [path for path in files if "instances" in path.stem] or files
    if len(files) > 1:
        names = [path.relative_to(folder).as_posix() for path in files]
        raise ConfigError(
            f"{folder} has several files of COCO for one split, {some(names)}, and one is read; "
            "move the others elsewhere, or name it by hand: `wsss init` without --from, then the "
            "settings of prepare_data.dataset, whose name is coco"
        )
    return files[0] if files else None


def _is_coco(path: Path) -> bool:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return isinstance(found, dict) and {"images", "annotations", "categories"} <= found.keys()
    return False


def _images_of(folder: Path, path: Path) -> str | None:
    """The folder that the images of a COCO file lie in, below the whole."""
    images = json.loads(path.read_text(encoding="utf-8"))["images"]
    name = str(images[0].get("file_name", "")) if images else ""
    split = _split(path.relative_to(folder).as_posix())
    below = [item for item in sorted(folder.rglob("*")) if item.is_dir()]
    named = [item for item in below if split and _split(item.name) == split]
    for place in (path.parent, *named, folder, *below):
        if name and (place / name).is_file():
            return place.relative_to(folder).as_posix()
    return None


def _voc(folder: Path) -> Iterator[Candidate]:
    for place in (folder, *sorted(folder.glob("VOCdevkit/*"))):
        lists = place / "ImageSets"
        if not (place / "JPEGImages").is_dir() or not lists.is_dir():
            continue
        names = {path.stem for path in (*lists.glob("Segmentation/*"), *lists.glob("Main/*"))}
        train = next((name for name in ("train_aug", "train", "trainval") if name in names), None)
        val = next((name for name in ("val", "test") if name in names), None)
        if train is None or val is None:
            continue
        objects = Counter[str]()
        for path in sorted((place / "Annotations").glob("*.xml")):
            text = path.read_text(encoding="utf-8", errors="replace")
            objects.update(re.findall(r"<object>.*?<name>([^<]+)</name>", text, re.DOTALL))
        found = {name.strip() for name in objects}
        classes = VOC_CLASSES if found <= set(VOC_CLASSES) else tuple(sorted(found))
        settings = {"root": str(place), "train_list": train, "val_list": val}
        yield "PASCAL VOC", {"name": "pascal_voc", **settings, "classes": list(classes)}


def _parts(folder: Path) -> Iterator[Candidate]:
    """Where nothing but a name says that they are parts, folders are classes and splits."""
    train, test = folder / "train", folder / "test"
    masks = next((name for name in ("ground_truth", *_MASKS) if (folder / name).is_dir()), "")
    places = [part for part in (train, test) if part.is_dir()] or [folder]
    kinds = {place: {item.name for item in place.iterdir() if item.is_dir()} for place in places}
    for good in _GOOD:
        others = set().union(*kinds.values()) - {good, *_MASKS}
        published = masks == "ground_truth" or (kinds.get(train) == {good} and test in kinds)
        if published and others and any(good in names for names in kinds.values()):
            settings = {"name": "anomalib", "root": str(folder), "good": good}
            yield "good and defective parts", settings | ({"masks": masks} if masks else {})


def _tables(folder: Path) -> Iterator[Candidate]:
    found = [path for path in _files(folder, 1) if path.suffix.lower() in _TABLES]
    found.sort(key=lambda path: (*_unlikely(folder, path), path.name))
    for path in found[:_MOST_TABLES]:
        yield from _of_table(folder, path)


def _unlikely(folder: Path, path: Path) -> tuple[bool, bool]:
    """How little a file's place and name say that it is the table of tags."""
    return path.parent != folder, not re.search("tag|label", path.stem.lower())


def _refuse_rivals(folder: Path, tags: str, rng_seed: int) -> None:
    """Raise ConfigError if another table is as likely the one that tells the tags."""
    found = {tags}
    for _, dataset in _tables(folder):
        other = dataset["tags"]
        if _unlikely(folder, folder / other) == _unlikely(folder, folder / tags):
            with suppress(ValueError, OSError):
                _tagged(dataset, rng_seed)
                found.add(other)
    if len(found) > 1:
        raise ConfigError(
            f"{folder} has several tables of tags, {some(sorted(found))}, and one is read; name it "
            f"with --tags, such as --tags {shlex.quote(str(folder / tags))}"
        )


def _of_table(folder: Path, path: Path) -> Iterator[Candidate]:
    tags = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
    for images in _IMAGES:
        if (folder / images).is_dir():
            place = {"root": str(folder), "images": images, "tags": tags}
            yield "a table of tags", {"name": "folder", **place}


def _file_names(folder: Path) -> Iterator[Candidate]:
    parts = [item.name for item in sorted(folder.iterdir()) if item.is_dir()]
    train = next((name for name in parts if _split(name) == "train"), None)
    val = next((name for name in parts if _split(name) in ("val", "test")), None)
    if train is None or val is None:
        return
    files = [path for path in _files(folder / train, 1) if path.suffix.lower() in image_suffixes()]
    values = [re.search(r"\[([01][01, ]*)\]$", path.stem) for path in files]
    if files and all(values):
        count = len(re.findall("[01]", str(values[0] and values[0][1])))
        images = f"{val}/img" if (folder / val / "img").is_dir() else val
        masks = f"{val}/mask" if (folder / val / "mask").is_dir() else None
        classes = [f"class_{at}" for at in range(1, count + 1)]
        settings = {"root": str(folder), "train": train, "val": images, "val_masks": masks}
        yield "tags in file names", {"name": "name_tags", **settings, "classes": classes}


def _sub_folders(folder: Path) -> Iterator[Candidate]:
    for images in _IMAGES:
        place = folder / images
        if place.is_dir() and any(item.is_dir() for item in place.iterdir()):
            settings = {"name": "folder", "root": str(folder), "images": images, **_empty(place)}
            masks = [name for name in _MASKS if (folder / name).is_dir() and name != images]
            # as masks among the images are refused
            yield from (("a sub-folder per class", settings | {"masks": name}) for name in masks)
            yield "a sub-folder per class", settings


def _empty(images: Path) -> dict[str, str]:
    """The setting of the sub-folder that shows no class, where it is not called none."""
    parts = {item.name for way in ("*", "*/*") for item in images.glob(way) if item.is_dir()}
    found = (name for good in _GOOD for name in sorted(parts) if name.casefold() == good)
    name = next(found, None)
    return {} if name is None or "none" in parts else {"empty_tag": name}


def _with_masks(dataset: dict[str, Any], raw: RawDataset, rng_seed: int) -> dict[str, Any]:
    """The settings with the folder of masks that lies beside the images, if it fits these."""
    root = Path(dataset["root"])
    if dataset["name"] != "folder" or "masks" in dataset:
        return dataset
    for name in _MASKS:
        if (root / name).is_dir() and name != dataset["images"]:
            with suppress(ValueError, OSError):
                found = _collected(dataset | {"masks": name}, rng_seed)
                if has_masks(found):
                    raw.splits.update(found.splits)
                    return dataset | {"masks": name}
    return dataset


def _split(text: str) -> str:
    """The split that a path is named after: "train", "val", "test" or "" of none."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    if words & {"train", "training"}:
        return "train"
    if words & {"val", "valid", "validation", "dev"}:
        return "val"
    return "test" if words & {"test", "testing"} else ""


def _files(folder: Path, depth: int) -> list[Path]:
    """The files of a folder and of so many levels below it."""
    found = []
    for level in range(depth + 1):
        pattern = "/".join(["*"] * (level + 1))
        found += [path for path in folder.glob(pattern) if path.is_file()]
    return sorted(path for path in found if not path.name.startswith("."))


def _seen(folder: Path) -> str:
    """What lies in a folder, for a person."""
    files = Counter(
        path.suffix.lower() or "without suffix" for path in folder.rglob("*") if path.is_file()
    )
    parts = sorted(item.name for item in folder.iterdir() if item.is_dir())
    counts = [f"{number} {suffix}" for suffix, number in files.most_common()]
    what = f"it holds {some(counts)}" if files else "it holds no file"
    return what + (f", in the folders {some(parts)}" if parts else ", in no folder")
