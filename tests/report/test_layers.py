"""Layers of a page: opened again, they are what lay over the photograph."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import ScoreMap
from wsss.report.layers import (
    SIZES,
    fitted_size,
    mask_layer,
    outline_layer,
    photo,
    score_layer,
)
from wsss.report.overlays import COLOURS


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)).convert("RGBA"))


def test_a_mask_has_the_colours_of_its_classes_and_none_on_background() -> None:
    rng = np.random.default_rng(0)
    mask = rng.choice(np.array([0, 1, 7, 254, 255], np.uint8), (30, 40))
    drawn = opened(mask_layer(mask, 100))
    assert (drawn[..., :3][mask > 0] == COLOURS[mask[mask > 0]]).all()
    assert (drawn[..., 3][mask == 0] == 0).all()
    assert set(drawn[..., 3][mask > 0].tolist()) == {round(255 * 0.62)}


def test_a_large_mask_is_made_smaller_without_new_classes() -> None:
    mask = np.zeros((300, 200), np.uint8)
    mask[:150] = 3
    drawn = opened(mask_layer(mask, 100))
    assert drawn.shape == (100, 67, 4)
    assert (drawn[:50, :, 3] > 0).all()
    assert (drawn[50:, :, 3] == 0).all()


@pytest.mark.parametrize("classes", [1, 3, 20, 254])
def test_scores_are_as_opaque_as_they_are_high(classes: int) -> None:
    rng = np.random.default_rng(classes)
    scores = rng.random((classes, 20, 30)).astype(np.float32)
    ids = np.arange(1, classes + 1).astype(np.uint8)
    score_map = ScoreMap(ids, scores, (20, 30), np.ones(classes, np.float32))
    drawn = opened(score_layer(score_map, (20, 30)))
    levels = min(15, 255 // classes)
    best = scores.max(axis=0)
    shown = drawn[..., 3] > 0
    assert (drawn[..., :3][shown] == COLOURS[ids[scores.argmax(axis=0)]][shown]).all()
    assert np.abs(drawn[..., 3] / 255 / 0.85 - best).max() <= 0.5 / levels + 0.01


def test_an_image_without_tags_has_an_empty_layer() -> None:
    empty = np.zeros(0)
    score_map = ScoreMap(
        empty.astype(np.uint8), np.zeros((0, 4, 4), np.float32), (8, 8), empty.astype(np.float32)
    )
    assert (opened(score_layer(score_map, (8, 8)))[..., 3] == 0).all()


def test_an_outline_is_white_within_and_black_around() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    mask[0, 0] = 255
    drawn = opened(outline_layer(mask, 100))
    white = (drawn == 255).all(axis=-1)
    black = (drawn[..., :3] == 0).all(axis=-1) & (drawn[..., 3] == 255)
    assert white[5, 5:15].all() and white[5:15, 14].all() and not white[6:14, 6:14].any()
    assert black[4, 5:15].all() and not (black & (mask > 0)).any()
    assert white.sum() == 36 and drawn[0, 0, 3] == 0


def test_photographs_become_smaller_from_size_to_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    found = [photo(image, 100, size) for size in SIZES]
    assert [len(data) for data in found] == sorted(map(len, found), reverse=True)
    assert Image.open(BytesIO(found[0])).size == (100, 75)
    assert photo(image, 100) == found[0]


def test_the_longer_side_decides() -> None:
    for size in ((10, 1000), (1000, 10), (64, 64)):
        found = fitted_size(size, 64)
        assert max(found) == 64 and min(found) >= 1
