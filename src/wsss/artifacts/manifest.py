"""What a stage knows of the data: the classes, and per split the images with their tags."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from wsss.artifacts.files import atomic_path, read_json, write_json

__all__ = ["SPLITS", "Manifest", "Sample"]

SPLITS = ("train", "selection", "val")


@dataclass(frozen=True)
class Sample:
    """One prepared image.

    Attributes:
        name: unique over all splits; may hold '/', and names the files made from the image.
        image: file name within data/images: 8-bit RGB, upright.
        size: (height, width) in pixels.
        class_ids: the tags, ascending, values in 1..K; empty when nothing is there.
        mask: file name within data/masks, or None.
    """

    name: str
    image: str
    size: tuple[int, int]
    class_ids: tuple[int, ...]
    mask: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The classes and splits in data/splits.

    Attributes:
        class_names: K names; class id c has name class_names[c - 1].
        splits: the samples of train, selection and val, sorted by name.
        background: images of anything but the classes, without tags and masks: one more class
            for the classifier to tell apart while it is trained, in no split and never scored.
    """

    class_names: tuple[str, ...]
    splits: dict[str, tuple[Sample, ...]]
    background: tuple[Sample, ...] = ()

    @property
    def num_fg_classes(self) -> int:
        """K, without the background."""
        return len(self.class_names)

    def labels(self, samples: Sequence[Sample]) -> np.ndarray:
        """(N, K) float32 multi-hot tags."""
        labels = np.zeros((len(samples), self.num_fg_classes), np.float32)
        for row, sample in enumerate(samples):
            labels[row, np.asarray(sample.class_ids, int) - 1] = 1
        return labels

    def check_classes(self, class_names: Sequence[str], what: str) -> None:
        """Raise ValueError unless a network, `what`, was trained on these classes."""
        if tuple(class_names) != self.class_names:
            raise ValueError(
                f"{what} was trained on the classes {', '.join(class_names)}, but the data has "
                f"{', '.join(self.class_names)}; train it again on this data"
            )

    def all_samples(self) -> list[Sample]:
        """Every sample of every split, which `background` is not."""
        return [sample for split in SPLITS for sample in self.splits[split]]

    def write(self, folder: Path) -> None:
        """Write classes.json, one <split>.jsonl per split, and background.jsonl if there is any."""
        write_json(folder / "classes.json", list(self.class_names))
        for name, samples in (self.splits | {"background": self.background}).items():
            path = folder / f"{name}.jsonl"
            if name not in SPLITS and not samples:
                path.unlink(missing_ok=True)
                continue
            lines = [json.dumps(asdict(sample), ensure_ascii=False) for sample in samples]
            with atomic_path(path) as temporary:
                temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote. Raises ValueError naming the file and line at fault."""
        names = tuple(read_json(folder / "classes.json"))
        splits = {split: _read_samples(folder / f"{split}.jsonl", len(names)) for split in SPLITS}
        extra = folder / "background.jsonl"
        return cls(names, splits, _read_samples(extra, 0) if extra.exists() else ())


def _read_samples(path: Path, num_fg_classes: int) -> tuple[Sample, ...]:
    samples = []
    text = path.read_text(encoding="utf-8").removesuffix("\n")
    # not splitlines(): names may hold other line separators, such as U+2028
    for number, line in enumerate(text.split("\n") if text else [], 1):
        try:
            row = json.loads(line)
            sample = Sample(
                row["name"],
                row["image"],
                tuple(row["size"]),
                tuple(row["class_ids"]),
                row["mask"],
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a sample ({error!r})") from None
        if any(not 1 <= class_id <= num_fg_classes for class_id in sample.class_ids):
            rule = f"lie in 1..{num_fg_classes}" if num_fg_classes else "be empty"
            raise ValueError(
                f"{path}, line {number}: class_ids {list(sample.class_ids)} must {rule}"
            )
        samples.append(sample)
    return tuple(samples)
