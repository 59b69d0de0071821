"""Preparing images one by one: what prepare_data does to each, in threads, and resumed."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import Context, copy_context
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from wsss.artifacts import Filling, Sample, fingerprint, has_file, parts_together
from wsss.checks import full_key
from wsss.cores import usable_cores
from wsss.data import Problem, RawSample
from wsss.data.images import (
    BadImageError,
    Levels,
    PixelRules,
    PreparedImage,
    open_rgb,
    prepare_image,
)
from wsss.evaluate.placing import PlacedMask, place_mask
from wsss.progress import track
from wsss.stages._mask_checks import DrawnMask

__all__ = ["Preparation", "Turning", "file_bytes", "settle"]

_AT_ONCE = 1024  # images whose work waits in threads together
_FIELDS = {"name", "stamps", "problems", "conversions", "mask", "levels", "values", "fits"}


@dataclass(frozen=True)
class Turning:
    """How masks of images that EXIF turns were taken, where their sizes do not tell.

    Attributes:
        stored: masks with the size of the stored pixels, turned alike.
        upright: masks with the size of the turned ones, left as they are.
        either: masks whose size fits both.
        way: what these were taken for, "stored" or "upright".
        reason: why.
    """

    stored: int
    upright: int
    either: int
    way: str
    reason: str


class Preparation:
    """Checks and copies samples in threads, and remembers in a journal what is done.

    Args:
        num_fg_classes: K, to check masks.
        images: where prepared images go; None only looks at them, and keeps no journal.
        masks: where masks go; None only looks.
        resumed: whether these folders hold work of a run that was killed.
        rules: how pixels become 8-bit RGB.
        turned_masks: see `place_mask`.
        has_background: likewise.
        fillings: of images and masks, where they may be packed.

    Attributes:
        problems: what had to be skipped.
        conversions: how many images needed which conversion.
        drawn: every mask that could be decoded.
        levels: of images of more than 8 bits, their range of values by name.
        turning: of masks of images that EXIF turns; None without any.
    """

    def __init__(
        self,
        num_fg_classes: int,
        images: Path | None,
        masks: Path | None,
        *,
        resumed: bool = False,
        rules: PixelRules | None = None,
        turned_masks: Literal["auto", "stored", "upright"] = "auto",
        has_background: bool = True,
        fillings: Sequence[Filling] = (),
    ) -> None:
        self.fillings = fillings
        self.num_fg_classes, self.has_background = num_fg_classes, has_background
        self.images, self.masks = images, masks
        self.rules, self.turned_masks = rules or PixelRules(), turned_masks
        self.problems: list[Problem] = []
        self.conversions: Counter[str] = Counter()
        self.drawn: list[DrawnMask] = []
        self.levels: dict[str, Levels] = {}
        self.turning: Turning | None = None
        self.journal = None if images is None else images / ".work.journal.jsonl"
        if self.journal is not None and not resumed:
            self.journal.unlink(missing_ok=True)

    def all(self, lists: Mapping[str, Sequence[RawSample]]) -> dict[str, list[Sample]]:
        """Prepare every sample of every list; the usable ones are given, sorted by name."""
        jobs = [
            _Job(split, sample, at)
            for at, (split, sample) in enumerate(
                (split, sample) for split, samples in lists.items() for sample in samples
            )
        ]
        made: list[_Row] = [_Row()] * len(jobs)
        with self._open_journal() as journal:
            for job, row, is_new in track(self._rows(jobs, made), "images", len(jobs)):
                if is_new:
                    journal.write(json.dumps(row) + "\n")
                    journal.flush()
                made[job.at] = _Row.of(row)
                if row["levels"]:
                    self.levels[job.name] = Levels(*row["levels"])
        self._leave_out_dark(jobs, made)
        self._settle_turned(jobs, made)
        prepared: dict[str, list[Sample]] = {split: [] for split in lists}
        for job, kept in zip(jobs, made, strict=True):
            self._keep(job.split, job.sample, kept, prepared[job.split])
        return {
            split: sorted(samples, key=lambda sample: sample.name)
            for split, samples in prepared.items()
        }

    def alike(self) -> "Preparation":
        """Another with the same settings, for images that say nothing of how these are meant."""
        return Preparation(
            self.num_fg_classes,
            self.images,
            self.masks,
            resumed=True,  # the journal of both is one
            rules=self.rules,
            turned_masks=self.turned_masks,
            has_background=self.has_background,
            fillings=self.fillings,
        )

    def _rows(
        self, jobs: Sequence["_Job"], made: Sequence["_Row"]
    ) -> Iterator[tuple["_Job", dict[str, Any], bool]]:
        """Prepare samples, and say of each row of the journal whether it is new."""
        done = dict(self._read_journal())

        def row_of(job: _Job, context: Context) -> tuple[dict[str, Any], bool]:
            return context.run(self._row, job.sample, done)

        kinds: tuple[Literal["image", "mask"], ...] = ("image", "mask")
        files = [
            (filling, lambda job, kind=kind: _file(made[job.at], kind))
            for filling, kind in zip(self.fillings, kinds, strict=False)
        ]
        with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
            for part in parts_together(jobs, files):
                for start in range(0, len(part), _AT_ONCE):
                    these = part[start : start + _AT_ONCE]
                    contexts = [copy_context() for _ in these]  # settings by their sections
                    with closing(pool.map(row_of, these, contexts)) as rows:  # type: ignore[type-var]
                        for job, (row, is_new) in zip(these, rows, strict=True):
                            yield job, row, is_new

    def _keep(self, split: str, sample: RawSample, row: "_Row", prepared: list[Sample]) -> None:
        usable = not row.problems
        self.problems += [Problem(sample.name, text) for text in row.problems]
        self.conversions.update(row.conversions)
        if row.values:
            means, unsure = sample.mask_values, tuple(class_id for class_id, _ in sample.uncertain)
            self.drawn.append(
                DrawnMask(sample.name, split, sample.class_ids, row.values, means, usable, unsure)
            )
        if usable and row.image is not None:
            ids, uncertain = sample.class_ids, sample.uncertain
            prepared.append(Sample(sample.name, row.image, row.size, ids, row.mask, uncertain))

    def _row(
        self, sample: RawSample, done: dict[str, dict[str, Any]]
    ) -> tuple[dict[str, Any], bool]:
        known = done.pop(sample.name, None)
        if known is not None and known["stamps"] == _stamps(sample) and self._is_there(known):
            return known, False
        return self._new_row(sample), True

    def _new_row(self, sample: RawSample) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": sample.name,
            "stamps": _stamps(sample),
            "problems": [],
            "conversions": [],
            "mask": None,
            "levels": None,
            "values": {},
            "fits": "",
        }
        try:
            image = prepare_image(sample.image, self.images, sample.name, rules=self.rules)
        except BadImageError as error:
            levels = error.levels and astuple(error.levels)
            return row | {"problems": [f"{sample.image}: {error}"], "levels": levels}
        row |= {"image": image.file, "size": image.size, "conversions": image.conversions}
        row["levels"] = image.levels and astuple(image.levels)
        if sample.mask is not None:
            row["mask"] = f"{sample.name}.png"
            row["orientation"] = image.orientation
            placed = self._place(sample, _Row.of(row), self.turned_masks)
            # texts here and in a row that was read again, so that both are alike
            row["values"] = {str(value): count for value, count in placed.values.items()}
            row |= {"fits": placed.fits, "outlines": placed.outlines}
            if placed.problem:
                self._unlink(_Row.of(row))
                return row | {"problems": [placed.problem]}
        return row

    def _place(
        self,
        sample: RawSample,
        row: "_Row",
        turned_masks: Literal["auto", "stored", "upright"],
    ) -> PlacedMask:
        assert sample.mask is not None and row.image is not None and row.mask is not None
        return place_mask(
            sample.mask,
            None if self.masks is None else self.masks / row.mask,
            partial(self._pixels, sample) if self.images is None else self.images / row.image,
            PreparedImage(row.image, row.size, (), row.orientation),
            self.num_fg_classes,
            sample.mask_values,
            turned_masks,
            has_background=self.has_background,
        )

    def _pixels(self, sample: RawSample) -> np.ndarray:
        return np.asarray(open_rgb(sample.image, self.rules).rgb)

    def _is_there(self, row: Mapping[str, Any]) -> bool:
        return bool(row["problems"]) or (
            self.images is not None and has_file(self.images / row["image"])
        )

    def _unlink(self, row: "_Row") -> None:
        """Remove files; from a shard they go when it is settled."""
        if self.images is not None and row.image:
            (self.images / row.image).unlink(missing_ok=True)
        if self.masks is not None and row.mask:
            (self.masks / row.mask).unlink(missing_ok=True)

    def _leave_out_dark(self, jobs: Sequence["_Job"], rows: Sequence["_Row"]) -> None:
        """Make a problem of images that use few of 16 bits, where most of their kind do."""
        if self.rules.span is not None:
            return
        dark = {name: levels for name, levels in self.levels.items() if levels.is_dark}
        unstated = [levels for levels in self.levels.values() if levels.is_unstated]
        if 2 * len(dark) < len(unstated) or not dark:
            return
        key, high = full_key("pixel_range"), max(levels.high for levels in dark.values())
        span = list(replace(next(iter(dark.values())), high=high).span())
        for job, row in zip(jobs, rows, strict=True):
            if job.name in dark and not row.problems:
                self._unlink(row)
                own = dark[job.name].high
                row.problems = [
                    f"its 16 bits hold values up to {own:g} only and would be nearly black; set "
                    f"{key} to what is black and white, such as {key}: {span}"
                ]

    def _settle_turned(self, jobs: Sequence["_Job"], rows: Sequence["_Row"]) -> None:
        """Decide for all masks alike whose size does not tell whether they were turned."""
        fits = Counter(row.fits for row in rows if row.fits and not row.problems)
        if not fits:
            return
        way, reason = self.turned_masks, "turned_masks says so"
        if way == "auto":
            votes, reason = fits, "the others of the set are"
            if fits["stored"] == fits["upright"]:
                reason = "their outlines follow the images' edges better so"
                votes = Counter(
                    "stored" if row.outlines[0] > row.outlines[1] else "upright"
                    for row in rows
                    if row.fits == "either" and row.outlines[0] != row.outlines[1]
                )
            way = "upright" if votes["upright"] > votes["stored"] else "stored"
            if votes["upright"] == votes["stored"]:
                reason = "nothing speaks for either"
            if way == "upright":
                for job, row in zip(jobs, rows, strict=True):
                    if row.fits == "either" and not row.problems:
                        self._place(job.sample, row, way)
        self.turning = Turning(fits["stored"], fits["upright"], fits["either"], way, reason)

    def _open_journal(self) -> TextIO:
        return StringIO() if self.journal is None else self.journal.open("a", encoding="utf-8")

    def _read_journal(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the rows of the journal by name, without what a kill or a bad disk has broken."""
        if self.journal is None or not self.journal.exists():
            return
        held = self.journal.read_bytes()
        for line in held.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and row.keys() >= _FIELDS:
                yield row["name"], row
        if held and not held.endswith(b"\n"):  # nothing is written onto half a line
            with self.journal.open("ab") as journal:
                journal.write(b"\n")


def settle(prepared: Mapping[str, Sequence[Sample]], images: Filling, masks: Filling) -> None:
    """Leave the files of prepared samples and no others, where these are packed.

    Args:
        prepared: by list.
        images: of all lists.
        masks: likewise.
    """
    left = [sample for samples in prepared.values() for sample in samples]
    images.settle([sample.image for sample in left])
    masks.settle([sample.mask for sample in left if sample.mask is not None])


@dataclass(frozen=True, slots=True)
class _Job:
    """A sample to prepare, and its place among all."""

    split: str
    sample: RawSample
    at: int

    @property
    def name(self) -> str:
        return self.sample.name


@dataclass(slots=True)
class _Row:
    """What stays in memory of a row of the journal, one for each image."""

    image: str | None = None
    size: tuple[int, int] = (0, 0)
    mask: str | None = None
    problems: Sequence[str] = ()
    conversions: Sequence[str] = ()
    values: Mapping[int | str, int] = field(default_factory=dict)
    fits: str = ""
    outlines: tuple[float, float] = (0, 0)
    orientation: int = 1

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "_Row":
        height, width = row.get("size", (0, 0))
        return cls(
            row.get("image"),
            (height, width),
            row["mask"],
            tuple(row["problems"]),
            tuple(row["conversions"]),
            {int(v) if v.isdecimal() else v: count for v, count in row["values"].items()},
            row["fits"],
            tuple(row.get("outlines", (0, 0))),
            row.get("orientation", 1),
        )


def _file(row: _Row, kind: Literal["image", "mask"]) -> str | None:
    """The file that was made; None of what was left out."""
    return None if row.problems else row.image if kind == "image" else row.mask


def _stamps(sample: RawSample) -> list[Any]:
    """What tells whether an image, its mask or the meaning of that is another."""
    meanings = {str(value): means for value, means in sample.mask_values.items()}
    return [_stamp(sample.image), _stamp(sample.mask), fingerprint(meanings)]


def _stamp(path: Path | None) -> list[int]:
    try:
        status = path.stat() if path else None
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns] if status else []


def file_bytes(path: Path | None) -> int:
    """The size of a file; 0 for one that is not there."""
    return sum(_stamp(path)[:1])
