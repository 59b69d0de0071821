"""Which columns the panel of a stage has."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample, ScoreMap, write_label_png, write_score_map
from wsss.config.params import parse_params
from wsss.pipeline import Job
from wsss.report import cells as cell_sizes
from wsss.report.cells import CELL
from wsss.report.panels import GAP, HEAD
from wsss.stages import find_stages
from wsss.tracking import NullTracker


def sample(name: str, *class_ids: int) -> Sample:
    return Sample(name, f"{name}.png", (40, 60), class_ids, f"{name}.png")


@pytest.fixture
def tree(tmp_path: Path) -> Paths:
    """Two black images with everything a pipeline makes; class 1 fills the left half."""
    found = Paths(tmp_path)
    found.images.mkdir(parents=True)
    for name in ("a", "ß c"):
        Image.new("RGB", (60, 40)).save(found.images / f"{name}.png")
        mask = np.zeros((40, 60), np.uint8)
        mask[:, :30] = 1
        for folder in (found.masks, found.pseudo_masks, found.predictions / "val"):
            write_label_png(folder / f"{name}.png", mask)
        scores = (mask[None] == 1).astype(np.float32)
        score_map = ScoreMap(np.array([1], np.uint8), scores, (40, 60), np.ones(1, np.float32))
        for folder in (found.cams, found.refined("crf")):
            write_score_map(folder / f"{name}.npz", score_map)
    return found


MANIFEST = Manifest(
    ("cat", "Ünïcode"), {"train": (), "selection": (), "val": (sample("a", 1), sample("ß c", 1, 2))}
)


PARAMS = parse_params({"refine": {"chains": {"crf": [], "other": []}}})


def write_panel(
    paths: Paths,
    manifest: Manifest,
    name: str,
    *,
    chain: str = "crf",
    threshold: float | None = None,
) -> Path:
    """Draw the panel of a stage, with the ground truth if it is an evaluation."""
    manifest.write(paths.splits)
    pipeline = find_stages()
    tree = PARAMS.model_dump(mode="json") | {"make_pseudo_masks": {"chain": chain}}
    params = parse_params(tree)
    job = Job(pipeline, pipeline.target(name, params), params, paths, NullTracker())
    job.panel(threshold, truth=name.startswith("evaluate_"))
    return paths.report(f"{job.target.report}/panel", ".png")


def columns_of(path: Path) -> list[list[int]]:
    """The colour in the middle of the left half of each cell of the first row."""
    image = np.asarray(Image.open(path))
    number = (image.shape[1] - GAP) // (CELL[1] + GAP)
    lefts = [GAP + at * (CELL[1] + GAP) for at in range(number)]
    return [image[HEAD + 60, left + CELL[1] // 4].tolist() for left in lefts]


BLACK, WHITE = [0, 0, 0], [255, 255, 255]
SCORES, MASK = [109, 0, 0], [83, 0, 0]  # of [128, 0, 0] at 0.85 and at 0.65


@pytest.mark.parametrize(
    ("stage", "cells"),
    [
        ("generate_cams", [BLACK, SCORES, WHITE]),
        ("refine_cams@crf", [BLACK, SCORES, SCORES]),
        ("make_pseudo_masks", [BLACK, SCORES, SCORES, MASK]),
        ("predict_masks", [BLACK, SCORES, SCORES, MASK, MASK]),
        ("evaluate_cams", [BLACK, SCORES, MASK]),
        ("evaluate_refined@crf", [BLACK, SCORES, SCORES, MASK]),
        ("evaluate_segmenter", [BLACK, SCORES, SCORES, MASK, MASK, MASK]),
    ],
)
def test_each_stage_shows_its_columns(tree: Paths, stage: str, cells: list[list[int]]) -> None:
    path = write_panel(tree, MANIFEST, stage)
    assert path == tree.root / "reports" / stage.replace("@", "_") / "panel.png"
    assert columns_of(path) == cells


def test_a_threshold_shows_what_is_above_it(tree: Paths) -> None:
    below = write_panel(tree, MANIFEST, "evaluate_refined@crf", threshold=0.9)
    assert columns_of(below) == [BLACK, SCORES, SCORES, MASK, MASK]
    above = write_panel(tree, MANIFEST, "evaluate_refined@crf", threshold=1)
    assert columns_of(above) == [BLACK, SCORES, SCORES, BLACK, MASK]


def test_a_large_image_looks_as_a_small_one(tree: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_sizes, "DRAWN", (30, 30))
    path = write_panel(tree, MANIFEST, "evaluate_refined@crf", threshold=0.5)
    assert columns_of(path) == [BLACK, SCORES, SCORES, MASK, MASK]


def test_only_evaluation_opens_ground_truth(tree: Paths) -> None:
    for mask in tree.masks.iterdir():
        mask.write_bytes(b"not a mask")
    write_panel(tree, MANIFEST, "predict_masks")
    with pytest.raises(ValueError, match="cannot be read"):
        write_panel(tree, MANIFEST, "evaluate_segmenter")


def test_columns_that_do_not_exist_are_left_out(tree: Paths) -> None:
    for path in tree.pseudo_masks.iterdir():
        path.unlink()
    path = write_panel(tree, MANIFEST, "predict_masks", chain="other")
    assert columns_of(path) == [BLACK, SCORES, MASK]


def test_same_bytes_each_time(tree: Paths) -> None:
    first = write_panel(tree, MANIFEST, "evaluate_segmenter").read_bytes()
    assert write_panel(tree, MANIFEST, "evaluate_segmenter").read_bytes() == first


def test_images_without_tags_masks_or_files(tree: Paths) -> None:
    bare = replace(sample("a"), mask=None)
    (tree.cams / "a.npz").unlink()
    manifest = replace(MANIFEST, splits={"train": (bare,), "selection": (), "val": ()})
    assert columns_of(write_panel(tree, manifest, "evaluate_cams")) == [BLACK, WHITE, WHITE]
    nothing = replace(MANIFEST, splits={"train": (), "selection": (), "val": ()})
    assert write_panel(tree, nothing, "evaluate_cams").is_file()
