"""The layer of corrections: nothing is lost, the newer counts, and each file speaks for itself."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from wsss.artifacts import (
    CORRECTIONS,
    SPLITS,
    Corrections,
    Manifest,
    contents,
    mask_hash,
    mask_of_size,
    read_label_png,
    write_label_png,
)

MASK = np.array([[0, 1, 255], [2, 2, 0]], np.uint8)
NOON = "2026-03-01T12:00:00Z"


def add(root: Path, name: str = "a", mask: np.ndarray = MASK, **said: Any) -> Path:
    given: dict[str, Any] = {
        "who": "Ada",
        "when": NOON,
        "origin": "pseudo_masks",
        "origin_hash": "0f",
        **said,
    }
    return Corrections.add(root, name, mask, **given)


def test_a_project_without_any_has_none(tmp_path: Path) -> None:
    found = Corrections.read(tmp_path)
    assert found.entries == ()
    assert found.names == frozenset()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    mask=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9)),
    name=st.lists(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0."),
            min_size=1,
            max_size=6,
        ),
        min_size=1,
        max_size=3,
    ).map("/".join),
    who=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9),
)
def test_what_is_added_is_read_again(tmp_path: Path, mask: np.ndarray, name: str, who: str) -> None:
    root = tmp_path / str(len(list(tmp_path.iterdir())))
    root.mkdir()
    if not who.split():
        with pytest.raises(ValueError, match="needs to say who made it"):
            add(root, name, mask, who=who)
        return
    path = add(root, name, mask, who=who)
    (entry,) = Corrections.read(root).entries
    assert (entry.image, entry.who, entry.when) == (name, " ".join(who.split()), NOON)
    assert (entry.origin, entry.origin_hash, entry.file) == ("pseudo_masks", "0f", path)
    assert (read_label_png(path) == mask).all()
    assert (Corrections.read(root).read_mask(name, mask.shape) == mask).all()


def test_the_newer_counts_whatever_the_order_and_both_are_kept(tmp_path: Path) -> None:
    newer = add(tmp_path, mask=MASK + 1, who="Grace", when="2026-03-01T13:30:00+01:00")
    older = add(tmp_path)
    found = Corrections.read(tmp_path)
    assert [entry.file for entry in found.entries] == [older, newer]
    assert found.mask_path("a") == newer
    assert [found.older(entry) for entry in found.entries] == [True, False]
    assert found.entries[1].when == "2026-03-01T12:30:00Z"


def test_the_same_correction_twice_is_one_and_its_bytes_stay(tmp_path: Path) -> None:
    first = add(tmp_path).read_bytes()
    path = add(tmp_path)
    assert path.read_bytes() == first
    assert len(Corrections.read(tmp_path).entries) == 1


def test_two_folders_put_together_lose_nothing(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    add(here, "x/a")
    add(here, "x")  # a name that is the folder of another
    add(there, "x/a", MASK[:, ::-1].copy(), who="Grace", when="2026-03-02T00:00:00Z")
    shutil.copytree(there / CORRECTIONS, here / CORRECTIONS, dirs_exist_ok=True)
    found = Corrections.read(here)
    assert [(entry.image, entry.who) for entry in found.entries] == [
        ("x", "Ada"),
        ("x/a", "Ada"),
        ("x/a", "Grace"),
    ]
    assert (found.read_mask("x/a", (2, 3)) == MASK[:, ::-1]).all()


@pytest.mark.parametrize("name", ["", "../a", "/a", "x/../../a", "x\\a"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name of an image"):
        add(tmp_path, name)
    assert not (tmp_path / CORRECTIONS).exists()


@pytest.mark.parametrize(
    ("when", "said"),
    [("yesterday", "is no time; write it as ISO 8601"), ("2026-03-01T12:00:00", "no time zone")],
)
def test_a_time_is_a_moment(tmp_path: Path, when: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        add(tmp_path, when=when)


def test_other_values_are_no_mask(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mask must be uint8"):
        add(tmp_path, mask=np.full((2, 2), 300))


def test_a_file_that_says_nothing_is_named(tmp_path: Path) -> None:
    stray = tmp_path / CORRECTIONS / "a/mask.png"
    write_label_png(stray, MASK)
    with pytest.raises(ValueError, match=r"mask\.png is no correction.*wsss annotations import"):
        Corrections.read(tmp_path)


def test_a_file_that_was_moved_or_cut_short_is_named(tmp_path: Path) -> None:
    path = add(tmp_path)
    (tmp_path / CORRECTIONS / "b").mkdir()
    moved = path.rename(tmp_path / CORRECTIONS / "b" / path.name)
    with pytest.raises(ValueError, match=r"correction of 'a', and lies in the folder of 'b'"):
        Corrections.read(tmp_path)
    moved.write_bytes(moved.read_bytes()[:60])
    with pytest.raises(ValueError, match="is no correction"):
        Corrections.read(tmp_path)


def test_a_folder_that_dvc_knows_and_has_not_fetched_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/corrections.dvc").touch()
    with pytest.raises(ValueError, match=r"dvc pull .*corrections\.dvc"):
        Corrections.read(tmp_path)


def test_another_correction_is_other_contents(tmp_path: Path) -> None:
    add(tmp_path)
    before = contents(tmp_path / CORRECTIONS)
    add(tmp_path, who="Grace")
    assert contents(tmp_path / CORRECTIONS) != before


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_a_mask_of_the_original_is_shrunk_as_the_original_is(
    height: int, width: int, long_side: int, seed: int
) -> None:
    """By the rule of prepare_data.long_side_max: the longer side, the other one rounded."""
    mask = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    factor = min(1.0, long_side / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    wanted = np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    assert (mask_of_size(mask, size) == wanted).all()


@pytest.mark.parametrize("size", [(30, 20), (20, 31), (40, 50), (20, 20), (1, 30)])
def test_another_shape_is_another_image(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="which is another shape"):
        mask_of_size(np.zeros((20, 30), np.uint8), size)


def test_a_hash_is_of_size_and_values_alone() -> None:
    assert mask_hash(MASK) == mask_hash(np.asfortranarray(MASK))
    assert mask_hash(MASK) != mask_hash(MASK.T.copy())
    assert mask_hash(MASK) != mask_hash(MASK + 1)


def test_classes_are_meant_by_their_names(tmp_path: Path) -> None:
    """Another class in between must not make cats of dogs."""
    Manifest(("cat", "dog"), dict.fromkeys(SPLITS, ())).write(tmp_path / "data/splits")
    add(tmp_path)
    found = Corrections.read(tmp_path)
    assert found.entries[0].classes == ((1, "cat"), (2, "dog"))
    assert (found.read_mask("a", (2, 3), ("cat", "dog")) == MASK).all()
    assert found.read_mask("a", (2, 3), ("dog", "bird", "cat")).tolist() == [[0, 3, 255], [1, 1, 0]]
    with pytest.raises(ValueError, match="shows 'dog', which is no class of the data set any more"):
        found.read_mask("a", (2, 3), ("cat", "cow"))


def test_a_value_without_a_name_must_be_a_class(tmp_path: Path) -> None:
    add(tmp_path, class_names=())
    with pytest.raises(ValueError, match=r"holds 2, but masks hold 0 \(background\), 1\.\.1"):
        Corrections.read(tmp_path).read_mask("a", (2, 3), ("cat",))
