"""Clips of RISE: sure labels alone, frames of videos or folders, cameras on one side."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.config import ConfigError
from wsss.data import RawDataset
from wsss.data.rise import Rise, RiseSettings, clip_label

FRAMES = 9


def _clip_frames(name: str) -> np.ndarray:
    """(T, H, W, 3) uint8: frame t is grey level 20 t, with a corner that tells clips apart."""
    frames = np.zeros((FRAMES, 24, 24, 3), np.uint8)
    frames += (20 * np.arange(FRAMES, dtype=np.uint8))[:, None, None, None]
    frames[:, :6, :6] = sum(name.encode()) % 200
    return frames


def write_rise(root: Path, labels: dict[str, tuple[int, int]], *, videos: bool = False) -> Path:
    """The metadata as published, and a folder of frames (or a video) per clip."""
    rows = [
        {
            "id": at,
            "file_name": name,
            "label_state_admin": admin,
            "label_state": citizens,
            "camera_id": int(name.split("-")[0]),
            "view_id": int(name.split("-")[1]),
            "url_part": f"2018-05-11/{name}.mp4",
            "url_root": "https://example.org/videos/180/",
        }
        for at, (name, (admin, citizens)) in enumerate(labels.items())
    ]
    root.mkdir(parents=True)
    (root / "metadata.json").write_text(json.dumps(rows))
    for name in labels:
        frames = [Image.fromarray(frame) for frame in _clip_frames(name)]
        folder = root / "videos"
        folder.mkdir(exist_ok=True)
        if videos:  # which needs no ffmpeg
            frames[0].save(folder / f"{name}.gif", save_all=True, append_images=frames[1:])
            continue
        (folder / name).mkdir()
        for number, frame in enumerate(frames):
            frame.save(folder / name / f"{number:02}.png")
    return root


def rise_labels() -> dict[str, tuple[int, int]]:
    """Three views with clips of smoke and without, and some in doubt."""
    found = {}
    for view in range(3):
        for day, codes in enumerate([(47, -1), (32, 5), (-1, 23), (-1, 16), (23, 16), (16, 23)]):
            found[f"0-{view}-2018-05-{day + 1:02}-6304-964-1"] = codes
    doubt = {"-1": (-1, 19), "-2": (-1, 5), "-3": (3, 20), "-4": (-2, 23), "-5": (-1, -2)}
    return found | {f"1-1-2019-01-01-0-0{end}": codes for end, codes in doubt.items()}


def _collect(root: Path, **settings: Any) -> RawDataset:
    scratch = root.parent / f"scratch {len(list(root.parent.iterdir()))}"
    return Rise(RiseSettings(root=str(root), **settings)).collect(scratch, 0)


def test_codes_mean_what_was_published() -> None:
    """Gold standard first, then researchers, then citizens; all but sure ones are in doubt."""
    positive = {code for code in range(-2, 64) if clip_label({"label_state": code})}
    negative = {code for code in range(-2, 64) if clip_label({"label_state": code}) is False}
    assert (positive, negative) == ({47, 23}, {32, 16})
    assert clip_label({"label_state_admin": 16, "label_state": 23}) is False
    assert clip_label({}) is None


def test_clips_are_tagged_and_those_in_doubt_left_out(tmp_path: Path) -> None:
    raw = _collect(write_rise(tmp_path / "set", rise_labels()))
    samples = [sample for found in raw.splits.values() for sample in found]
    assert raw.class_names == ("smoke",)
    assert len(samples) == 18
    assert sum(sample.class_ids == (1,) for sample in samples) == 9
    assert not any(sample.uncertain for sample in samples)
    for sample in samples:
        clip, number = sample.name.split("/")
        assert number == "004"  # the middle of nine
        np.testing.assert_array_equal(Image.open(sample.image), _clip_frames(clip)[4])
    (said,) = raw.warnings
    assert "3 of 23 clips have labels in doubt and are left out; 2 of bad quality" in said
    kept = _collect(tmp_path / "set", unknown="keep")
    unknown = [item for found in kept.splits.values() for item in found if item.uncertain]
    assert [item.uncertain for item in unknown] == [((1, None),)] * 3


@pytest.mark.parametrize(("group", "parts"), [("view", slice(0, 2)), ("date", slice(2, 5))])
def test_groups_are_on_one_side(tmp_path: Path, group: str, parts: slice) -> None:
    raw = _collect(write_rise(tmp_path / "set", rise_labels()), group=group)
    sides = [
        {tuple(sample.name.split("-")[parts]) for sample in found} for found in raw.splits.values()
    ]
    assert all(sides)
    assert sum(map(len, sides)) == len(set().union(*sides))
    assert len(raw.splits["val"]) >= 0.3 * 18


def test_frames_are_spread_evenly(tmp_path: Path) -> None:
    root = write_rise(tmp_path / "set", rise_labels())
    for count, wanted in ((3, [1, 4, 7]), (50, list(range(9)))):
        raw = _collect(root, frames_per_clip=count)
        first = raw.splits["train"][0].name.partition("/")[0]
        numbers = [int(item.name[-3:]) for item in raw.splits["train"] if first in item.name]
        assert numbers == wanted


def test_videos_are_read_where_the_library_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imageio")
    root = write_rise(tmp_path / "set", rise_labels(), videos=True)
    raw = _collect(root)
    assert not raw.problems
    for sample in raw.splits["train"]:
        clip = sample.name.partition("/")[0]
        pixels = np.asarray(Image.open(sample.image)).astype(int)
        assert abs(pixels - _clip_frames(clip)[4]).max() <= 4  # colours of a GIF
    broken = root / "videos" / f"{next(iter(rise_labels()))}.gif"
    broken.write_bytes(b"no video")
    assert "cannot be read as a video" in _collect(root).problems[0].reason
    monkeypatch.setitem(sys.modules, "imageio.v3", None)
    with pytest.raises(ConfigError, match=r"pip install 'wsss\[video\]'"):
        _collect(root)


def test_what_cannot_be_is_named(tmp_path: Path) -> None:
    one_view = {name: codes for name, codes in rise_labels().items() if name.startswith("0-1")}
    root = write_rise(tmp_path / "set", one_view)
    with pytest.raises(ConfigError, match=r"of one view, .* set dataset\.group to clip"):
        _collect(root)
    assert _collect(root, group="clip").splits["val"]
    doubt = dict.fromkeys(one_view, (-1, 5))
    with pytest.raises(ValueError, match=r"none of the 6 clips .* has a gold or sure label"):
        _collect(write_rise(tmp_path / "other", doubt))
    (root / "metadata.json").write_text('[{"file_name": "clip1"}]')
    with pytest.raises(ValueError, match="clip 1: file_name is 'clip1', but begins with camera"):
        _collect(root)
