"""The compiled averages of PAMR beside those of PyTorch.

That they are the definition is for tests/refine/test_pamr.py.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.densecrf import _native
from wsss.densecrf.pixel_adaptive import pixel_adaptive_mean
from wsss.models import pamr

PUBLISHED = (1, 2, 4, 8, 12, 24)


def pictures(planes: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (3, height, width)).astype(np.float32)
    image[:, : height // 2] //= 64  # few levels: small sigmas, many ties
    image[:, :, : width // 3] = 7  # and none
    return image, rng.random((planes, height, width), np.float32)


def in_torch(
    image: np.ndarray, scores: np.ndarray, dilations: Sequence[int], n_iters: int, squared: bool
) -> np.ndarray:
    tensors = torch.from_numpy(image)[None], torch.from_numpy(scores)[None]
    found: np.ndarray = pamr.pixel_adaptive_mean(*tensors, dilations, n_iters, squared=squared)[
        0
    ].numpy()
    return found


@settings(max_examples=60, deadline=None)
@given(
    planes=st.integers(1, 9),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    dilations=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    n_iters=st.integers(0, 4),
    squared=st.booleans(),
)
def test_is_that_of_pytorch(
    planes: int, height: int, width: int, dilations: list[int], n_iters: int, squared: bool
) -> None:
    image, scores = pictures(planes, height, width, seed=height * 41 + width)
    found = pixel_adaptive_mean(image, scores, dilations, n_iters, squared=squared)
    expected = in_torch(image, scores, dilations, n_iters, squared)
    np.testing.assert_allclose(found, expected, atol=3e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("squared", [False, True])
def test_the_number_of_threads_changes_no_bit(squared: bool) -> None:
    image, scores = pictures(3, 150, 301)
    alone = pixel_adaptive_mean(image, scores, squared=squared, num_threads=1)
    for count in (2, 5):
        again = pixel_adaptive_mean(image, scores, squared=squared, num_threads=count)
        np.testing.assert_array_equal(again, alone)
    # nor does memory that a larger call has left
    pixel_adaptive_mean(*pictures(5, 200, 400), squared=not squared)
    np.testing.assert_array_equal(pixel_adaptive_mean(image, scores, squared=squared), alone)


def test_instruction_sets_differ_in_rounding_alone() -> None:
    image, scores = pictures(6, 40, 61)
    names = _native.instruction_sets()
    found = []
    try:
        for name in names:
            _native.set_instruction_set(name)
            found.append(pixel_adaptive_mean(image, scores))
    finally:
        _native.set_instruction_set(names[0])
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=3e-6)


@pytest.mark.parametrize("squared", [False, True])
def test_the_worst_image_keeps_constants(squared: bool) -> None:
    """No neighbour is like a lone bright pixel; in a faint image on white, sums cancel."""
    lone = np.zeros((3, 60, 60), np.float32)
    lone[:, 30, 30] = 255
    faint = (255 - 1e-3 * np.random.default_rng(0).random((3, 60, 60))).astype(np.float32)
    for image in (lone, faint, np.zeros_like(lone)):
        found = pixel_adaptive_mean(image, np.full((1, 60, 60), 0.4), squared=squared)
        np.testing.assert_allclose(found, 0.4, atol=1e-5)


def test_arrays_of_any_kind_and_order() -> None:
    image, scores = pictures(2, 12, 17)
    expected = pixel_adaptive_mean(image, scores)
    found = pixel_adaptive_mean(image.astype(np.uint8), np.asfortranarray(scores.astype(float)))
    np.testing.assert_array_equal(found, expected)
    back = pixel_adaptive_mean(image[:, ::-1], scores[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(back, expected, atol=1e-5)
    assert pixel_adaptive_mean(image[:, :0], scores[:, :0]).shape == (2, 0, 17)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.zeros((4, 5))}, r"scores must have shape \(P, h, w\) but has \(4, 5\)"),
        ({"image": np.zeros((4, 5, 3))}, r"image must have shape \(3, 4, 5\) .* has \(4, 5, 3\)"),
        ({"dilations": [1, 0]}, r"dilations\[1\] must be at least 1 .* but is 0"),
        ({"dilations": []}, "must name one distance at least"),
        ({"n_iters": -1}, "n_iters must be at least 0 .* but is -1"),
        ({"squared": 1}, "squared must be True or False but is 1"),
        ({"num_threads": 0}, "num_threads must be an integer of at least 1"),
        (
            {"image": np.full((3, 4, 5), np.nan)},
            r"image must be finite but image\[0, 0, 0\] is nan",
        ),
        ({"scores": np.full((2, 4, 5), np.inf)}, "scores must be finite but .* is inf"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], message: str) -> None:
    values = {"image": np.zeros((3, 4, 5)), "scores": np.zeros((2, 4, 5))}
    with pytest.raises(ValueError, match=message):
        pixel_adaptive_mean(**(values | changes))
