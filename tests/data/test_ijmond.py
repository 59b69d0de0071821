"""IJmond's frames: crops cover every pixel, tags are what is drawn in them, votes are shares."""

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsss.config import ConfigError
from wsss.data import RawDataset, RawSample
from wsss.data.ijmond import Ijmond, IjmondSettings, crop_starts

SIZE = (60, 96)
HIGH, LOW = 1, 2


def write_ijmond(
    root: Path, masks: dict[str, np.ndarray | None], votes: dict[str, tuple[int, int]]
) -> Path:
    """Frames, those with a mask (1 high, 2 low opacity; None: nothing drawn) in COCO's layout."""
    (root / "frames").mkdir(parents=True)
    images, annotations = [], []
    for number, name in enumerate(sorted({*masks, *votes}), 1):
        rng = np.random.default_rng(list(name.encode()))
        pixels = rng.integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(root / "frames" / f"{name}.png")
        if name not in masks:
            continue
        images.append(
            {"id": number, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}
        )
        mask = masks[name]
        for category in (HIGH, LOW) if mask is not None else ():
            inside = mask == category
            if inside.any():
                runs = np.flatnonzero(np.diff(inside.T.ravel(), prepend=False, append=False))
                counts = np.diff([0, *runs, inside.size]).tolist()
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": number,
                        "category_id": category,
                        "segmentation": {"size": list(SIZE), "counts": counts},
                    }
                )
    names = {HIGH: "High-opacity-smoke", LOW: "low_opacity_smoke", 0: "smoke"}
    tree = {
        "images": images,
        "categories": [{"id": at, "name": name} for at, name in names.items()],
        "annotations": annotations,
    }
    (root / "annotations.json").write_text(json.dumps(tree))
    with (root / "votes.csv").open("w", newline="") as file:
        rows = [("frame", "yes", "no"), *((f"{name}.png", *own) for name, own in votes.items())]
        csv.writer(file).writerows(rows)
    return root


def smoke_masks(count: int = 4) -> dict[str, np.ndarray | None]:
    """Frames with a block of high and one of low opacity, and one without smoke."""
    masks: dict[str, np.ndarray | None] = {}
    for index in range(count):
        mask = np.zeros(SIZE, np.uint8)
        mask[4:14, 3 + index : 20] = HIGH
        mask[12:22, 10:24] = LOW
        masks[f"cam_{index}"] = mask
    return masks | {"clear": None}


VOTES = {"yes": (3, 1), "no": (0, 4), "tie": (2, 2), "sure": (5, 0), "cam_0": (0, 9)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_ijmond(tmp_path / "set", smoke_masks(), VOTES)


def _collect(root: Path, **settings: Any) -> RawDataset:
    scratch = root.parent / f"scratch {len(list(root.parent.iterdir()))}"
    settings = {"crop": 32} | settings
    return Ijmond(IjmondSettings(root=str(root), **settings)).collect(scratch, 0)


def _samples(raw: RawDataset) -> dict[str, RawSample]:
    return {sample.name: sample for samples in raw.splits.values() for sample in samples}


@given(st.integers(1, 3000), st.integers(1, 700))
def test_crops_cover_a_side_with_as_few_as_can_be(length: int, side: int) -> None:
    starts = crop_starts(length, side)
    assert starts[0] == 0
    if side < length:
        assert starts[-1] == length - side
        assert len(starts) == -(-length // side)
        assert all(0 < b - a <= side for a, b in pairwise(starts))


def test_a_frame_of_theirs_is_twelve_crops() -> None:
    assert (crop_starts(1920, 512), crop_starts(1280, 512)) == ([0, 469, 939, 1408], [0, 384, 768])


def test_crops_are_the_pixels_of_the_frame_and_tags_what_is_drawn_there(root: Path) -> None:
    raw = _collect(root)
    assert raw.class_names == ("smoke",)
    frames = smoke_masks()
    val = {sample.name: sample for sample in raw.splits["val"]}
    assert len(val) == 5 * 2 * 3  # frames with annotations; others have votes alone
    for name, mask in frames.items():
        truth = np.zeros(SIZE, bool) if mask is None else mask > 0
        pixels = np.asarray(Image.open(root / "frames" / f"{name}.png"))
        seen = np.zeros(SIZE, bool)
        for row, top in enumerate(crop_starts(SIZE[0], 32)):
            for column, left in enumerate(crop_starts(SIZE[1], 32)):
                at = slice(top, top + 32), slice(left, left + 32)
                sample = val[f"{name}/{row}_{column}"]
                np.testing.assert_array_equal(Image.open(sample.image), pixels[at])
                np.testing.assert_array_equal(Image.open(sample.mask), truth[at])
                assert sample.class_ids == ((1,) if truth[at].any() else ())
                assert not sample.uncertain
                seen[at] = True
        assert seen.all()


def test_votes_are_probabilities_of_whole_frames(root: Path) -> None:
    raw = _collect(root)
    found = {
        name: (sample.class_ids, sample.uncertain)
        for name, sample in _samples(raw).items()
        if name.partition("/")[0] in VOTES and not name.startswith("cam_0")
    }
    clear = {f"no/{row}_{column}": ((), ()) for row in range(2) for column in range(3)}
    assert found == clear | {
        "yes/0_0": ((1,), ((1, 0.75),)),
        "tie/0_0": ((), ((1, None),)),
        "sure/0_0": ((1,), ()),
    }
    whole = _samples(raw)["yes/0_0"]
    assert Image.open(whole.image).size == SIZE[::-1]
    assert whole.mask is None
    cut = _collect(root, voted_frames="crops")
    assert sum(name.startswith("yes/") for name in _samples(cut)) == 6
    assert any("3 frames with votes alone are cut" in text for text in cut.warnings)


def test_opacities_are_two_classes_where_that_is_wanted(root: Path) -> None:
    raw = _collect(root, opacities="separate", crop=0)
    assert raw.class_names == ("high-opacity smoke", "low-opacity smoke")
    samples = _samples(raw)
    wanted = smoke_masks()["cam_1"]
    np.testing.assert_array_equal(Image.open(samples["cam_1/0_0"].mask), wanted)
    assert samples["cam_1/0_0"].class_ids == (1, 2)
    assert samples["yes/0_0"].uncertain == ((1, None), (2, None))


def test_crops_of_a_frame_are_in_one_split(root: Path) -> None:
    raw = _collect(root, votes=None)
    frames = [
        {sample.name.partition("/")[0] for sample in samples} for samples in raw.splits.values()
    ]
    assert sum(map(len, frames)) == len(set().union(*frames)) == 5
    assert all(frames)
    (root / "list.txt").write_text("cam_2.png\nyes\n")
    listed = _collect(root, val="list.txt")
    names = {sample.name.partition("/")[0] for sample in listed.splits["val"]}
    assert names == {"cam_2", "yes"}


def test_a_share_that_is_too_small_is_no_tag(root: Path) -> None:
    samples = _samples(_collect(root, min_share=0.2))
    truth = smoke_masks()["cam_0"]
    assert truth is not None
    for name, sample in samples.items():
        if sample.mask is not None:
            share = np.asarray(Image.open(sample.mask)).mean()
            assert sample.class_ids == ((1,) if share >= 0.2 else ()), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"categories": [{"id": 1, "name": "steam"}, {"id": 2, "name": "low"}]}, "'steam', which"),
        ({"images": []}, "is of the image_id 1, which none"),
        (
            {"annotations": [{"id": 3, "image_id": 1, "category_id": 1}]},
            "a box does not say where",
        ),
        ({"annotations": None}, "lists images, annotations and categories"),
    ],
)
def test_files_that_do_not_fit_name_the_place(root: Path, change: dict, said: str) -> None:
    tree = json.loads((root / "annotations.json").read_text())
    (root / "annotations.json").write_text(json.dumps(tree | change))
    with pytest.raises(ValueError, match=said):
        _collect(root)


def test_other_faults_are_named(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.votes: .*none.csv is not a file; name it, or"):
        _collect(root, votes="none.csv")
    (root / "votes.csv").write_text("frame,yes,no\na.png,3\n")
    with pytest.raises(
        ValueError, match=r"line 2: a\.png,3, but a line is a frame and two numbers"
    ):
        _collect(root)
    tree = json.loads((root / "annotations.json").read_text())
    tree["images"][0]["height"] = 70
    (root / "annotations.json").write_text(json.dumps(tree))
    raw = _collect(root, votes=None)
    assert len(raw.problems) == 1
    assert "was drawn on 70 x 96 pixels" in raw.problems[0].reason
