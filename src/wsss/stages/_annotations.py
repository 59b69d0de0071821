"""Annotations placed beside the prepared images: turned and shrunk with them, or taken of masks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import (
    IGNORE_INDEX,
    Annotations,
    Box,
    Filling,
    Sample,
    atomic_path,
    inside_boxes,
    parts_together,
    read_bytes,
    read_label_png,
    write_label_png,
)
from wsss.cores import usable_cores
from wsss.data import RawBox, RawPoint, RawSample
from wsss.data.derived import boxes_of, points_of, scribbles_of
from wsss.data.images import ImageFrame, turned, turned_box
from wsss.evaluate.placing import read_mask
from wsss.progress import track
from wsss.stages._annotation_checks import (
    Corners,
    Way,
    pixel_corners,
    possible_ids,
    ways_that_fit,
)
from wsss.stages._annotation_parts import AnnotatedPart
from wsss.stages._corrected import Corrected

__all__ = ["Placing", "shrunk_seeds"]

_NEAR = 0.01  # pixels by which digits of a file may miss a border between pixels


@dataclass(frozen=True)
class Placing:
    """Writes data/annotations.

    Attributes:
        parts: by kind, the images that have it.
        class_names: K names.
        frames: of the images with boxes, points or scribbles of their own.
        way: what annotators saw of images that EXIF turns, where nothing tells it of an image.
        masks: the folder of placed masks.
        annotations: those of no image yet; it says where they go.
        corrected: the images whose masks people have corrected, which go before all others.
        tags_from_masks: whether tags come from masks, so that a mask may show a class without a
            tag, of which too little is there for one.
        packed: whether the files of images are packed.
    """

    parts: Mapping[str, AnnotatedPart]
    class_names: Sequence[str]
    frames: Mapping[str, ImageFrame]
    way: Way
    masks: Path
    annotations: Annotations
    corrected: Corrected
    tags_from_masks: bool = False
    packed: bool = False

    def all(self, samples: Sequence[Sample]) -> tuple[Annotations, list[str]]:
        """Place the annotations of prepared, and perhaps shrunken, samples.

        Returns:
            What was written, and the names of images of whose masks pixels are ignored, as the tags
            deny their class.

        Raises:
            ValueError: points and scribbles contradict one another, or boxes.
        """
        raw: dict[str, RawSample] = {}
        own: dict[str, set[str]] = {}
        derived: dict[str, set[str]] = {}
        for kind, part in self.parts.items():
            from_masks = kind == "masks" or not part.is_own
            for item in part.samples:
                raw[item.name] = item
                (derived if from_masks else own).setdefault(item.name, set()).add(kind)
        for item in self.corrected.all_samples:
            raw[item.name] = item
            derived.setdefault(item.name, set()).add("masks")
        work = [sample for sample in samples if sample.name in raw]

        def place(sample: Sample) -> _Placed:
            kinds = own.get(sample.name, set()), derived.get(sample.name, set())
            return self._placed(sample, raw[sample.name], *kinds)

        made: dict[str, _Placed] = {}
        files = [
            (Filling(folder, len(work), packed=True), partial(_file, made, kind))
            for kind, folder in (
                ("has_mask", self.annotations.mask_folder),
                ("has_seeds", self.annotations.seeds_folder),
            )
            if self.packed and work
        ]
        with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
            for some in parts_together(work, files, "annotations"):
                for one in track(pool.map(place, some), "annotations", len(some)):
                    made[one.name] = one
        placed = [made[sample.name] for sample in work]
        annotations = replace(
            self.annotations,
            masks=frozenset(item.name for item in placed if item.has_mask),
            seeds=frozenset(item.name for item in placed if item.has_seeds),
            boxes={item.name: item.boxes for item in placed if item.boxes},
        )
        annotations.write()
        ignored = sorted(item.name for item in placed if item.ignored)
        return annotations, ignored

    def _placed(
        self, sample: Sample, raw: RawSample, own: set[str], derived: set[str]
    ) -> "_Placed":
        """Write the annotations of an image, of its own and taken of its mask."""
        mask, ignored = None, False
        if derived:
            mask, ignored = self._mask(sample, keep="masks" in derived)
        boxes: tuple[Box, ...] = ()
        if "boxes" in own:
            boxes = tuple(self._boxes(sample, raw.boxes))
        elif "boxes" in derived and mask is not None:
            boxes = boxes_of(mask)
        seeds = self._given_seeds(sample, raw, own)
        self._check_seeds(sample.name, seeds, boxes)
        if mask is not None:
            for kind, make in (("points", points_of), ("scribbles", scribbles_of)):
                if kind in derived:
                    more = _within(make(mask), boxes)
                    seeds = np.where(seeds == IGNORE_INDEX, more, seeds)
        has_seeds = bool((seeds != IGNORE_INDEX).any())
        if has_seeds:
            write_label_png(self.annotations.seeds_path(sample.name), seeds)
        return _Placed(sample.name, "masks" in derived, has_seeds, boxes, ignored)

    def _mask(self, sample: Sample, *, keep: bool) -> tuple[np.ndarray, bool]:
        """The mask of an image, whose classes that its tags deny are ignored.

        A corrected one stays as it is: tags follow it. Where tags come from masks, the file that is
        learned from stays as it is, too.
        """
        target = self.annotations.mask_path(sample.name)
        if sample.name in self.corrected.layer.names:
            mask = self.corrected.mask(sample)
            write_label_png(target, mask)
            return mask, False
        source = self.masks / str(sample.mask)
        mask = read_label_png(source)
        known = np.isin(mask, [0, IGNORE_INDEX, *possible_ids(sample)])
        denied = not known.all()
        if keep and (self.tags_from_masks or not denied):
            with atomic_path(target) as temporary:
                temporary.write_bytes(read_bytes(source))
        mask = np.where(known, mask, np.uint8(IGNORE_INDEX))
        if keep and denied and not self.tags_from_masks:
            write_label_png(target, mask)
        return mask, denied

    def _boxes(self, sample: Sample, boxes: Sequence[RawBox]) -> Iterator[Box]:
        height, width = sample.size
        for box, (left, top, right, bottom) in self._upright(sample.name, boxes):
            frame = self.frames[sample.name].upright
            across, down = width / frame[1], height / frame[0]
            first = math.floor(left * across + _NEAR), math.floor(top * down + _NEAR)
            last = math.ceil(right * across - _NEAR), math.ceil(bottom * down - _NEAR)
            x, y = (min(max(at, 0), n - 1) for at, n in zip(first, (width, height), strict=True))
            yield Box(
                box.class_id,
                y,
                x,
                min(max(last[1], y + 1), height),
                min(max(last[0], x + 1), width),
            )

    def _upright(
        self, name: str, items: Sequence[RawBox] | Sequence[RawPoint]
    ) -> Iterator[tuple[Any, Corners]]:
        """Boxes or points in pixels of the upright image, before it was shrunk."""
        frame = self.frames[name]
        ways = ways_that_fit(items, frame)
        way = self.way if self.way in ways else ways[0]
        for item in items:
            corners = pixel_corners(item, frame, way)
            if way == "stored":
                corners = turned_box(corners, frame.stored, frame.orientation)
            yield item, corners

    def _given_seeds(self, sample: Sample, raw: RawSample, own: set[str]) -> np.ndarray:
        """(H, W) uint8: points and scribbles that the data set has of an image, 255 elsewhere."""
        if not own & {"points", "scribbles"}:
            return np.full(sample.size, IGNORE_INDEX, np.uint8)
        frame = self.frames[sample.name]
        seeds = np.full(frame.upright, IGNORE_INDEX, np.uint8)
        if "scribbles" in own and raw.scribbles is not None:
            values = raw.scribble_values
            seeds, was_turned = read_mask(raw.scribbles, values, len(self.class_names))
            fits_both = frame.stored == frame.upright
            if not was_turned and (self.way == "stored" if fits_both else _is_stored(seeds, frame)):
                seeds = turned(seeds, frame.orientation)
            seeds = np.array(seeds)
        if "points" in own:
            for point, (x, y, _, _) in self._upright(sample.name, raw.points):
                at = int(y), int(x)
                if seeds[at] not in (IGNORE_INDEX, point.class_id):
                    raise ValueError(
                        f"{point.where}: the point x {point.x:g}, y {point.y:g} of "
                        f"{self._named(point.class_id)} lies on a point or scribble of "
                        f"{self._named(int(seeds[at]))} in '{sample.name}'; remove one"
                    )
                seeds[at] = point.class_id
        return shrunk_seeds(seeds, sample.size)

    def _check_seeds(self, name: str, seeds: np.ndarray, boxes: Sequence[Box]) -> None:
        """Raise ValueError where somebody pointed at a class outside of all its boxes."""
        outside = np.argwhere(_within(seeds, boxes) != seeds)
        if len(outside):
            y, x = outside[0].tolist()
            raise ValueError(
                f"a point or scribble of {self._named(int(seeds[y, x]))} in '{name}' (x {x}, y {y} "
                "of the prepared image) lies outside of all its boxes, which hold all of that "
                "class; mend either"
            )

    def _named(self, class_id: int) -> str:
        return f"'{self.class_names[class_id - 1]}'" if class_id else "the background"


@dataclass(frozen=True)
class _Placed:
    """What there is of an image."""

    name: str
    has_mask: bool
    has_seeds: bool
    boxes: tuple[Box, ...]
    ignored: bool


def _file(made: Mapping[str, _Placed], kind: str, sample: Sample) -> str | None:
    """The file that was made of an image; None where there is none of that kind."""
    return f"{sample.name}.png" if getattr(made[sample.name], kind) else None


def _is_stored(drawn: np.ndarray, frame: ImageFrame) -> bool:
    return drawn.shape == frame.stored


def _within(seeds: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Seeds without those of a class outside of its boxes, where it has any."""
    kept = seeds.copy()
    for class_id, inside in inside_boxes(boxes, seeds.shape).items():
        kept[(seeds == class_id) & ~inside] = IGNORE_INDEX
    return kept


def shrunk_seeds(seeds: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Seeds on the pixels of a smaller image, none of which is lost to the pixels between them.

    Where several classes fall on a pixel, that with the fewest seeds has it.

    Args:
        seeds: (H, W) uint8: 0 and class ids, 255 elsewhere.
        size: (height, width), neither larger.

    Example:
        >>> shrunk_seeds(np.array([[255, 0, 255, 255], [255, 0, 2, 255]], np.uint8), (1, 2))
        array([[0, 2]], dtype=uint8)
    """
    if seeds.shape == size:
        return seeds
    small = np.full(size, IGNORE_INDEX, np.uint8)
    counts = np.bincount(seeds.ravel(), minlength=256)[:IGNORE_INDEX]
    for class_id in sorted(np.flatnonzero(counts).tolist(), key=lambda at: (-counts[at], at)):
        ys, xs = np.nonzero(seeds == class_id)
        small[ys * size[0] // seeds.shape[0], xs * size[1] // seeds.shape[1]] = class_id
    return small
