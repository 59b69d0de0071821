"""What a stage knows of the data: the classes, and per split the images with their tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol, Self

import numpy as np

from wsss.artifacts.files import (
    read_json,
    read_json_lines,
    settled,
    write_json,
    write_json_lines,
)

__all__ = [
    "RESERVED",
    "SPLITS",
    "Manifest",
    "Sample",
    "Tagged",
    "is_packed",
    "mark_packed",
    "read_classes",
    "report_splits",
    "single_label_fault",
]

SPLITS = ("train", "selection", "val")

RESERVED = frozenset(
    {"background", "chains", "classes", "oracle", "protocol", "threshold", "warnings"}
)
"""What no scored set may be called: files beside the splits', and keys of reports."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One prepared image.

    Attributes:
        name: unique over all splits; may hold '/', and names the files made from the image.
        image: file name within data/images: 8-bit RGB, upright.
        size: (height, width) in pixels.
        class_ids: the tags, ascending, values in 1..K: the classes that are more likely there than
            not. Empty when nothing is.
        mask: file name within data/masks, or None.
        uncertain: the classes that nobody is certain of, ascending, each with the probability in
            (0, 1) that it is there, or None where nobody knows. A class is in `class_ids` from 0.5
            on; one that nobody knows of is not.
    """

    name: str
    image: str
    size: tuple[int, int]
    class_ids: tuple[int, ...]
    mask: str | None = None
    uncertain: tuple[tuple[int, float | None], ...] = ()

    @property
    def unknown_ids(self) -> tuple[int, ...]:
        """The classes of which nobody knows whether they are there, ascending."""
        return tuple(class_id for class_id, prob in self.uncertain if prob is None)

    def targets(self, num_classes: int) -> np.ndarray:
        """(num_classes,) float32: the probability that a class is there; NaN where nobody knows.

        It is 0 or 1 but for `uncertain`.
        """
        targets = np.zeros(num_classes, np.float32)
        targets[np.asarray(self.class_ids, int) - 1] = 1
        for class_id, prob in self.uncertain:
            targets[class_id - 1] = np.nan if prob is None else prob
        return targets


@dataclass(frozen=True)
class Manifest:
    """The classes and splits in data/splits.

    Attributes:
        class_names: K names; class id c has name class_names[c - 1].
        splits: the samples of train, selection and val, sorted by name; and, under their names,
            those of sets that are scored beside val and never learned from.
        background: images of anything but the classes, without tags and masks: one more class
            for the classifier to tell apart while it is trained, in no split and never scored.
        has_background: whether a pixel may show none of the classes.
        packed: whether stages pack the files that they make of images; see `Filling`.
    """

    class_names: tuple[str, ...]
    splits: dict[str, tuple[Sample, ...]]
    background: tuple[Sample, ...] = ()
    has_background: bool = True
    packed: bool = False

    @property
    def num_fg_classes(self) -> int:
        """K, without the background."""
        return len(self.class_names)

    @property
    def scored_sets(self) -> tuple[str, ...]:
        """The names of the splits besides train, selection and val, sorted."""
        return tuple(sorted(self.splits.keys() - set(SPLITS)))

    @property
    def median_side(self) -> int:
        """The median longer side of the training images, in pixels."""
        return round(median(max(sample.size) for sample in self.splits["train"]))

    def labels(self, samples: Sequence[Sample]) -> np.ndarray:
        """(N, K) float32 multi-hot tags: 1 of `Sample.class_ids`, 0 of all others."""
        labels = np.zeros((len(samples), self.num_fg_classes), np.float32)
        for row, sample in enumerate(samples):
            labels[row, np.asarray(sample.class_ids, int) - 1] = 1
        return labels

    def targets(self, samples: Sequence[Sample]) -> np.ndarray:
        """(N, K) float32: `Sample.targets` of each, with NaN where nobody knows."""
        rows = [sample.targets(self.num_fg_classes) for sample in samples]
        return np.stack(rows) if rows else np.zeros((0, self.num_fg_classes), np.float32)

    def check_classes(self, class_names: Sequence[str], what: str) -> None:
        """Raise ValueError unless a network, `what`, was trained on these classes."""
        if tuple(class_names) != self.class_names:
            raise ValueError(
                f"{what} was trained on the classes {', '.join(class_names)}, but the data has "
                f"{', '.join(self.class_names)}; train it again on this data"
            )

    def all_samples(self) -> list[Sample]:
        """Every sample of every split, which `background` is not."""
        return [sample for split in (*SPLITS, *self.scored_sets) for sample in self.splits[split]]

    def write(self, folder: Path) -> None:
        """Write classes.json, one <split>.jsonl per split, and background.jsonl if there is any."""
        _write_classes(
            folder, self.class_names, has_background=self.has_background, packed=self.packed
        )
        lists = self.splits | ({"background": self.background} if self.background else {})
        for path in folder.glob("*.jsonl"):
            if path.stem not in lists:
                path.unlink()
        for name, samples in lists.items():
            write_json_lines(folder / f"{name}.jsonl", map(_row, samples))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote. Raises ValueError naming the file and line at fault."""
        names, has_background = read_classes(folder)
        found = {path.stem for path in folder.glob("[!.]*.jsonl")}
        further = sorted(found - {*SPLITS, "background"})
        splits = {
            split: _read_samples(folder / f"{split}.jsonl", len(names))
            for split in (*SPLITS, *further)
        }
        extra = folder / "background.jsonl"
        background = _read_samples(extra, 0) if extra.exists() else ()
        return cls(names, splits, background, has_background, is_packed(folder))


def read_classes(folder: Path) -> tuple[tuple[str, ...], bool]:
    """The K names of the classes, and whether there is a background; of data/splits."""
    found = _classes(folder)
    return tuple(found["names"]), found.get("background", True)


def is_packed(folder: Path) -> bool:
    """Whether stages pack the files that they make of images; of data/splits."""
    return bool(_classes(folder).get("packed", False))


def mark_packed(folder: Path, *, packed: bool) -> None:
    """Say in data/splits whether stages pack the files that they make of images."""
    names, has_background = read_classes(folder)
    _write_classes(folder, names, has_background=has_background, packed=packed)


def _write_classes(
    folder: Path, names: Sequence[str], *, has_background: bool, packed: bool
) -> None:
    unusual = {} if has_background else {"background": False}
    unusual |= {"packed": True} if packed else {}
    value = {"names": list(names), **unusual} if unusual else list(names)
    write_json(folder / "classes.json", value)


def _classes(folder: Path) -> dict[str, Any]:
    found = read_json(folder / "classes.json")
    return {"names": found} if isinstance(found, list) else found


def _row(sample: Sample) -> dict[str, Any]:
    """What a line says of a sample; of uncertain classes only where there are any."""
    row = {
        "name": sample.name,
        "image": sample.image,
        "size": sample.size,
        "class_ids": sample.class_ids,
        "mask": sample.mask,
    }
    return row | ({"uncertain": sample.uncertain} if sample.uncertain else {})


def _read_samples(path: Path, num_fg_classes: int) -> tuple[Sample, ...]:
    """The samples of a file; the same ones again where it was read before and has not changed."""
    state = settled(path)
    if state is None:
        return _parse_samples(path, num_fg_classes)
    return _known_samples(path, num_fg_classes, state)


@lru_cache(maxsize=8)
def _known_samples(path: Path, num_fg_classes: int, state: tuple[int, ...]) -> tuple[Sample, ...]:
    del state
    return _parse_samples(path, num_fg_classes)


def _parse_samples(path: Path, num_fg_classes: int) -> tuple[Sample, ...]:
    samples = []
    parse = partial(_parsed, known={})
    for number, sample in enumerate(read_json_lines(path, parse, "a sample"), 1):
        if any(not 1 <= class_id <= num_fg_classes for class_id in sample.class_ids):
            rule = f"lie in 1..{num_fg_classes}" if num_fg_classes else "be empty"
            raise ValueError(
                f"{path}, line {number}: class_ids {list(sample.class_ids)} must {rule}"
            )
        wrong = _fault(sample, num_fg_classes)
        if wrong:
            raise ValueError(f"{path}, line {number}: uncertain classes {wrong}")
        samples.append(sample)
    return tuple(samples)


def _parsed(row: Any, known: dict[Any, Any]) -> Sample:
    """A sample; what many have in common, such as their size, is in memory once."""
    image, mask = row["image"], row["mask"]
    uncertain = tuple(
        (int(class_id), None if prob is None else float(prob))
        for class_id, prob in row.get("uncertain", ())
    )
    size, ids = tuple(row["size"]), tuple(row["class_ids"])
    return Sample(
        row["name"],
        image,
        known.setdefault(size, size),
        known.setdefault(ids, ids),
        image if mask == image else mask,
        known.setdefault(uncertain, uncertain),
    )


def _fault(sample: Sample, num_fg_classes: int) -> str:
    """What is wrong with the uncertain classes of a sample; nothing where they are right."""
    ids = [class_id for class_id, _ in sample.uncertain]
    if ids != sorted(set(ids)) or not all(1 <= class_id <= num_fg_classes for class_id in ids):
        return f"{ids} must be different, ascending and lie in 1..{num_fg_classes}"
    for class_id, prob in sample.uncertain:
        if prob is not None and not 0 < prob < 1:
            return f"have the probability {prob} of class {class_id}; it must lie between 0 and 1"
        if (class_id in sample.class_ids) != (prob is not None and prob >= 0.5):
            return f"say {prob} of class {class_id}, but class_ids are {list(sample.class_ids)}"
    return ""


def report_splits(report: Mapping[str, Any]) -> list[str]:
    """The splits of which a report of an evaluation has scores, scored sets last, these sorted.

    Example:
        >>> report_splits({"protocol": {}, "smoke5k": {}, "val": {}, "threshold": 0.3})
        ['val', 'smoke5k']
    """
    further = sorted(
        key
        for key, value in report.items()
        if isinstance(value, Mapping) and key not in RESERVED and key not in SPLITS
    )
    return [*(split for split in SPLITS if split in report), *further]


class Tagged(Protocol):
    """An image with tags, as those of `Sample`."""

    @property
    def name(self) -> str: ...
    @property
    def class_ids(self) -> tuple[int, ...]: ...
    @property
    def uncertain(self) -> tuple[tuple[int, float | None], ...]: ...


def single_label_fault(samples: Sequence[Tagged], key: str) -> str:
    """What is wrong where classes are exclusive, as a softmax over them takes for granted.

    Args:
        samples: each of which has one tag, that is certain.
        key: of the loss in params.yaml.

    Returns:
        A sentence with the way out; "" where nothing is wrong.
    """
    unsure = [sample for sample in samples if sample.uncertain]
    if unsure:
        return (
            f"{key} is 'single_label', which needs tags that are certain, but those of "
            f"{len(unsure)} of {len(samples)} images are not, such as '{unsure[0].name}'; set it "
            "to multi_label"
        )
    wrong = [sample for sample in samples if len(sample.class_ids) != 1]
    if wrong:
        return (
            f"{key} is 'single_label', which needs exactly one tag per image, but {len(wrong)} of "
            f"{len(samples)} images have another number, such as '{wrong[0].name}' with "
            f"{len(wrong[0].class_ids)}; set it to multi_label"
        )
    return ""
