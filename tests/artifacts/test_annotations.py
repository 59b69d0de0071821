from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsss.artifacts import Annotations, Box, Sample, write_label_png

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8
)
whole = st.integers(0, 9999)
boxes = st.lists(st.builds(Box, whole, whole, whole, whole, whole), min_size=1).map(tuple)


def of(folder: Path, **given: Any) -> Annotations:
    return Annotations(folder / "masks", folder / "partial", **given)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.frozensets(names), st.frozensets(names), st.dictionaries(names, boxes))
def test_round_trip_of_any_names(
    tmp_path: Path,
    masks: frozenset[str],
    seeds: frozenset[str],
    found: dict[str, tuple[Box, ...]],
) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    annotations = of(folder, masks=masks, seeds=seeds, boxes=found)
    for name in masks:
        annotations.mask_path(name).parent.mkdir(parents=True, exist_ok=True)
        annotations.mask_path(name).touch()
    annotations.write()
    assert Annotations.read(folder) == annotations


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    annotations = of(tmp_path, boxes={"a": (Box(1, 0, 0, 2, 2),)})
    annotations.write()
    with (annotations.partial_folder / "annotations.jsonl").open("a") as lines:
        lines.write('{"name": "b"}')
    with pytest.raises(ValueError, match=r"annotations\.jsonl, line 2: .*seeds"):
        Annotations.read(tmp_path)


def test_a_class_is_inside_any_of_its_boxes_and_anywhere_without_one(tmp_path: Path) -> None:
    found = {"a": (Box(1, 0, 0, 1, 2), Box(1, 2, 1, 3, 3), Box(2, 0, 0, 3, 3))}
    annotations = of(tmp_path, boxes=found)
    inside = annotations.inside("a", (3, 3))
    assert inside.keys() == {1, 2}
    assert inside[1].tolist() == [[True, True, False], [False] * 3, [False, True, True]]
    assert inside[2].all()
    assert annotations.inside("b", (3, 3)) == {}


def test_masks_and_seeds_are_those_of_their_images_alone(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [255, 2]], np.uint8)
    annotations = of(tmp_path, masks=frozenset({"x/a"}), seeds=frozenset({"b"}))
    write_label_png(annotations.mask_path("x/a"), mask)
    write_label_png(annotations.seeds_path("b"), mask)
    assert np.array_equal(annotations.mask("x/a"), mask)
    assert np.array_equal(annotations.seed_map("b"), mask)
    assert annotations.mask("b") is annotations.seed_map("x/a") is None


def test_a_project_of_tags_alone_has_no_annotations(tmp_path: Path) -> None:
    found = Annotations.read(tmp_path / "nothing")
    assert not (found.masks or found.seeds or found.boxes)


def test_what_is_drawn_settles_what_nobody_was_certain_of(tmp_path: Path) -> None:
    doubts = ((1, None), (2, 0.75), (3, 0.25))
    sample = Sample("a", "a.png", (1, 4), (2, 4), uncertain=doubts)
    boxes = {"a": (Box(3, 0, 0, 1, 2),)}
    found = of(tmp_path, boxes=boxes).settled(sample)
    assert (found.class_ids, found.uncertain) == ((2, 3, 4), doubts[:2])
    write_label_png(of(tmp_path).seeds_path("a"), np.array([[1, 255, 0, 255]], np.uint8))
    found = of(tmp_path, seeds=frozenset("a"), boxes=boxes).settled(sample)
    assert (found.class_ids, found.uncertain) == ((1, 2, 3, 4), doubts[1:2])
    write_label_png(of(tmp_path).mask_path("a"), np.array([[1, 255, 0, 4]], np.uint8))
    found = of(tmp_path, masks=frozenset("a")).settled(sample)
    assert (found.class_ids, found.uncertain) == ((1, 4), ())
    assert of(tmp_path).settled(sample) == sample
