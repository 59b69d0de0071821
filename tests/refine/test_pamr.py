"""PAMR beside a loop over pixels in float64, and what a weighted mean must leave alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from wsss.artifacts import ScoreMap
from wsss.config.params import parse_params
from wsss.refine import Context
from wsss.refine.pamr import Pamr, PamrSettings
from wsss.settings import ConfigError

PUBLISHED = (1, 2, 4, 8, 12, 24)


def offsets(dilations: Sequence[int]) -> list[tuple[int, int]]:
    window = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return [(step * y, step * x) for step in dilations for y, x in window if (y, x) != (0, 0)]


def loop_over_pixels(
    image: np.ndarray, scores: np.ndarray, dilations: Sequence[int], n_iters: int, squared: bool
) -> np.ndarray:
    """The definition, one pixel and neighbour at a time, in float64."""
    height, width = image.shape[:2]
    colours, masks = image.astype(np.float64), scores.astype(np.float64)
    terms = []
    for y, x in np.ndindex(height, width):
        around = [
            (min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1))
            for dy, dx in offsets(dilations)
        ]
        window = [colours[cell] for cell in around] + [colours[y, x]] * len(dilations)
        sigma = np.std(window, axis=0, ddof=1)
        kernel = []
        for cell in around:
            difference = np.abs(colours[cell] - colours[y, x])
            if squared:
                kernel.append(-np.mean((difference / (1e-8 + sigma)) ** 2))
            else:
                kernel.append(-np.mean(difference / (1e-8 + 0.1 * sigma)))
        exponentials = np.exp(np.array(kernel) - np.max(kernel))
        for weight, cell in zip(exponentials / exponentials.sum(), around, strict=True):
            terms.append(((y, x), cell, weight))
    for _ in range(n_iters):
        refined = np.zeros_like(masks)
        for (y, x), (other_y, other_x), weight in terms:
            refined[:, y, x] += weight * masks[:, other_y, other_x]
        masks = refined
    return masks


def pictures(height: int, width: int, num_classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(height * 100 + width)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[: height // 2] //= 64  # dark with few levels: small sigmas, many ties
    return image, rng.random((num_classes, height, width)).astype(np.float32)


def score_map(scores: np.ndarray, size: tuple[int, int]) -> ScoreMap:
    ids = np.arange(1, len(scores) + 1, dtype=np.uint8)
    return ScoreMap(ids, scores.astype(np.float32), size, np.ones(len(ids), np.float32))


def refine(image: np.ndarray, scores: np.ndarray, **settings: Any) -> np.ndarray:
    """Through the refiner, with settings of one's own."""
    cam = score_map(scores, image.shape[:2])
    (refined,) = Pamr(PamrSettings(**settings), Context())([image], [cam], ["a"])
    return refined.scores


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("dilations", [(1,), (2, 1), (1, 3, 9)])
@pytest.mark.parametrize("size", [(6, 7), (1, 5), (8, 1), (1, 1)])
def test_is_the_definition(
    size: tuple[int, int], dilations: tuple[int, ...], squared: bool
) -> None:
    image, scores = pictures(*size)
    expected = loop_over_pixels(image, scores, dilations, 3, squared)
    refined = refine(image, scores, dilations=dilations, n_iters=3, squared=squared)
    np.testing.assert_allclose(refined, expected, atol=1e-5)
    assert refined.dtype == np.float32


def test_published_settings_are_the_definition() -> None:
    image, scores = pictures(5, 9)
    refined = refine(image, scores)
    np.testing.assert_allclose(
        refined, loop_over_pixels(image, scores, PUBLISHED, 10, False), atol=1e-5
    )


@pytest.mark.parametrize("grid", ["scores", "image"])
def test_constant_maps_are_fixed_points(grid: str) -> None:
    image, _ = pictures(24, 20)
    constant = np.full((1, 6, 5), 0.4, np.float32)
    np.testing.assert_allclose(refine(image, constant, grid=grid), 0.4, atol=1e-5)
    ones = refine(image, np.ones_like(constant), grid=grid)
    assert ones.max() <= 1  # not by rounding either
    np.testing.assert_allclose(ones, 1, atol=1e-5)


def test_sums_over_classes_are_kept() -> None:
    image, scores = pictures(12, 15, num_classes=3)
    shares = scores / scores.sum(axis=0)
    np.testing.assert_allclose(refine(image, shares).sum(axis=0), 1, atol=1e-5)
    # so 1 - s, taken along as the background, says nothing that s does not
    background = refine(image, 1 - scores)
    np.testing.assert_allclose(background, 1 - refine(image, scores), atol=1e-5)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_mirror_image(axes: tuple[int, ...]) -> None:
    image, scores = pictures(11, 14)
    mirrored = refine(np.flip(image, axes).copy(), np.flip(scores, [a + 1 for a in axes]).copy())
    np.testing.assert_allclose(
        np.flip(mirrored, [a + 1 for a in axes]), refine(image, scores), atol=1e-5
    )


def test_transposed_image() -> None:
    image, scores = pictures(11, 14)
    turned = refine(image.transpose(1, 0, 2).copy(), scores.transpose(0, 2, 1).copy())
    np.testing.assert_allclose(turned.transpose(0, 2, 1), refine(image, scores), atol=1e-5)


def test_on_the_scores_grid_corners_of_image_and_grid_meet() -> None:
    image, _ = pictures(9, 13)
    scores = np.random.default_rng(1).random((2, 3, 4)).astype(np.float32)
    refined = refine(image, scores, dilations=(1, 2), n_iters=2)
    expected = refine(image[::4, ::4].copy(), scores, dilations=(1, 2), n_iters=2)
    np.testing.assert_allclose(refined, expected, atol=1e-5)


def test_on_the_image_grid_scores_are_stretched_first() -> None:
    image, _ = pictures(9, 13)
    cam = score_map(np.random.default_rng(1).random((2, 3, 4)), (9, 13))
    refined = refine(image, cam.scores, grid="image", n_iters=2)
    np.testing.assert_allclose(refined, refine(image, cam.full_scores(), n_iters=2), atol=1e-6)
    np.testing.assert_array_equal(
        refine(image, cam.scores, grid="image", n_iters=0), cam.full_scores()
    )
    np.testing.assert_array_equal(refine(image, cam.scores, n_iters=0), cam.scores)


@pytest.mark.parametrize("grid", ["scores", "image"])
def test_a_batch_of_sizes_and_tags_is_its_images_one_by_one(grid: str) -> None:
    rng = np.random.default_rng(2)
    images, maps = [], []
    for (height, width), tags in [((24, 36), 2), ((17, 1), 1), ((24, 36), 0), ((36, 24), 3)]:
        images.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        scores = rng.random((tags, -(-height // 4), -(-width // 4)))
        maps.append(score_map(scores, (height, width)))
    refiner = Pamr(PamrSettings(grid=grid), Context())  # type: ignore[arg-type]
    found = refiner(images, maps, ["a", "b", "c", "d"])
    for image, cam, refined in zip(images, maps, found, strict=True):
        (alone,) = refiner([image], [cam], ["a"])
        np.testing.assert_array_equal(alone.scores, refined.scores)
        assert len(refined.scores) == len(cam.class_ids)


@pytest.mark.parametrize("squared", [False, True])
def test_what_a_gpu_computes_is_the_same(squared: bool) -> None:
    image, _ = pictures(30, 44)
    scores = np.random.default_rng(3).random((2, 8, 11)).astype(np.float32)
    refiner = Pamr(PamrSettings(squared=squared), Context())
    pixels = image.transpose(2, 0, 1)
    found = refiner._in_torch(pixels, scores)
    np.testing.assert_allclose(found, refiner._compiled(pixels, scores), atol=3e-6)


def test_the_input_is_left_alone() -> None:
    image, scores = pictures(8, 8)
    before = image.copy(), scores.copy()
    refine(image, scores)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(scores, before[1])


@pytest.mark.parametrize("grid", ["scores", "image"])
def test_edges_of_a_scene_are_found(grid: str) -> None:
    """A disc in noise; its scores are blurred blocks, shifted by some pixels."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:128, :160]
    disc = (y - 60) ** 2 + (x - 80) ** 2 < 36**2
    colours = np.where(disc[..., None], [190, 70, 60], [90, 110, 150])
    image = np.clip(colours + rng.normal(0, 8, colours.shape), 0, 255).astype(np.uint8)
    blocks = np.roll(disc, 5, axis=(0, 1)).reshape(8, 16, 10, 16).mean(axis=(1, 3))
    coarse = score_map(np.kron(blocks, np.ones((4, 4)))[None], (128, 160))

    def wrong(scores: np.ndarray) -> float:
        cam = score_map(scores, (128, 160))
        return float(np.mean((cam.full_scores()[0] > 0.5) != disc))

    before, after = wrong(coarse.scores), wrong(refine(image, coarse.scores, grid=grid))
    assert after < before / 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dilations": []}, "dilations"),
        ({"dilations": [1, 0]}, "must be greater than 0, but is 0"),
        ({"n_iters": -1}, "n_iters must be greater than or equal to 0, but is -1"),
        ({"grid": "mask"}, "grid must be 'scores' or 'image', but is 'mask'"),
    ],
)
def test_a_mistake_in_the_settings_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_params({"refine": {"chains": {"own": [{"name": "pamr", **values}]}}})
    assert message in str(caught.value)
