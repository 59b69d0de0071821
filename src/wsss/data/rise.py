"""RISE, the clips of deep-smoke-machine: industrial smoke, labelled clip by clip."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from wsss.checks import full_key
from wsss.cores import usable_cores
from wsss.data._base import Problem, RawDataset, RawSample, source_folder
from wsss.data._tag_files import read_json_text
from wsss.data.listing import image_suffixes
from wsss.progress import track
from wsss.registry import DATASETS
from wsss.seeding import derive_seed
from wsss.settings import ConfigError, Named

__all__ = ["Rise", "RiseSettings", "clip_label"]

POSITIVE, NEGATIVE = frozenset({47, 23}), frozenset({32, 16})
"""Label states of the gold standard and of sure labels, of researchers or citizens."""

_BAD = -2
_VIDEOS = (".mp4", ".webm", ".mov", ".avi", ".mkv", ".gif")


class RiseSettings(Named):
    name: Literal["rise"] = "rise"
    root: str = "$RISE_ROOT"
    """The folder that everything lies in; $VARS are expanded."""
    metadata: str = "metadata.json"
    """The list of clips in it, as published."""
    clips: str = "videos"
    """The folder in it with a video per clip, <file_name>.mp4, or a folder of frames,
    <file_name>/*.jpg."""
    frames_per_clip: PositiveInt = 1
    """How many frames of a clip are images, spread evenly; 1 takes the one in the middle."""
    group: Literal["view", "date", "clip"] = "view"
    """What lies in one split with all its clips: the view of a camera, as in the published splits,
    the day, or the clip alone, which has much the same clips on both sides."""
    val_share: float = Field(default=0.3, gt=0, lt=1)
    """At least this share of the clips is for validation."""
    selection_share: float = Field(default=0.1, gt=0, lt=1)
    """At least this share of the other clips is held out to choose thresholds and epochs."""
    unknown: Literal["keep", "leave_out"] = "leave_out"
    """Clips whose label is in doubt: images of which nobody knows, or no images."""


@dataclass(frozen=True)
class _Clip:
    """A clip: its name, whether it shows smoke (None where that is in doubt), and its group."""

    name: str
    label: bool | None
    group: str


@DATASETS.register(RiseSettings)
class Rise:
    """Frames of clips, 36 of 180 x 180 pixels each in the published set; there are no masks.

    The metadata is a JSON list of objects with `file_name`, `label_state_admin` (of researchers)
    and `label_state` (of citizens), the codes of the published set:

        47 smoke, 32 none: gold standard       23 smoke, 16 none: sure (two agree)
        19 smoke, 20 none: by two of three     5, 4, 3, -1: in doubt, or not yet; -2: bad quality

    Gold and sure labels are taken, those of researchers before those of citizens, and all others
    are in doubt; -2 is left out. `file_name` begins with camera, view, year, month and day, which
    tell the groups.

    Videos are read with imageio: `pip install 'wsss[video]'`. Frames that lie in folders need
    nothing more.

    References:
        Hsu et al.: Project RISE: Recognizing Industrial Smoke Emissions (AAAI 2021).
    """

    def __init__(self, settings: RiseSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Take frames of every clip; see `Dataset.collect`."""
        settings = self.settings
        root = source_folder(settings.root)
        clips, warnings = self._clips(root / settings.metadata)
        folder = root / settings.clips
        if not folder.is_dir():
            raise ConfigError(f"{full_key('dataset.clips')}: {folder} is not a folder")
        names = {path.name for path in folder.iterdir()}
        if any(f"{clip.name}{suffix}" in names for clip in clips for suffix in _VIDEOS):
            _reader()
        splits: dict[str, list[RawSample]] = {"train": [], "selection": [], "val": []}
        problems: list[Problem] = []
        jobs = [
            (split, clip) for split, own in self._split(clips, rng_seed).items() for clip in own
        ]
        take = partial(_frames_of, folder, names, scratch, settings.frames_per_clip)
        with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
            results = track(pool.map(lambda job: take(job[1]), jobs), "clips", len(jobs))
            for (split, clip), found in zip(jobs, results, strict=True):
                if isinstance(found, Problem):
                    problems.append(found)
                    continue
                splits[split] += [
                    RawSample(
                        f"{clip.name}/{number:03}",
                        path,
                        (1,) if clip.label else (),
                        uncertain=() if clip.label is not None else ((1, None),),
                    )
                    for number, path in found
                ]
        return RawDataset(("smoke",), splits, problems, warnings)

    def _clips(self, path: Path) -> tuple[list[_Clip], list[str]]:
        """The clips to take, and what a person must know of the others."""
        if not path.is_file():
            raise ConfigError(f"{full_key('dataset.metadata')}: {path} is not a file")
        rows = read_json_text(path)
        if not isinstance(rows, list) or not rows or not all(isinstance(r, Mapping) for r in rows):
            raise ValueError(f"{path} must be a list of clips, with at least one")
        clips, counts = [], Counter[str]()
        for number, row in enumerate(rows, 1):
            name = row.get("file_name")
            parts = str(name).split("-")
            if not isinstance(name, str) or len(parts) < 5:
                raise ValueError(
                    f"{path}, clip {number}: file_name is {name!r}, but begins with camera, view, "
                    "year, month and day, such as 0-7-2018-05-11-..."
                )
            group = {"view": parts[:2], "date": parts[2:5], "clip": parts}[self.settings.group]
            if _BAD in (row.get("label_state_admin"), row.get("label_state")):
                counts["bad"] += 1
                continue
            label = clip_label(row)
            counts["unknown"] += label is None
            if label is not None or self.settings.unknown == "keep":
                clips.append(_Clip(name, label, "-".join(group)))
        doubled = [
            name for name, count in Counter(clip.name for clip in clips).items() if count > 1
        ]
        if doubled:
            raise ValueError(f"{path} has the clip '{doubled[0]}' twice; keep one")
        if not any(clip.label is not None for clip in clips):
            raise ValueError(
                f"none of the {len(rows)} clips of {path} has a gold or sure label: "
                "label_state_admin or label_state of 47, 23, 32 or 16"
            )
        warnings = []
        if counts["bad"] or counts["unknown"]:
            done = "are images of which nobody knows"
            if self.settings.unknown == "leave_out":
                done = "are left out"
            warnings.append(
                f"{counts['unknown']} of {len(rows)} clips have labels in doubt and {done}; "
                f"{counts['bad']} of bad quality are left out"
            )
        return clips, warnings

    def _split(self, clips: Sequence[_Clip], rng_seed: int) -> dict[str, list[_Clip]]:
        """Groups as wholes, by a hash of their names."""
        rest, val = _held(clips, self.settings.val_share, rng_seed, "val", self.settings.group)
        share = self.settings.selection_share
        train, selection = _held(rest, share, rng_seed, "selection", self.settings.group)
        return {"train": train, "selection": selection, "val": val}


def clip_label(row: Mapping[str, Any]) -> bool | None:
    """Whether a clip shows smoke, by researchers and else by citizens; None where that is in doubt.

    Example:
        >>> clip_label({"label_state_admin": 47, "label_state": 16})
        True
        >>> [clip_label({"label_state_admin": -1, "label_state": code}) for code in (23, 16, 19, 5)]
        [True, False, None, None]
    """
    for key in ("label_state_admin", "label_state"):
        if row.get(key) in POSITIVE:
            return True
        if row.get(key) in NEGATIVE:
            return False
    return None


def _held(
    clips: Sequence[_Clip], share: float, rng_seed: int, purpose: str, kind: str
) -> tuple[list[_Clip], list[_Clip]]:
    """What is left and what is held out, neither of them empty."""
    groups = sorted(
        {clip.group for clip in clips}, key=lambda name: derive_seed(rng_seed, purpose, name)
    )
    if len(groups) < 2:
        raise ConfigError(
            f"all {len(clips)} clips that are left for train and {purpose} are of one {kind}, so "
            f"that nothing can be held out; set {full_key('dataset.group')} to clip, or add clips"
        )
    held: set[str] = set()
    for group in groups[:-1]:
        if sum(clip.group in held for clip in clips) >= share * len(clips):
            break
        held.add(group)
    left = [clip for clip in clips if clip.group not in held]
    return left, [clip for clip in clips if clip.group in held]


def _frames_of(
    folder: Path, names: Iterable[str], scratch: Path, count: int, clip: _Clip
) -> list[tuple[int, Path]] | Problem:
    """Frames of a clip with their numbers; those of a video are written below `scratch`."""
    if clip.name in names and (folder / clip.name).is_dir():
        known = image_suffixes()
        files = sorted(
            path for path in (folder / clip.name).iterdir() if path.suffix.lower() in known
        )
        if not files:
            return Problem(clip.name, f"{folder / clip.name} holds no frame")
        return [(at, files[at]) for at in _spread(len(files), count)]
    video = next((clip.name + suffix for suffix in _VIDEOS if clip.name + suffix in names), None)
    if video is None:
        return Problem(clip.name, f"{folder / clip.name}.mp4 is no file, and no folder of frames")
    try:
        frames = _reader()(folder / video)
    except Exception as error:  # whatever a decoder raises, the clip is what is wrong
        return Problem(clip.name, f"{folder / video} cannot be read as a video: {error}")
    found = []
    for at in _spread(len(frames), count):
        path = scratch / "frames" / clip.name / f"{at:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(frames[at])[..., :3]).save(path, compress_level=1)
        found.append((at, path))
    return found


def _spread(total: int, count: int) -> list[int]:
    """Numbers of frames in the middle of as many equal parts; all where there are no more."""
    if count >= total:
        return list(range(total))
    return [(2 * at + 1) * total // (2 * count) for at in range(count)]


def _reader() -> Any:
    """Reads a video to its frames, (T, H, W, 3) uint8."""
    try:
        from imageio.v3 import imread
    except ImportError:
        raise ConfigError(
            "reading videos needs imageio: pip install 'wsss[video]'; or give each clip a folder "
            "of frames"
        ) from None
    return imread
