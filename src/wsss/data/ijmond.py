"""Frames of cameras at IJmond: smoke drawn by annotators, and citizens' votes; cut into crops."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from pydantic import Field, NonNegativeInt

from wsss.checks import full_key
from wsss.cores import usable_cores
from wsss.data._base import Problem, RawDataset, RawSample, source_folder
from wsss.data._coco_file import CocoImage, read_coco
from wsss.data._crops import write_crop
from wsss.data._matching import Names
from wsss.data._tables import read_text
from wsss.data.images import BadImageError, open_rgb
from wsss.data.listing import list_images, some
from wsss.data.splits import hold_out
from wsss.progress import track
from wsss.registry import DATASETS
from wsss.settings import ConfigError, Named

__all__ = ["Ijmond", "IjmondSettings", "crop_starts"]

Entry = TypeVar("Entry")

_OPACITIES = ("high-opacity smoke", "low-opacity smoke")


class IjmondSettings(Named):
    name: Literal["ijmond"] = "ijmond"
    root: str = "$IJMOND_ROOT"
    """The folder that everything lies in; $VARS are expanded."""
    frames: str = "frames"
    """The folder of frames (.jpg, .png) in it."""
    annotations: str | None = "annotations.json"
    """A file of COCO's layout in it, or none."""
    votes: str | None = "votes.csv"
    """A table in it with the columns frame, yes and no: how many citizens saw smoke in a frame, and
    how many saw none; or none."""
    opacities: Literal["merge", "separate"] = "merge"
    """Smoke of high and of low opacity as the one class smoke, or as two classes."""
    crop: NonNegativeInt = 512
    """Side of the crops in pixels; 0 leaves frames whole."""
    voted_frames: Literal["whole", "crops"] = "whole"
    """What becomes of frames that have votes alone, some of them for smoke: one image, as citizens
    saw it, or crops that all have the frame's probability, though smoke is not in all of them."""
    min_share: float = Field(default=0, ge=0, lt=1)
    """A crop has the tag if more than 0 and at least this share of its pixels is drawn."""
    val: str | None = None
    """A text file in root with the frames of the validation, one a line. Without one these are the
    frames with annotations where others have votes alone, or else `val_share` of all."""
    val_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the frames held out for validation where nothing else says so."""
    selection_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training frames whose crops are the selection split."""


@dataclass(frozen=True)
class _Frame:
    """A frame, and what is known of it: what is drawn, or the share of votes for smoke."""

    path: Path
    drawn: CocoImage | None
    share: float | None


@DATASETS.register(IjmondSettings)
class Ijmond:
    """The layout is this project's own, as the frames come in several from their makers:

        frames/*.jpg or *.png    of any size, theirs have 1920 x 1280 pixels
        annotations.json         COCO's: images, categories, annotations (polygons or run lengths)
        votes.csv                frame,yes,no

    Categories are smoke, or smoke of high and of low opacity, by any spelling that has these words
    (`high-opacity-smoke`); where both are drawn, high is on top. An image of annotations.json
    without any annotation shows no smoke, and neither does a frame that has votes alone, all of
    them against it. What is drawn goes before votes; frames that neither file names are left out,
    and counted.

    Crops of a row are spread evenly and overlap, so that nothing of a frame is lost; pixels where
    they overlap count in each of them. Tags of crops are taken from what is drawn in them, as an
    annotator would give them, and this data set has that in common with `tiles`. A frame that has
    votes alone has the share of yes as its probability; see `wsss.artifacts.Sample`.

    References:
        IJmond's frames and their annotations: MultiX-Amsterdam/ijmond-camera-ai (MIT).
    """

    def __init__(self, settings: IjmondSettings) -> None:
        self.settings = settings
        merged = settings.opacities == "merge"
        self.class_names = ("smoke",) if merged else _OPACITIES

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Cut every frame into `scratch`; see `Dataset.collect`."""
        settings = self.settings
        root = source_folder(settings.root)
        listing = list_images(root / settings.frames, full_key("dataset.frames"))
        names = Names(listing.files, root / settings.frames)
        drawn, votes = self._drawn(root, names), self._votes(root, names)
        frames = {
            name: _Frame(path, drawn.get(name), votes.get(name))
            for name, path in listing.files.items()
            if name in drawn or name in votes
        }
        warnings = list(listing.warnings)
        if len(frames) < len(listing.files):
            left = [name for name in listing.files if name not in frames]
            warnings.append(
                f"{len(left)} of {len(listing.files)} frames are in no file of annotations or "
                f"votes, such as '{left[0]}', and are left out"
            )
        if not frames:
            raise ValueError(
                f"no frame of {root / settings.frames} is in {full_key('dataset.annotations')} or "
                f"{full_key('dataset.votes')}; frames are called {some(list(listing.files), 2)}"
            )
        splits = self._splits(frames, root, names, rng_seed)
        cut_votes = sum(frame.drawn is None and frame.share != 0 for frame in frames.values())
        if settings.voted_frames == "crops" and settings.crop and cut_votes:
            warnings.append(
                f"{cut_votes} frames with votes alone are cut into crops that all have their "
                f"frame's probability of smoke, which few of them show: set "
                f"{full_key('dataset.voted_frames')} to whole to keep them as citizens saw them"
            )
        jobs = [(split, name) for split, found in splits.items() for name in found]
        problems: list[Problem] = []
        samples: dict[str, list[RawSample]] = {split: [] for split in splits}
        cut = partial(self._cut, scratch)
        with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
            results = pool.map(lambda job: cut(job[1], frames[job[1]]), jobs)
            for (split, _), made in zip(jobs, track(results, "frames", len(jobs)), strict=True):
                if isinstance(made, Problem):
                    problems.append(made)
                else:
                    samples[split] += made
        return RawDataset(self.class_names, samples, problems, warnings, tags_from_masks=True)

    def _drawn(self, root: Path, names: Names) -> dict[str, CocoImage]:
        """What is drawn by frame; every category has a class."""
        images = _named(
            root, self.settings.annotations, "annotations", lambda path: read_coco(path).images
        )
        for item in (item for image in images for item in image.objects):
            self._class_of(item.word, item.where)
            if item.shape is None:
                raise ValueError(
                    f"{item.where}: {item.wrong or 'a box does not say where smoke is'}; draw its "
                    "region"
                )
        found = {image.entry: image for image in images}
        matched = names.match(found)
        return {name: found[entry] for entry, name in matched.items()}

    def _votes(self, root: Path, names: Names) -> dict[str, float | None]:
        """Shares of yes by frame; None where as many, or nobody, voted against."""
        found = dict(_named(root, self.settings.votes, "votes", _read_votes))
        matched = names.match(found)
        return {name: found[entry] for entry, name in matched.items()}

    def _class_of(self, category: str, where: str) -> int:
        words = set(re.findall("[a-z]+", category.casefold()))
        kind = next((at for at, word in enumerate(("high", "low"), 1) if word in words), 0)
        if self.settings.opacities == "merge" and (kind or "smoke" in words):
            return 1
        if kind:
            return kind
        raise ConfigError(
            f"{where} has the category '{category}', which is "
            + (
                f"smoke of no opacity; set {full_key('dataset.opacities')} to merge"
                if "smoke" in words
                else "no smoke; remove such annotations, or rename the category to smoke"
            )
        )

    def _splits(
        self, frames: Mapping[str, _Frame], root: Path, names: Names, rng_seed: int
    ) -> dict[str, list[str]]:
        """The frames of each split: all crops of one are in the same."""
        settings = self.settings
        masked = {name for name, frame in frames.items() if frame.drawn is not None}
        stand_ins = [
            RawSample(name, frame.path, (1,) if _shows(frame) else ())
            for name, frame in frames.items()
        ]
        if settings.val is not None:
            path = root / settings.val
            if not path.is_file():
                raise ConfigError(f"{full_key('dataset.val')}: {path} is not a file")
            lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
            listed = names.match(dict.fromkeys(lines))
            missing = [line for line in lines if listed.get(line) not in frames]
            if missing:
                raise ValueError(
                    f"{path} lists '{missing[0]}', which is no frame with annotations or votes "
                    f"({len(missing)} of {len(lines)} lines); frames are called "
                    f"{some(list(frames), 2)}"
                )
            val = set(listed.values())
        elif 0 < len(masked) < len(frames):
            val = masked
        else:
            held = hold_out(stand_ins, settings.val_share, len(frames), rng_seed, "val")[1]
            val = {sample.name for sample in held}
        train = [sample for sample in stand_ins if sample.name not in val]
        selection: list[RawSample] = []
        if len(train) > 1:
            train, selection = hold_out(train, settings.selection_share, len(train), rng_seed)
        return {
            "train": [sample.name for sample in train],
            "selection": [sample.name for sample in selection],
            "val": sorted(val),
        }

    def _cut(self, scratch: Path, name: str, frame: _Frame) -> list[RawSample] | Problem:
        """The crops of a frame with tags and masks, written below `scratch`; or the frame whole."""
        settings = self.settings
        try:
            image = open_rgb(frame.path).rgb
            mask = self._mask(frame.drawn, (image.height, image.width))
        except BadImageError as error:
            return Problem(name, f"{frame.path}: {error}")
        except ValueError as error:
            return Problem(name, str(error))
        whole = mask is None and bool(frame.share is None or frame.share > 0)
        whole &= settings.voted_frames == "whole"
        side = 0 if whole else settings.crop
        made = []
        for row, top in enumerate(crop_starts(image.height, side)):
            for column, left in enumerate(crop_starts(image.width, side)):
                bottom = min(image.height, top + (side or image.height))
                right = min(image.width, left + (side or image.width))
                at = f"{name}/{row}_{column}"
                part = None if mask is None else mask[top:bottom, left:right]
                box = left, top, right, bottom
                path, target = write_crop(scratch, at, image, box, part)
                sample = RawSample(at, path, ())
                if part is not None:
                    sample = replace(sample, class_ids=self._shown(part), mask=target)
                else:
                    sample = self._voted(sample, frame.share)
                made.append(sample)
        return made

    def _mask(self, drawn: CocoImage | None, size: tuple[int, int]) -> np.ndarray | None:
        """(H, W) uint8 class ids; None where nobody drew."""
        if drawn is None:
            return None
        if drawn.size != size:
            raise ValueError(
                f"'{drawn.entry}' was drawn on {drawn.size[0]} x {drawn.size[1]} pixels "
                f"(height x width), but the frame has {size[0]} x {size[1]}; use the frames of "
                "that file"
            )
        mask = np.zeros(size, np.uint8)
        found = [(self._class_of(item.word, item.where), item) for item in drawn.objects]
        for class_id, item in sorted(found, key=lambda pair: -pair[0]):  # high opacity last
            assert item.shape is not None
            try:
                place, inside = item.shape.pixels(size)
            except ValueError as error:
                raise ValueError(f"{item.where}: {error}") from None
            mask[place][inside] = class_id
        return mask

    def _shown(self, mask: np.ndarray) -> tuple[int, ...]:
        shares = [(mask == at).mean() for at in range(1, len(self.class_names) + 1)]
        least = self.settings.min_share
        return tuple(at for at, share in enumerate(shares, 1) if share > 0 and share >= least)

    def _voted(self, sample: RawSample, share: float | None) -> RawSample:
        """A sample with the tags that votes give; they do not tell opacities apart."""
        ids = range(1, len(self.class_names) + 1)
        if share == 0:
            return sample
        if len(ids) > 1 or share is None:
            return replace(sample, uncertain=tuple((at, None) for at in ids))
        if share == 1:
            return replace(sample, class_ids=(1,))
        return replace(sample, class_ids=(1,) if share >= 0.5 else (), uncertain=((1, share),))


def crop_starts(length: int, side: int) -> list[int]:
    """Where crops begin that cover a side with as few as can be, spread evenly.

    Args:
        length: of the frame's side, in pixels.
        side: of the crops; 0, or more than the length, is one crop of all.

    Example:
        >>> crop_starts(1920, 512), crop_starts(1280, 512), crop_starts(300, 512)
        ([0, 469, 939, 1408], [0, 384, 768], [0])
    """
    if not 0 < side < length:
        return [0]
    count = -(-length // side)
    return [round(at * (length - side) / (count - 1)) for at in range(count)]


def _shows(frame: _Frame) -> bool:
    return bool(frame.drawn.objects) if frame.drawn is not None else bool(frame.share)


def _named(
    root: Path, file: str | None, key: str, read: Callable[[Path], Sequence[Entry]]
) -> Sequence[Entry]:
    """What a file of the settings holds; nothing where none is named."""
    if file is None:
        return []
    path = root / file
    if not path.is_file():
        raise ConfigError(
            f"{full_key(f'dataset.{key}')}: {path} is not a file; name it, or set the key to null "
            "where there is none"
        )
    return read(path)


def _read_votes(path: Path) -> Sequence[tuple[str, float | None]]:
    rows = list(csv.reader(io.StringIO(read_text(path), newline="")))
    header = [word.strip().casefold() for word in rows[0]] if rows else []
    if header != ["frame", "yes", "no"]:
        raise ValueError(
            f"{path} must begin with the line frame,yes,no, but begins with {','.join(header)}"
        )
    votes: dict[str, float | None] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(map(str.strip, row)):
            continue
        counts = [cell.strip() for cell in row[1:]]
        if len(row) != 3 or not all(map(str.isdecimal, counts)):
            raise ValueError(
                f"{path}, line {number}: {','.join(row)}, but a line is a frame and two numbers of "
                "votes, such as a.jpg,3,1"
            )
        frame, (yes, no) = row[0].strip(), map(int, counts)
        if frame in votes:
            raise ValueError(f"{path}, line {number}: '{frame}' is there twice; add its votes up")
        votes[frame] = None if yes == no else yes / (yes + no)
    return list(votes.items())
