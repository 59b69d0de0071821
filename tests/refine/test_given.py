"""Boxes and seeds on score maps: what a chain gives back lies within them, whatever is in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss.artifacts import Annotations, Box, ScoreMap, write_label_png
from wsss.refine import Chain, Context
from wsss.refine.dense_crf import DenseCrfSettings
from wsss.refine.given import bounded, seeded
from wsss.refine.pamr import PamrSettings

SIZE = (24, 32)
CHAINS = {
    "none": [],
    "crf": [DenseCrfSettings(n_iters=2)],
    "both": [PamrSettings(), DenseCrfSettings(n_iters=2)],
}


def score_map(rng: np.random.Generator, grid: tuple[int, int]) -> ScoreMap:
    scores = rng.random((2, *grid), np.float32)
    return ScoreMap(np.array([1, 3], np.uint8), scores, SIZE, np.ones(2, np.float32))


def annotations(folder: Path) -> Annotations:
    """Of the image "a" two boxes of class 3 and four seeds; of "b" nothing."""
    seeds = np.full(SIZE, 255, np.uint8)
    seeds[4, 4], seeds[12, 20], seeds[20, 4] = 1, 3, 0
    boxes = {"a": (Box(3, 8, 16, 16, 28), Box(3, 0, 24, 4, 32))}
    made = replace(Annotations.read(folder), seeds=frozenset({"a"}), boxes=boxes)
    write_label_png(made.seeds_path("a"), seeds)
    made.write()
    return made


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("grid", [(6, 8), (5, 7), SIZE, (30, 33)])
@pytest.mark.parametrize("window", [0, 16])
def test_every_chain_keeps_to_boxes_and_seeds(tmp_path, chain, grid, window):
    rng, given = np.random.default_rng(0), annotations(tmp_path)
    image, cam = rng.integers(0, 256, (*SIZE, 3), np.uint8), score_map(rng, grid)
    refine = Chain(CHAINS[chain], Context(annotations=tmp_path), window=window)
    (found,) = refine([image], [cam], ["a"])
    shape = found.scores.shape[1:]
    inside = given.inside("a", SIZE)[3]
    rows, columns = (
        (np.arange(n) * side / n).astype(int) for n, side in zip(shape, SIZE, strict=True)
    )
    cell = [-(-side // n) for n, side in zip(shape, SIZE, strict=True)]
    for y, x in np.ndindex(shape):
        top, left = rows[y], columns[x]
        if not inside[top : top + cell[0] + 1, left : left + cell[1] + 1].any():
            assert found.scores[1, y, x] == 0
    at = [
        tuple(int((a + 0.5) * n / side) for a, n, side in zip(pixel, shape, SIZE, strict=True))
        for pixel in ((4, 4), (12, 20), (20, 4))
    ]
    scores = [found.scores[:, y, x].tolist() for y, x in at]
    assert scores == [[1, 0], [0, 1], [0, 0]]
    assert found.scores[0].any() and found.scores[1].any()


@pytest.mark.parametrize("chain", CHAINS)
def test_an_image_without_annotations_gives_the_same_bits(tmp_path, chain):
    rng = np.random.default_rng(1)
    image, cam = rng.integers(0, 256, (*SIZE, 3), np.uint8), score_map(rng, (6, 8))
    annotations(tmp_path)
    (before,) = Chain(CHAINS[chain], Context())([image], [cam], ["b"])
    (after,) = Chain(CHAINS[chain], Context(annotations=tmp_path))([image], [cam], ["b"])
    assert before.scores.tobytes() == after.scores.tobytes()


@given(
    seed=st.integers(0, 1000),
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    corner=st.tuples(st.integers(0, 23), st.integers(0, 31)),
)
def test_no_grid_loses_a_box_or_a_seed(seed, grid, corner):
    """A cell lies outside of a box only if no part of it is within."""
    found = score_map(np.random.default_rng(seed), grid)
    found = replace(found, scores=np.maximum(found.scores, np.float32(0.1)))
    top, left = corner
    box = Box(3, top, left, top + 1, left + 1)
    kept = bounded(found, [box]).scores
    y, x = ((at + 0.5) * n / side for at, n, side in zip(corner, grid, SIZE, strict=True))
    assert kept[1, int(y), int(x)] > 0
    assert (kept[0] == found.scores[0]).all()
    seeds = np.full(SIZE, 255, np.uint8)
    seeds[corner] = 3
    scores = seeded(found, seeds).scores
    assert (scores[1] == 1).sum() >= 1
    assert (scores[0][scores[1] == 1] == 0).all()
    assert (scores[:, scores[1] < 1] == found.scores[:, scores[1] < 1]).all()
