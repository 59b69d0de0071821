import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsss.artifacts import SPLITS, Manifest, Sample

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


def _uncertain(sample: Sample, probs: dict[int, float | None]) -> Sample:
    """The sample with these probabilities, whatever its tags were before."""
    sure = set(sample.class_ids) - probs.keys()
    likely = {class_id for class_id, prob in probs.items() if prob is not None and prob >= 0.5}
    ids = tuple(sorted(sure | likely))
    return replace(sample, class_ids=ids, uncertain=tuple(sorted(probs.items())))


plain_samples = st.builds(
    Sample,
    text,
    text,
    st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
    st.sets(st.integers(1, 3)).map(lambda ids: tuple(sorted(ids))),
    st.none() | text,
)
probs = st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True)
samples = st.builds(
    _uncertain, plain_samples, st.dictionaries(st.integers(1, 3), probs, max_size=3)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.tuples(*[st.lists(samples, max_size=4).map(tuple)] * 3))
def test_round_trip_of_any_names(tmp_path: Path, splits: tuple[tuple[Sample, ...], ...]) -> None:
    manifest = Manifest(("ä b", "x", "y"), dict(zip(SPLITS, splits, strict=True)))
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest


def test_images_are_in_memory_once_however_often_they_are_asked_for(tmp_path: Path) -> None:
    """Of many images a manifest is most of what a process holds."""
    sample = Sample("a", "a.png", (4, 5), (1,))
    Manifest(("cat",), {"train": (sample,), "selection": (), "val": ()}).write(tmp_path)
    new = Manifest.read(tmp_path)  # it may be written again before the clock of files goes on
    os.utime(tmp_path / "train.jsonl", (1e9, 1e9))
    first = Manifest.read(tmp_path)
    assert new.splits["train"] is not first.splits["train"]
    assert Manifest.read(tmp_path).splits["train"] is first.splits["train"]
    other = replace(sample, name="b", image="b.png")
    Manifest(("cat",), {"train": (other,), "selection": (), "val": ()}).write(tmp_path)
    assert Manifest.read(tmp_path).splits["train"] == (other,)
    Manifest(("cat", "dog"), {"train": (other,), "selection": (), "val": ()}).write(tmp_path)
    assert Manifest.read(tmp_path).splits["train"] is not first.splits["train"]
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.jsonl"):
        Manifest.read(tmp_path)


def test_last_line_needs_no_newline(tmp_path: Path) -> None:
    sample = Sample("a", "a.png", (2, 3), (1,))
    Manifest(("x",), {"train": (sample, sample), "selection": (), "val": ()}).write(tmp_path)
    path = tmp_path / "train.jsonl"
    path.write_text(path.read_text().rstrip("\n"))
    assert Manifest.read(tmp_path).splits["train"] == (sample, sample)


def test_background_is_a_list_of_its_own_and_no_file_without_any(tmp_path: Path) -> None:
    sample = Sample("a", "a.png", (2, 3), (1,))
    extra = Sample("background/é", "background/é.jpg", (4, 5), ())
    splits = {"train": (sample,), "selection": (), "val": ()}
    manifest = Manifest(("x",), splits, (extra,))
    manifest.write(tmp_path)
    found = Manifest.read(tmp_path)
    assert found == manifest
    assert found.background == (extra,)
    assert found.all_samples() == [sample]
    Manifest(("x",), splits).write(tmp_path)
    assert Manifest.read(tmp_path).background == ()
    assert {file.name for file in tmp_path.iterdir()} == {
        "classes.json",
        "train.jsonl",
        "selection.jsonl",
        "val.jsonl",
    }


def test_background_with_a_tag_is_refused(tmp_path: Path) -> None:
    extra = Sample("background/a", "a.png", (4, 5), (1,))
    Manifest(("x",), dict.fromkeys(SPLITS, ()), (extra,)).write(tmp_path)
    with pytest.raises(
        ValueError, match=r"background\.jsonl, line 1: class_ids \[1\] must be empty"
    ):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        '{"name": "a"}',
        '{"name": "a", "image": "a", "size": 3, "class_ids": [], "mask": null}',
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str) -> None:
    sample = Sample("a", "a.png", (2, 3), (1,))
    Manifest(("x",), {"train": (), "selection": (), "val": (sample,)}).write(tmp_path)
    with (tmp_path / "val.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"val\.jsonl, line 2: "):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("class_id", [0, 3])
def test_class_ids_out_of_range_are_named(tmp_path: Path, class_id: int) -> None:
    sample = Sample("a", "a.png", (2, 3), (class_id,))
    Manifest(("x", "y"), {"train": (sample,), "selection": (), "val": ()}).write(tmp_path)
    with pytest.raises(ValueError, match=rf"line 1: class_ids \[{class_id}\] must lie in 1\.\.2"):
        Manifest.read(tmp_path)


def test_labels_are_multi_hot_without_the_background() -> None:
    manifest = Manifest(("a", "b", "c"), dict.fromkeys(SPLITS, ()))
    rows = [
        Sample("1", "1", (1, 1), (1, 3)),
        Sample("2", "2", (1, 1), ()),
        Sample("3", "3", (1, 1), (2,)),
    ]
    assert manifest.labels(rows).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_targets_are_probabilities_and_unknown_where_nobody_knows() -> None:
    manifest = Manifest(("a", "b", "c"), dict.fromkeys(SPLITS, ()))
    rows = [
        Sample("1", "1", (1, 1), (1, 3), uncertain=((1, 0.75), (2, None))),
        Sample("2", "2", (1, 1), (), uncertain=((2, 0.25),)),
        Sample("3", "3", (1, 1), (2,)),
    ]
    wanted = [[0.75, np.nan, 1], [0, 0.25, 0], [0, 1, 0]]
    np.testing.assert_array_equal(manifest.targets(rows), np.array(wanted, np.float32))
    assert manifest.labels(rows).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert [sample.unknown_ids for sample in rows] == [(2,), (), ()]


def test_manifests_of_certain_tags_say_nothing_of_uncertain_ones(tmp_path: Path) -> None:
    manifest = Manifest(("x",), dict.fromkeys(SPLITS, (Sample("a", "a.png", (2, 3), (1,)),)))
    manifest.write(tmp_path)
    row = json.loads((tmp_path / "train.jsonl").read_text())
    assert row.keys() == {"name", "image", "size", "class_ids", "mask"}


@pytest.mark.parametrize(
    ("class_ids", "uncertain", "message"),
    [
        (
            (1,),
            [[3, None]],
            r"uncertain classes \[3\] must be different, ascending and lie in 1\.\.2",
        ),
        ((1,), [[2, None], [2, 0.1]], r"\[2, 2\] must be different"),
        ((1,), [[2, 1.5]], r"the probability 1\.5 of class 2; it must lie between 0 and 1"),
        ((1,), [[1, 0.3]], r"say 0\.3 of class 1, but class_ids are \[1\]"),
        ((1,), [[2, 0.5]], r"say 0\.5 of class 2"),
        ((1,), [[1, None]], "say None of class 1"),
        ((1,), [[1]], "not a sample"),
        ((1,), [["1", "a"]], "not a sample"),
    ],
)
def test_bad_uncertain_classes_are_named(
    tmp_path: Path, class_ids: tuple[int, ...], uncertain: list[Any], message: str
) -> None:
    Manifest(("x", "y"), dict.fromkeys(SPLITS, ())).write(tmp_path)
    row = {"name": "a", "image": "a", "size": [1, 2], "class_ids": class_ids, "mask": None}
    (tmp_path / "val.jsonl").write_text(json.dumps(row | {"uncertain": uncertain}))
    with pytest.raises(ValueError, match=rf"val\.jsonl, line 1: .*{message}"):
        Manifest.read(tmp_path)
