"""Each stage of a run is broken on purpose, and the first part that shows it is the one named."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    read_label_png,
    read_score_map,
    write_label_png,
    write_score_map,
)
from wsss.config.params import Params
from wsss.stages import find_stages, run_stage
from wsss.verify import ROAD, Verdict, read_expected, verify, write_expected

PARTS = [mile.name for mile in ROAD]

Apply = Callable[[Path], Params]


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def verdict_of(root: Path, params: Params) -> Verdict:
    return verify(root, params, find_stages())


def check(root: Path, params: Params, first: str) -> Verdict:
    """The part is the first that is off: all before it are on the road."""
    found = verdict_of(root, params)
    assert found.first_off is not None
    assert found.first_off.name == first
    states = {part.name: part.state for part in found.parts}
    assert all(states[name] == "on" for name in PARTS[: PARTS.index(first)])
    return found


def roll_maps(folder: Path) -> None:
    """What each map says of a pixel it now says of another one."""
    for path in sorted(folder.glob("*.npz")):
        own = read_score_map(path)
        write_score_map(path, replace(own, scores=np.roll(own.scores, 7, axis=(1, 2))))


def roll_masks(folder: Path) -> None:
    for path in sorted(folder.glob("*.png")):
        write_label_png(path, np.roll(read_label_png(path), 25, axis=(0, 1)))


def test_the_run_itself_is_on_the_road(finished: Path, after_recipe: Apply) -> None:
    found = verdict_of(finished, after_recipe(finished))
    assert [part.name for part in found.parts] == PARTS
    assert [part.state for part in found.parts] == ["on"] * len(PARTS)
    assert found.first_off is None and found.is_whole and not found.notes


def test_tags_that_were_swapped_are_data(copy: Path, after_recipe: Apply) -> None:
    """As many of each class in each split as before: no count shows it."""
    manifest = Manifest.read(Paths(copy).splits)
    train = manifest.splits["train"]
    swapped = tuple(
        replace(sample, class_ids=other.class_ids)
        for sample, other in zip(train, (*train[1:], train[0]), strict=True)
    )
    replace(manifest, splits={**manifest.splits, "train": swapped}).write(Paths(copy).splits)
    found = check(copy, after_recipe(copy), "data")
    assert found.first_off and "tags of images are others" in found.first_off.why
    assert "wsss data check" in found.first_off.look_at


def test_images_that_lost_their_light_are_data(copy: Path, after_recipe: Apply) -> None:
    manifest = Manifest.read(Paths(copy).splits)
    for sample in manifest.splits["train"]:
        path = Paths(copy).images / sample.image
        Image.fromarray(np.asarray(Image.open(path)) // 4).save(path)
    found = check(copy, after_recipe(copy), "data")
    assert found.first_off and "train/brightness" in found.first_off.why


def test_data_are_known_from_a_single_run(copy: Path, after_recipe: Apply) -> None:
    """They have no spread where all runs have the same; what is learned has one nobody knows."""
    _, expected = read_expected(copy, "tiny")
    once = expected.model_copy(update={"runs": 1, "same_data": True})
    write_expected(copy, "tiny", once)
    params = after_recipe(copy)
    states = [part.state for part in verdict_of(copy, params).parts]
    assert states == ["on"] + ["unjudged"] * 5
    for path in sorted(Paths(copy).images.glob("*")):
        Image.fromarray(np.asarray(Image.open(path)) // 4).save(path)
    check(copy, params, "data")


def test_masks_that_lost_a_class_are_data(copy: Path, after_recipe: Apply) -> None:
    paths = Paths(copy)
    for path in sorted(paths.masks.glob("*.png")):
        mask = read_label_png(path)
        write_label_png(path, np.where(mask == 1, 0, mask).astype(np.uint8))
    found = check(copy, after_recipe(copy), "data")
    assert found.first_off and "val/drawn/" in found.first_off.why


def test_a_classifier_that_did_not_learn(
    copy: Path, after_recipe: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, closure=None: None)
    params = after_recipe(copy)
    run_stage("train_classifier", params, Paths(copy))
    found = check(copy, params, "classifier")
    assert found.first_off and "val_map is" in found.first_off.why
    assert "below" in found.first_off.why


@pytest.mark.parametrize(
    ("first", "spoil", "stages"),
    [
        ("maps", lambda paths: roll_maps(paths.cams), ("evaluate_cams", "refine_cams@pamr")),
        ("refinement", lambda paths: roll_maps(paths.refined("pamr")), ()),
    ],
)
def test_maps_beside_their_objects(
    copy: Path,
    after_recipe: Apply,
    first: str,
    spoil: Callable[[Paths], None],
    stages: tuple[str, ...],
) -> None:
    """All that is made from them is off as well, and the first is named."""
    params = after_recipe(copy)
    spoil(Paths(copy))
    later = ("evaluate_refined@pamr", "make_pseudo_masks", "evaluate_pseudo_masks")
    for name in (*stages, *later):
        run_stage(name, params, Paths(copy))
    found = check(copy, params, first)
    states = {part.name: part.state for part in found.parts}
    assert states["pseudo masks"] == "off"


def test_pseudo_masks_beside_their_maps(copy: Path, after_recipe: Apply) -> None:
    params = after_recipe(copy)
    roll_masks(Paths(copy).pseudo_masks)
    run_stage("evaluate_pseudo_masks", params, Paths(copy))
    check(copy, params, "pseudo masks")


def test_a_segmenter_that_is_off(copy: Path, after_recipe: Apply) -> None:
    params = after_recipe(copy)
    roll_masks(Paths(copy).predictions / "val")
    run_stage("evaluate_segmenter", params, Paths(copy))
    found = check(copy, params, "segmenter")
    assert found.first_off and "train_segmenter_curve.csv" in found.first_off.look_at


def test_scores_that_are_too_good_are_off_as_well(copy: Path, after_recipe: Apply) -> None:
    """As where masks reach what should learn from tags alone."""
    params = after_recipe(copy)
    paths = Paths(copy)
    for sample in Manifest.read(paths.splits).all_samples():
        shutil.copyfile(paths.masks / str(sample.mask), paths.pseudo_masks / f"{sample.name}.png")
    run_stage("evaluate_pseudo_masks", params, paths)
    found = check(copy, params, "pseudo masks")
    assert found.first_off and "above" in found.first_off.why


def test_settings_that_differ_are_named_and_what_hangs_on_them_is_not_compared(
    finished: Path, after_recipe: Apply
) -> None:
    params = after_recipe(finished)
    segmenter = params.train_segmenter.model_copy(update={"epochs": 9})
    found = verdict_of(finished, params.model_copy(update={"train_segmenter": segmenter}))
    assert [part.state for part in found.parts] == ["on"] * 5 + ["not compared"]
    assert found.parts[-1].why == ("train_segmenter.epochs is 9 here, and the numbers are of 2")
    assert found.first_off is None and not found.is_whole


def test_a_recipe_that_was_changed_after_its_numbers_is_not_compared(
    copy: Path, after_recipe: Apply
) -> None:
    path = copy / "recipes/tiny.yaml"
    path.write_text(path.read_text().replace("num_train: 72", "num_train: 73"))
    found = verdict_of(copy, after_recipe(copy))
    assert {part.state for part in found.parts} == {"not compared"}
    assert "the recipe has changed since" in found.parts[0].why


def test_what_has_not_run_or_is_of_other_settings_is_not_compared(
    copy: Path, after_recipe: Apply
) -> None:
    params = after_recipe(copy)
    found = verify(copy, params, find_stages(), stale={"generate_cams"})
    assert [part.state for part in found.parts] == ["on"] * 2 + ["not compared"] * 4
    assert found.parts[2].why == (
        "generate_cams has not run with the settings and files that are there; "
        "`wsss run evaluate_cams`"
    )
    Paths(copy).report("evaluate_segmenter").unlink()
    last = verdict_of(copy, params).parts[-1]
    assert (last.state, last.why) == (
        "not compared",
        "evaluate_segmenter has not run; `wsss run evaluate_segmenter`",
    )


def test_another_seed_is_one_more_run(finished: Path, after_recipe: Apply) -> None:
    params = after_recipe(finished)
    base = params.base.model_copy(update={"rng_seed": 7})
    found = verdict_of(finished, params.model_copy(update={"base": base}))
    assert found.first_off is None
    assert "this is one more run" in found.notes[0]


def test_numbers_of_the_same_images_say_nothing_of_others(copy: Path, after_recipe: Apply) -> None:
    """Where runs differed in training alone, and another seed draws other images."""
    _, expected = read_expected(copy, "tiny")
    write_expected(copy, "tiny", expected.model_copy(update={"same_data": True}))
    params = after_recipe(copy)
    params = params.model_copy(update={"base": params.base.model_copy(update={"rng_seed": 7})})
    assert verdict_of(copy, params).first_off is None  # it still has the images of the first seed
    manifest = Manifest.read(Paths(copy).splits)
    fewer = {**manifest.splits, "train": manifest.splits["train"][1:]}
    replace(manifest, splits=fewer).write(Paths(copy).splits)
    found = verdict_of(copy, params)
    assert {part.state for part in found.parts} == {"not compared"}
    assert found.parts[0].why.startswith("base.rng_seed is 7 here, and with it the images are")
