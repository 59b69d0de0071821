"""Data sets that are scored beside val: the same numbers as val, and nothing learned from them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    ScoreMap,
    read_json,
    read_label_png,
    write_label_png,
    write_score_map,
)
from wsss.cli.compare import select
from wsss.config import ConfigError
from wsss.config.params import parse_params
from wsss.pipeline.outcome import report_scores
from wsss.stages import run_stage

SIZE = (12, 16)
CHAIN = {"refine": {"chains": {"none": []}}, "make_pseudo_masks": {"chain": "none"}}


def _write_set(
    root: Path, classes: tuple[str, ...], names: list[str], seed: int = 0, empty: int = 2
) -> dict[str, Any]:
    """A folder of images with a block of a class each, the last ones without any; its settings."""
    rng = np.random.default_rng(seed)
    rows = [("image", "tags")]
    for index, name in enumerate(names):
        known = index % 2 if index < len(names) - empty else None
        tag = ("cat", "dog")[known] if known is not None else "none"
        mask = np.zeros(SIZE, np.uint8)
        if known is not None:
            y, x = rng.integers(0, 6, 2)
            mask[y : y + 5, x : x + 7] = classes.index(tag) + 1
        path = root / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(path)
        write_label_png(root / "masks" / f"{name}.png", mask)
        rows.append((f"{name}.png", tag))
    with (root / "tags.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return {
        "name": "folder",
        "root": str(root),
        "images": "images",
        "tags": "tags.csv",
        "masks": "masks",
        "classes": list(classes),
    }


NAMES = [f"pic{index:02}" for index in range(20)]
VAL = NAMES[-6:]


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """A data set whose last six images are val."""
    settings = _write_set(tmp_path / "own", ("cat", "dog"), NAMES)
    (tmp_path / "own/val.txt").write_text("\n".join(VAL))
    return settings | {"val": "val.txt"}


def _prepare(
    tmp_path: Path, own: dict[str, Any], sets: dict[str, Any], **further: Any
) -> tuple[Paths, dict[str, Any]]:
    paths = Paths(tmp_path / "project")
    paths.root.mkdir(exist_ok=True)
    tree = CHAIN | {"prepare_data": {"dataset": own, "scored_sets": sets, **further}}
    run_stage("prepare_data", parse_params(tree), paths)
    return paths, read_json(paths.report("prepare_data"))


def _evaluate(stage: str, paths: Paths) -> dict[str, Any]:
    run_stage(stage, parse_params(CHAIN), paths)
    return read_json(paths.report(stage))


@pytest.mark.parametrize("classes", [("cat", "dog"), ("dog", "Cat"), ("cow", "dog", "cat")])
def test_the_same_images_have_the_values_of_val(
    tmp_path: Path, own: dict[str, Any], classes: tuple[str, ...]
) -> None:
    """Whatever the order of its classes, and whether it has more of them."""
    lower = tuple(name.lower() for name in classes)
    other = _write_set(tmp_path / "other", lower, NAMES) | {"classes": list(classes)}
    if classes != lower:
        table = (tmp_path / "other/tags.csv").read_text().replace("cat", "Cat")
        (tmp_path / "other/tags.csv").write_text(table)
    (tmp_path / "other/val.txt").write_text("\n".join(VAL))
    paths, report = _prepare(tmp_path, own, {"again": {"dataset": other | {"val": "val.txt"}}})
    manifest = Manifest.read(paths.splits)
    assert manifest.scored_sets == ("again",)
    assert [item.name for item in manifest.splits["again"]] == [f"again/{name}" for name in VAL]
    assert report["splits"]["again"] == report["splits"]["val"]
    for item, twin in zip(manifest.splits["val"], manifest.splits["again"], strict=True):
        assert item.class_ids == twin.class_ids
        masks = (read_label_png(paths.masks / str(name)) for name in (item.mask, twin.mask))
        np.testing.assert_array_equal(*masks)
    rng = np.random.default_rng(1)
    for split, samples in manifest.splits.items():
        for sample in samples:
            twin = sample.name.rpartition("/")[2]
            rng = np.random.default_rng(list(twin.encode()))
            guess = rng.integers(0, 3, SIZE).astype(np.uint8)
            write_label_png(paths.predictions / split / f"{sample.name}.png", guess)
            scores = rng.random((len(sample.class_ids), *SIZE), np.float32)
            ids = np.array(sample.class_ids, np.uint8)
            score_map = ScoreMap(ids, scores, SIZE, np.full(len(ids), 0.5, np.float32))
            write_score_map(paths.cams / f"{sample.name}.npz", score_map)
            write_label_png(paths.pseudo_masks / f"{sample.name}.png", guess)
    for stage in ("evaluate_cams", "evaluate_pseudo_masks", "evaluate_segmenter"):
        found = _evaluate(stage, paths)
        assert found["again"] == found["val"]
        assert 0 < found["again"]["mean_iou"] < 1
        recorded = report_scores(found)
        assert recorded["again/mean_iou"] == recorded["val/mean_iou"]
        keys = [f"{stage}/again/mean_iou", f"{stage}/again/false_alarms/area"]
        assert select(keys, []) == keys
    assert found["again"]["false_alarms"]["untagged"] == 2


def test_a_set_changes_nothing_of_the_other_splits(tmp_path: Path, own: dict[str, Any]) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    _, alone = _prepare(tmp_path / "a", own, {})
    other = _write_set(tmp_path / "other", ("cat", "dog"), NAMES, seed=5)
    paths, report = _prepare(tmp_path / "b", own, {"other": {"dataset": other, "part": "all"}})
    for split in ("train", "selection", "val"):
        assert report["splits"][split] == alone["splits"][split]
        first, second = (
            (tmp_path / name / f"project/data/splits/{split}.jsonl").read_bytes() for name in "ab"
        )
        assert first == second
    assert len(Manifest.read(paths.splits).splits["other"]) == len(NAMES)


def test_what_is_not_scored_and_what_is_not_drawn_is_said(
    tmp_path: Path, own: dict[str, Any]
) -> None:
    other = _write_set(tmp_path / "other", ("dog",), ["a", "b", "c", "d"], empty=4)
    (tmp_path / "other/tags.csv").write_text(
        "image,tags\na.png,dog\nb.png,none\nc.png,dog\nd.png,none\n"
    )
    for name in "ac":
        write_label_png(tmp_path / f"other/masks/{name}.png", np.ones(SIZE, np.uint8))
    _, report = _prepare(tmp_path, own, {"other": {"dataset": other | {"val_share": 0.5}}})
    said = "\n".join(report["warnings"])
    key = "prepare_data.scored_sets.other"
    assert f"{key}.dataset has no class cat, so that all that is found of it" in said
    assert f"its 2 validation images are scored, and 2 others are not; set {key}.part" in said
    assert report["splits"]["other"]["images"] == 2


def test_masks_that_contradict_the_tags_of_a_set_name_its_key(
    tmp_path: Path, own: dict[str, Any]
) -> None:
    other = _write_set(tmp_path / "other", ("cat", "dog"), NAMES)
    for path in (tmp_path / "other/masks").iterdir():
        mask = read_label_png(path)
        write_label_png(path, np.where(mask > 0, 200 + mask, 0).astype(np.uint8))
    sets = {"other": {"dataset": other, "part": "all"}}
    with pytest.raises(ConfigError, match=r"scored_sets\.other\.dataset\.mask_values"):
        _prepare(tmp_path, own, sets)
    values = {0: 0, 201: "cat", 202: "dog"}
    sets = {"other": {"dataset": other | {"mask_values": values}, "part": "all"}}
    paths, _ = _prepare(tmp_path, own, sets)
    assert set(np.unique(read_label_png(paths.masks / "other/pic01.png"))) == {0, 2}


def test_a_class_that_the_project_does_not_have_is_background(
    tmp_path: Path, own: dict[str, Any]
) -> None:
    other = _write_set(tmp_path / "other", ("cat", "dog"), ["a", "b", "c"], empty=0)
    table = (tmp_path / "other/tags.csv").read_text().replace("cat", "fire")
    (tmp_path / "other/tags.csv").write_text(table)
    sets = {"other": {"dataset": other | {"classes": ["fire", "dog"]}, "part": "all"}}
    paths, _ = _prepare(tmp_path, own, sets)
    samples = Manifest.read(paths.splits).splits["other"]
    assert [sample.class_ids for sample in samples] == [(), (2,), ()]
    masks = [read_label_png(paths.masks / str(sample.mask)) for sample in samples]
    assert [np.unique(mask).tolist() for mask in masks] == [[0], [0, 2], [0]]


def test_no_class_in_common_is_an_error_before_work(tmp_path: Path, own: dict[str, Any]) -> None:
    other = _write_set(tmp_path / "other", ("dog",), ["a", "b"], empty=2)
    (tmp_path / "other/tags.csv").write_text("image,tags\na.png,fire\nb.png,none\n")
    sets = {"other": {"dataset": other | {"classes": ["fire"]}, "part": "all"}}
    with pytest.raises(ConfigError, match=r"scored_sets\.other\.dataset has the classes fire, of"):
        _prepare(tmp_path, own, sets)
    assert not (tmp_path / "project/data/images").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("train", "the name 'train' is taken"),
        ("val", "the name 'val' is taken"),
        ("selection", "the name 'selection' is taken"),
        ("background", "the name 'background' is taken"),
        ("oracle", "the name 'oracle' is taken"),
        ("Smoke", "must be of a-z"),
        ("a/b", "must be of a-z"),
    ],
)
def test_names_that_are_taken_are_refused(name: str, said: str) -> None:
    sets = {name: {"dataset": {"name": "synthetic"}}}
    with pytest.raises(ConfigError, match=f"prepare_data.scored_sets.*{said}"):
        parse_params({"prepare_data": {"scored_sets": sets}})


def test_images_that_are_learned_from_are_not_scored(tmp_path: Path, own: dict[str, Any]) -> None:
    sets = {"again": {"dataset": own, "part": "all"}}
    with pytest.raises(ConfigError, match=r"has 14 images that are learned from.*part to val"):
        _prepare(tmp_path, own, sets)
    _prepare(tmp_path, own, {"again": {"dataset": own}})


def test_names_of_images_do_not_collide(tmp_path: Path, own: dict[str, Any]) -> None:
    other = _write_set(tmp_path / "other", ("cat", "dog"), ["x", "y"], empty=0)
    own_again = _write_set(tmp_path / "own", ("cat", "dog"), [*NAMES[:18], "other/x", "other/y"])
    (tmp_path / "own/val.txt").write_text("other/x\nother/y")
    sets = {"other": {"dataset": other, "part": "all"}}
    with pytest.raises(
        ValueError, match=r"the name 'other/[xy]' occurs twice, .*rename the folder 'other' of"
    ):
        _prepare(tmp_path, own_again | {"val": "val.txt"}, sets)
