"""Your own images: tags from sub-folders or from a CSV or JSON file, masks if there are any."""

import unicodedata
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from wsss.checks import did_you_mean, full_key
from wsss.data._base import Problem, RawDataset, RawSample, source_folder
from wsss.data._tag_files import read_tags
from wsss.data.images import list_images
from wsss.data.splits import hold_out, subset
from wsss.registry import DATASETS
from wsss.settings import ConfigError, Named

__all__ = ["Folder", "FolderSettings"]


class FolderSettings(Named):
    name: Literal["folder"] = "folder"
    root: str
    """The folder that everything lies in; $VARS are expanded."""
    images: str = "."
    """The images' folder within root. Sub-folders train, val and perhaps selection are
    taken as the splits; sub-folders within give tags unless `tags` names a file."""
    tags: str | None = None
    """A .csv or .json file within root; none takes an image's sub-folder as its tag.
    CSV: columns image and tags (separated by ';'), or image and a 0/1 column per class.
    JSON: {image: [tags]}."""
    masks: str | None = None
    """A folder within root, laid out as the images, with PNGs of class ids (255: ignored)."""
    mask_values: dict[int, int] = Field(default_factory=dict)
    """What other values in the masks mean, such as {255: 1} for masks of black and white."""
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The classes in the order of their ids; none takes all tags that occur, sorted."""
    empty_tag: str = "none"
    """A tag or sub-folder that says: none of the classes is there."""
    val: str | None = None
    """A text file within root with the validation images, one a line; none takes the
    sub-folder val or else holds out `val_share`."""
    selection: str | None = None
    """The same for choosing thresholds; none takes the sub-folder selection, if any."""
    val_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the images held out for validation where nothing else says so."""
    max_train: PositiveInt | None = None
    """Only so many training images, chosen by rng_seed; none takes all."""

    @model_validator(mode="after")
    def _usable_values(self) -> Self:
        names = self.classes or ()
        if (
            len(set(names)) < len(names)
            or self.empty_tag in names
            or not all(map(str.strip, names))
        ):
            raise ValueError(
                f"classes must be different names, none of them blank or '{self.empty_tag}'"
            )
        if any(not 0 <= item <= 255 for pair in self.mask_values.items() for item in pair):
            raise ValueError("mask_values maps values in 0..255 to class ids, 0 or 255")
        return self


@DATASETS.register(FolderSettings)
class Folder:
    """An image's name is its path within the images' folder, without the suffix."""

    def __init__(self, settings: FolderSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """List images and read tags; see `Dataset.collect`."""
        del scratch
        settings = self.settings
        root = source_folder(settings.root)
        folder = root / settings.images
        files = list_images(
            folder,
            full_key("dataset.images"),
            without=root / settings.masks if settings.masks else None,
        )
        in_sub_folders = _has_split_folders(files)
        split_of = self._splits(root, files, in_sub_folders=in_sub_folders)
        problems: list[Problem] = []
        if settings.tags is None:
            tags = _tags_from_folders(files, problems, depth=int(in_sub_folders))
        else:
            tags = self._tags_from_file(root / settings.tags, files, problems)
        class_names = self._class_names(tags)
        ids = {name: number for number, name in enumerate(class_names, 1)}
        mask_values = settings.mask_values and {
            value: settings.mask_values.get(value, value) for value in range(256)
        }
        splits: dict[str, list[RawSample]] = {"train": [], "val": []}
        for name, found in sorted(tags.items()):
            class_ids = tuple(sorted({ids[tag] for tag in found if tag != settings.empty_tag}))
            mask = root / settings.masks / f"{name}.png" if settings.masks else None
            mask = mask if mask and mask.is_file() else None
            sample = RawSample(name, files[name], class_ids, mask, mask_values)
            splits.setdefault(split_of.get(name, "train"), []).append(sample)
        if not splits["val"] and "val" not in split_of.values() and splits["train"]:
            splits["train"], splits["val"] = hold_out(
                splits["train"], settings.val_share, len(files), rng_seed, "val"
            )
        if settings.max_train is not None:
            splits["train"] = subset(splits["train"], settings.max_train, rng_seed)
        return RawDataset(class_names, splits, problems)

    def _splits(
        self, root: Path, files: dict[str, Path], *, in_sub_folders: bool
    ) -> dict[str, str]:
        """The split of every name that a list or a sub-folder puts into one."""
        split_of: dict[str, str] = {}
        if in_sub_folders:
            split_of = {name: name.partition("/")[0] for name in files}
        find = _lookup(files)
        listed: dict[str, str] = {}
        for split, file in (("val", self.settings.val), ("selection", self.settings.selection)):
            if file is None:
                continue
            path = root / file
            if not path.is_file():
                raise ConfigError(f"{full_key(f'dataset.{split}')}: {path} is not a file")
            for line in map(str.strip, path.read_text(encoding="utf-8-sig").split("\n")):
                name = find.get(_key(line))
                if line and name is None:
                    raise ValueError(f"{path} lists '{line}', but there is no such image")
                if name and listed.setdefault(name, split) != split:
                    raise ValueError(f"'{name}' is in the val and in the selection list; keep one")
        return split_of | listed

    def _tags_from_file(
        self, path: Path, files: dict[str, Path], problems: list[Problem]
    ) -> dict[str, list[str]]:
        if not path.is_file():
            raise ConfigError(
                f"{full_key('dataset.tags')} is '{self.settings.tags}', but {path} is not a file"
            )
        find = _lookup(files)
        tags: dict[str, list[str]] = {}
        for entry, found in read_tags(path).items():
            name = find.get(_key(entry))
            if name is None:
                problems.append(Problem(entry, f"{path.name} tags it, but there is no such image"))
            elif name in tags:
                raise ValueError(f"{path} has two entries for the image '{name}'; keep one")
            else:
                tags[name] = found or []
                if found is None:
                    reason = (
                        f"no tags in {path.name}; write '{self.settings.empty_tag}' for no class"
                    )
                    problems.append(Problem(name, reason))
        problems += [
            Problem(name, f"no tags: {path.name} does not have it")
            for name in files
            if name not in tags
        ]
        untagged = {problem.name for problem in problems}
        return {name: found for name, found in tags.items() if name not in untagged}

    def _class_names(self, tags: dict[str, list[str]]) -> tuple[str, ...]:
        settings = self.settings
        used = {tag for found in tags.values() for tag in found} - {settings.empty_tag}
        if settings.classes is None:
            if not used:
                raise ValueError(
                    f"no image of {settings.root} has a tag; put images into one sub-folder per "
                    f"class, or name a CSV or JSON file in {full_key('dataset.tags')}"
                )
            return tuple(sorted(used))
        lines = []
        for tag in sorted(used - set(settings.classes)):
            where = [name for name, found in tags.items() if tag in found]
            hint = did_you_mean(tag, [*settings.classes, settings.empty_tag])
            lines.append(f"'{tag}' ({len(where)} images, such as '{where[0]}'): {hint}")
        if lines:
            raise ValueError(
                f"tags that {full_key('dataset.classes')} does not have:\n  "
                + "\n  ".join(lines)
                + f"\nmend them, add them to classes, or use '{settings.empty_tag}' for no class"
            )
        return settings.classes


def _key(entry: str) -> str:
    """Entries compare in Unicode's composed form: archives from macOS decompose letters."""
    return unicodedata.normalize("NFC", entry.replace("\\", "/").removeprefix("./"))


def _lookup(files: dict[str, Path]) -> dict[str, str]:
    """Names by what a file may call them: path or unique file name, with or without suffix."""
    short: dict[str, set[str]] = {}
    for name, path in files.items():
        for key in (path.stem, path.name):
            short.setdefault(_key(key), set()).add(name)
    found = {key: min(names) for key, names in short.items() if len(names) == 1}
    for name, path in files.items():
        found[_key(name)] = found[_key(name + path.suffix)] = name
    return found


def _has_split_folders(files: dict[str, Path]) -> bool:
    tops = {name.partition("/")[0] for name in files}
    return {"train", "val"} <= tops <= {"train", "val", "selection"}


def _tags_from_folders(
    files: dict[str, Path], problems: list[Problem], depth: int
) -> dict[str, list[str]]:
    """Each image's sub-folder, `depth` folders down, as its one tag."""
    tags = {}
    for name in files:
        folders = name.split("/")[depth:-1]
        if folders:
            tags[name] = [folders[0]]
        else:
            problems.append(Problem(name, "no tag: it lies in no sub-folder named after a class"))
    return tags
