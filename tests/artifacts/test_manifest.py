from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsss.artifacts import SPLITS, Manifest, Sample

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
samples = st.builds(
    Sample,
    text,
    text,
    st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
    st.sets(st.integers(1, 3)).map(lambda ids: tuple(sorted(ids))),
    st.none() | text,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.tuples(*[st.lists(samples, max_size=4).map(tuple)] * 3))
def test_round_trip_of_any_names(tmp_path: Path, splits: tuple[tuple[Sample, ...], ...]) -> None:
    manifest = Manifest(("ä b", "x", "y"), dict(zip(SPLITS, splits, strict=True)))
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest


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
