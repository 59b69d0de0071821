"""What annotators gave of images besides tags: masks, boxes, points and scribbles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from wsss.artifacts.files import read_json_lines, write_json_lines
from wsss.artifacts.label_png import read_label_png
from wsss.artifacts.manifest import Sample
from wsss.artifacts.shards import file_names

__all__ = ["Annotations", "Box", "inside_boxes"]


class Box(NamedTuple):
    """A rectangle that holds an object of a class, in pixels; bottom and right lie outside.

    Where an image has a box of a class, its boxes of that class hold all of it.
    """

    class_id: int
    top: int
    left: int
    bottom: int
    right: int


def inside_boxes(boxes: Sequence[Box], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """By class that has boxes, (H, W) bool: the pixels in any of them.

    Args:
        boxes: of an image.
        size: (height, width) of it in pixels.

    Example:
        >>> inside_boxes([Box(2, 0, 1, 1, 3)], (1, 4))
        {2: array([[False,  True,  True, False]])}
    """
    inside: dict[int, np.ndarray] = {}
    for class_id, top, left, bottom, right in boxes:
        within = inside.setdefault(class_id, np.zeros(size, bool))
        within[top:bottom, left:right] = True
    return inside


@dataclass(frozen=True)
class Annotations:
    """What data/annotations holds of the images of train and selection; val has none.

    It is what people gave to learn from. Ground truth, by which results are scored, lies in
    data/masks and is read by evaluation alone. Whole masks lie apart from what is partial, so that
    maps, which boxes, points and scribbles bound, stay as they are when masks are added.

    Attributes:
        mask_folder: data/annotations/masks.
        partial_folder: data/annotations/partial.
        masks: names of images with a whole mask; see `mask_path`.
        seeds: names of images with points or scribbles; see `seeds_path`.
        boxes: by name of the image.
    """

    mask_folder: Path
    partial_folder: Path
    masks: frozenset[str] = frozenset()
    seeds: frozenset[str] = frozenset()
    boxes: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)

    def mask_path(self, name: str) -> Path:
        """Where the whole mask of an image lies: 0, class ids, 255."""
        return self.mask_folder / f"{name}.png"

    @property
    def seeds_folder(self) -> Path:
        """Where points and scribbles lie."""
        return self.partial_folder / "seeds"

    def seeds_path(self, name: str) -> Path:
        """Where the points and scribbles of an image lie: 0 and class ids, 255 between them."""
        return self.seeds_folder / f"{name}.png"

    def mask(self, name: str) -> np.ndarray | None:
        """(H, W) uint8: the whole mask of an image, or None."""
        return read_label_png(self.mask_path(name)) if name in self.masks else None

    def seed_map(self, name: str) -> np.ndarray | None:
        """(H, W) uint8: the points and scribbles of an image, 255 between them, or None."""
        return read_label_png(self.seeds_path(name)) if name in self.seeds else None

    def inside(self, name: str, size: tuple[int, int]) -> dict[int, np.ndarray]:
        """By class that has boxes in an image, where these let it be; see `inside_boxes`."""
        return inside_boxes(self.boxes.get(name, ()), size)

    def settled(self, sample: Sample) -> Sample:
        """The sample without doubts about classes that somebody has drawn in it.

        What a box, a point, a scribble or a mask shows is there; what a whole mask does not show
        is not.
        """
        mask = self.mask(sample.name)
        shown = {box.class_id for box in self.boxes.get(sample.name, ())}
        for drawn in (mask, self.seed_map(sample.name)):
            shown |= set() if drawn is None else set(np.unique(drawn).tolist())
        shown &= {class_id for class_id, _ in sample.uncertain}
        gone = set(dict(sample.uncertain)) - shown if mask is not None else set()
        ids = (set(sample.class_ids) | shown) - gone
        left = tuple(item for item in sample.uncertain if item[0] not in shown | gone)
        return replace(sample, class_ids=tuple(sorted(ids)), uncertain=left)

    def write(self) -> None:
        """Write which images have boxes and seeds, a line each; masks and seeds lie there."""
        names = sorted(self.seeds | self.boxes.keys())
        rows = [
            {
                "name": name,
                "seeds": name in self.seeds,
                "boxes": [list(box) for box in self.boxes.get(name, ())],
            }
            for name in names
        ]
        write_json_lines(self.partial_folder / "annotations.jsonl", rows)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read data/annotations: which masks lie there, and what `write` wrote.

        A folder that is missing has none.

        Raises:
            ValueError: a line is none of annotations; the text names the file and the line.
        """
        masks, partial = folder / "masks", folder / "partial"
        rows = []
        if partial.exists():
            rows = list(read_json_lines(partial / "annotations.jsonl", _parsed, "annotations"))
        return cls(
            masks,
            partial,
            frozenset(name.removesuffix(".png") for name in file_names(masks)),
            frozenset(name for name, has_seeds, _ in rows if has_seeds),
            {name: boxes for name, _, boxes in rows if boxes},
        )


def _parsed(row: Any) -> tuple[str, bool, tuple[Box, ...]]:
    """Name of an image, whether it has seeds, and its boxes."""
    return row["name"], row["seeds"], tuple(Box(*map(int, box)) for box in row["boxes"])
