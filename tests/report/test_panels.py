from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Manifest, Sample, ScoreMap, write_label_png, write_score_map
from wsss.report import choose_samples, panels, write_panel
from wsss.report.panels import CELL, GAP, HEAD, overlay_mask, overlay_scores


class Tree:
    """The folders of a pipeline, as stages have them."""

    def __init__(self, root: Path) -> None:
        self.images, self.masks = root / "images", root / "masks"
        self.cams, self.pseudo_masks = root / "cams", root / "pseudo_masks"
        self.predictions = root / "predictions"
        self.root = root

    def refined(self, chain: str) -> Path:
        return self.root / "refined" / chain

    def report(self, name: str, suffix: str = ".json") -> Path:
        return self.root / "reports" / f"{name}{suffix}"


def sample(name: str, *class_ids: int) -> Sample:
    return Sample(name, f"{name}.png", (40, 60), class_ids, f"{name}.png")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Two black images with everything a pipeline makes; class 1 fills the left half."""
    found = Tree(tmp_path)
    found.images.mkdir()
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
        ("refine_cams_crf", [BLACK, SCORES, SCORES]),
        ("make_pseudo_masks", [BLACK, SCORES, SCORES, MASK]),
        ("predict_masks", [BLACK, SCORES, SCORES, MASK, MASK]),
        ("evaluate_cams", [BLACK, SCORES, MASK]),
        ("evaluate_refined_crf", [BLACK, SCORES, SCORES, MASK]),
        ("evaluate_segmenter", [BLACK, SCORES, SCORES, MASK, MASK, MASK]),
    ],
)
def test_each_stage_shows_its_columns(tree: Tree, stage: str, cells: list[list[int]]) -> None:
    path = write_panel(tree, MANIFEST, stage, chain="crf")
    assert path == tree.root / "reports" / stage / "panel.png"
    assert columns_of(path) == cells


def test_a_threshold_shows_what_is_above_it(tree: Tree) -> None:
    below = write_panel(tree, MANIFEST, "evaluate_refined_crf", chain="crf", threshold=0.9)
    assert columns_of(below) == [BLACK, SCORES, SCORES, MASK, MASK]
    above = write_panel(tree, MANIFEST, "evaluate_refined_crf", chain="crf", threshold=1)
    assert columns_of(above) == [BLACK, SCORES, SCORES, BLACK, MASK]


def test_a_large_image_looks_as_a_small_one(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "DRAWN", (30, 30))
    path = write_panel(tree, MANIFEST, "evaluate_refined_crf", chain="crf", threshold=0.5)
    assert columns_of(path) == [BLACK, SCORES, SCORES, MASK, MASK]


def test_only_evaluation_opens_ground_truth(tree: Tree) -> None:
    for mask in tree.masks.iterdir():
        mask.write_bytes(b"not a mask")
    write_panel(tree, MANIFEST, "predict_masks", chain="crf")
    with pytest.raises(ValueError, match="can not be read"):
        write_panel(tree, MANIFEST, "evaluate_segmenter", chain="crf")


def test_columns_that_do_not_exist_are_left_out(tree: Tree) -> None:
    for path in tree.pseudo_masks.iterdir():
        path.unlink()
    path = write_panel(tree, MANIFEST, "predict_masks", chain="other")
    assert columns_of(path) == [BLACK, SCORES, MASK]


def test_same_bytes_each_time(tree: Tree) -> None:
    first = write_panel(tree, MANIFEST, "evaluate_segmenter", chain="crf").read_bytes()
    assert write_panel(tree, MANIFEST, "evaluate_segmenter", chain="crf").read_bytes() == first


def test_images_without_tags_masks_or_files(tree: Tree) -> None:
    bare = replace(sample("a"), mask=None)
    (tree.cams / "a.npz").unlink()
    manifest = replace(MANIFEST, splits={"train": (bare,), "selection": (), "val": ()})
    assert columns_of(write_panel(tree, manifest, "evaluate_cams")) == [BLACK, WHITE, WHITE]
    nothing = replace(MANIFEST, splits={"train": (), "selection": (), "val": ()})
    assert write_panel(tree, nothing, "evaluate_cams").is_file()


def test_choice_shows_all_classes_first() -> None:
    rows = [sample("a", 1), sample("b", 1), sample("c", 2), sample("d", 1), sample("e", 3)]
    assert [one.name for one in choose_samples(rows, 3)] == ["a", "c", "e"]
    assert [one.name for one in choose_samples(rows, 4)] == ["a", "b", "c", "e"]
    assert choose_samples(rows, 9) == rows
    assert choose_samples([], 3) == []


def test_background_keeps_its_brightness_and_scores_fade_with_their_height() -> None:
    image = np.full((1, 4, 3), 100, np.uint8)
    shown = overlay_mask(image, np.array([[0, 1, 2, 255]], np.uint8))
    assert shown[0, 0].tolist() == [100, 100, 100]
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 4
    scores = np.array([[[0, 0.3, 0.6, 1]], [[0, 0, 0.7, 0]]], np.float32)
    score_map = ScoreMap(np.array([1, 2], np.uint8), scores, (1, 4), np.ones(2, np.float32))
    red, green, blue = overlay_scores(image, score_map)[0].T.astype(int)
    assert (red[0], green[0], blue[0]) == (100, 100, 100)
    assert green[0] > green[1] > green[3]  # class 1 is dark red
    assert green[2] > red[2]  # class 2 is dark green and wins there
