"""What is wrong with annotations, found before images are read: outside, denied, of other sizes."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Literal

import numpy as np

from wsss.artifacts import IGNORE_INDEX, Sample
from wsss.checks import full_key, printable
from wsss.cores import usable_cores
from wsss.data import RawBox, RawPoint, RawSample
from wsss.data.images import BadImageError, ImageFrame, PixelRules, image_frame
from wsss.evaluate.ground_truth import wrong_size
from wsss.evaluate.placing import Meanings, read_mask
from wsss.progress import track
from wsss.stages._annotation_parts import AnnotatedPart

__all__ = [
    "Corners",
    "Way",
    "check_annotations",
    "pixel_corners",
    "possible_ids",
    "ways_that_fit",
]

Way = Literal["stored", "upright"]
"""Which pixels of an image that EXIF turns somebody saw: those of its file, or turned ones."""

Corners = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

_LISTED = 10
_BEYOND = 1.0  # pixels by which a box may leave its image, as tools round


def check_annotations(
    parts: Mapping[str, AnnotatedPart],
    class_names: Sequence[str],
    rules: PixelRules,
    *,
    ignores_denied: bool,
) -> dict[str, ImageFrame]:
    """Look at all that was given.

    Args:
        parts: by kind, the images that have it.
        class_names: K names.
        rules: how pixels become 8-bit RGB.
        ignores_denied: whether masks may show classes that the tags of their images deny.

    Returns:
        Size and orientation of the images with boxes, points or scribbles; those that cannot be
        opened are left out.

    Raises:
        ValueError: an annotation does not fit its image or contradicts its tags; the text names
            the file, the place in it, and the way out.
    """
    check = _Check(parts, class_names, rules, ignores_denied=ignores_denied)
    samples = {sample.name: sample for part in parts.values() for sample in part.samples}
    contexts = [copy_context() for _ in samples]  # messages name settings by their sections
    with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
        found = pool.map(
            lambda sample, context: context.run(check.problems, sample), samples.values(), contexts
        )
        problems = [text for own in track(found, "annotations", len(samples)) for text in own]
    if problems:
        more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        lines = [printable(text)[:600] for text in problems[:_LISTED]] + more
        raise ValueError(
            f"{len(problems)} annotations do not fit their images:\n"
            + "\n".join(f"  {line}" for line in lines)
        )
    check.check_strokes()
    return {name: check.frames[name] for name in sorted(check.frames)}


def ways_that_fit(items: Sequence[RawBox | RawPoint], frame: ImageFrame) -> list[Way]:
    """As which pixels all boxes or points of an image lie in it, and are drawn on that size."""
    ways: tuple[Way, ...] = ("upright", "stored")
    return [way for way in ways if not any(_misfit(item, _size(frame, way)) for item in items)]


def pixel_corners(item: RawBox | RawPoint, frame: ImageFrame, way: Way) -> Corners:
    """A box in pixels, or the pixel that a point lies in."""
    height, width = _size(frame, way)
    across, down = (width, height) if item.relative else (1, 1)
    if isinstance(item, RawPoint):
        x, y = min(int(item.x * across), width - 1), min(int(item.y * down), height - 1)
        return x, y, x + 1, y + 1
    left, top, right, bottom = item.corners
    return left * across, top * down, right * across, bottom * down


def _size(frame: ImageFrame, way: Way) -> tuple[int, int]:
    return frame.stored if way == "stored" else frame.upright


def _misfit(item: RawBox | RawPoint, size: tuple[int, int]) -> str:
    """What is wrong with a box or a point on an image of some size; "" where it fits."""
    if isinstance(item, RawPoint):
        across, down = (1, 1) if item.relative else (size[1], size[0])
        inside = 0 <= item.x <= across and 0 <= item.y <= down
        return "" if inside else f"the point x {item.x:g}, y {item.y:g} lies outside of its image"
    left, top, right, bottom = pixel_corners(item, ImageFrame(size, 1), "upright")
    shown = f"left {left:g}, top {top:g}, right {right:g}, bottom {bottom:g}"
    if not (left < right and top < bottom):
        return f"the box {shown} is empty or upside down: right and bottom are the larger ones"
    if item.drawn_on not in (None, size):
        assert item.drawn_on is not None
        return f"the box {shown} was drawn on an image of {_shown(item.drawn_on)}"
    if min(left, top) < -_BEYOND or right > size[1] + _BEYOND or bottom > size[0] + _BEYOND:
        return f"the box {shown} reaches beyond its image"
    return ""


class _Check:
    """See `check_annotations`; an image's frame is noted as it is looked at."""

    def __init__(
        self,
        parts: Mapping[str, AnnotatedPart],
        class_names: Sequence[str],
        rules: PixelRules,
        *,
        ignores_denied: bool,
    ) -> None:
        self.class_names, self.rules, self.ignores_denied = class_names, rules, ignores_denied
        self.frames: dict[str, ImageFrame] = {}
        self._drawn_whole: list[bool] = []  # of scribbles, whether somebody drew on every pixel
        self._own: dict[str, set[str]] = {}
        self._from_masks: set[str] = set()
        for kind, part in parts.items():
            names = {sample.name for sample in part.samples}
            if kind != "masks" and part.is_own:
                for name in names:
                    self._own.setdefault(name, set()).add(kind)
            else:
                self._from_masks |= names

    def check_strokes(self) -> None:
        """Raise ValueError if most scribbles have strokes on every pixel, as if 0 were one."""
        whole, count = sum(self._drawn_whole), len(self._drawn_whole)
        if 2 * whole > count:
            raise ValueError(
                f"{whole} of {count} scribbles have no pixel of {IGNORE_INDEX}, which is what "
                "nobody drew on, so that all else would be background. Where that is 0 in their "
                f"files, set {full_key('dataset.scribble_values')}: {{0: {IGNORE_INDEX}, 1: 0, "
                f"2: {self.class_names[0]}}} or what their values mean; whole masks are not "
                "scribbles but masks, see pixel_labels"
            )

    def problems(self, sample: RawSample) -> list[str]:
        """What is wrong with the annotations of an image."""
        own = self._own.get(sample.name, set())
        try:
            frame = image_frame(sample.image, self.rules)
        except BadImageError:
            return []  # the image is left out, and listed
        found: list[str] = []
        if sample.name in self._from_masks and sample.mask is not None:
            found += self._drawn(sample, sample.mask, sample.mask_values, frame, "mask")
        if "scribbles" in own and sample.scribbles is not None:
            values = sample.scribble_values
            found += self._drawn(sample, sample.scribbles, values, frame, "scribble")
        for kind in ("boxes", "points"):
            if kind in own:
                found += self._located(sample, getattr(sample, kind), frame)
        if own:
            self.frames[sample.name] = frame
        return found

    def _drawn(
        self, sample: RawSample, path: Path, values: Meanings, frame: ImageFrame, what: str
    ) -> Iterator[str]:
        """Of a mask or scribbles."""
        try:
            drawn, was_turned = read_mask(path, values, len(self.class_names))
        except ValueError as error:
            yield str(error)
            return
        fits = (frame.upright,) if was_turned else (frame.upright, frame.stored)
        if drawn.shape not in fits:
            yield f"{path} {wrong_size(drawn, frame.upright)}"
        if what == "mask" and self.ignores_denied:
            return
        present = np.flatnonzero(np.bincount(drawn.ravel(), minlength=256)).tolist()
        if what == "scribble":
            self._drawn_whole.append(IGNORE_INDEX not in present)
        for class_id in present:
            if class_id not in (0, IGNORE_INDEX, *possible_ids(sample)):
                y, x = np.argwhere(drawn == class_id)[0].tolist()
                way_out = "mend either"
                if what == "mask":
                    key = full_key("contradicting_masks")
                    way_out += f", or set {key} to warn, which ignores such pixels"
                yield f"{path}: {self._denied(what, class_id, sample)} (x {x}, y {y}); {way_out}"

    def _located(
        self, sample: RawSample, items: Sequence[RawBox | RawPoint], frame: ImageFrame
    ) -> Iterator[str]:
        """Of boxes or points."""
        fits = ways_that_fit(items, frame)
        for item in items:
            if item.class_id not in (0, *possible_ids(sample)):
                what = "box" if isinstance(item, RawBox) else "point"
                yield f"{item.where}: {self._denied(what, item.class_id, sample)}; mend either"
            wrong = "" if fits else _misfit(item, frame.upright)
            if wrong and (frame.upright == frame.stored or _misfit(item, frame.stored)):
                yield (
                    f"{item.where}: {wrong}; '{sample.name}' has {_shown(frame.upright)}: mend it, "
                    "or remove it"
                )
        turned_apart = not fits and all(
            "" in (_misfit(item, frame.upright), _misfit(item, frame.stored)) for item in items
        )
        if turned_apart:
            yield (
                f"{items[0].where}: some of '{sample.name}' fit its stored pixels, and others only "
                "those that EXIF turns; draw them again on one of both"
            )

    def _denied(self, what: str, class_id: int, sample: RawSample) -> str:
        tags = ", ".join(f"'{self.class_names[c - 1]}'" for c in sample.class_ids) or "none"
        shown = "shows" if what == "mask" else "is of"
        return (
            f"the {what} {shown} '{self.class_names[class_id - 1]}', which the tags of "
            f"'{sample.name}' deny: they are {tags}"
        )


def possible_ids(sample: RawSample | Sample) -> set[int]:
    """The classes that the tags of an image do not deny: those of which nobody is certain, too."""
    return {*sample.class_ids, *(class_id for class_id, _ in sample.uncertain)}


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} pixels (width x height)"
