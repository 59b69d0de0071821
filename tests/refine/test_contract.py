"""What every refiner promises, checked on each name the registry finds."""

import numpy as np
import pytest

from wsss.artifacts import ScoreMap
from wsss.refine import refine
from wsss.refine.dense_crf import PRESETS
from wsss.registry import REFINERS


def scene(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two coloured boxes on grey, and the mask that says which is which."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 5 : height // 2, width // 6 : width // 2] = 1
    mask[height // 2 :, 2 * width // 3 :] = 2
    colours = np.array([[128, 128, 128], [200, 60, 40], [30, 80, 200]])
    image = np.clip(colours[mask] + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)
    return image, mask


def coarse(mask: np.ndarray, class_ids: list[int]) -> ScoreMap:
    """Scores as a CAM has them: high inside, reaching past the edge, on a quarter grid."""
    height, width = mask.shape
    grid = (max(1, height // 4), max(1, width // 4))
    scores = np.zeros((len(class_ids), *grid), np.float32)
    for index, class_id in enumerate(class_ids):
        for y, x in np.ndindex(grid):
            block = mask[4 * y : 4 * y + 8, 4 * x : 4 * x + 8] == class_id
            scores[index, y, x] = 0.15 + 0.8 * block.mean() if block.size else 0.1
    ids = np.array(class_ids, np.uint8)
    return ScoreMap(ids, scores, (height, width), np.full(len(ids), 0.9, np.float32))


CHAINS = {
    **{name: {"name": name} for name in REFINERS.names()},
    **{f"dense_crf-{preset}": {"name": "dense_crf", "preset": preset} for preset in PRESETS},
}


@pytest.fixture(params=CHAINS)
def chain(request: pytest.FixtureRequest) -> list[object]:
    values = CHAINS[request.param]
    return [REFINERS.settings(values["name"]).model_validate(values)]


@pytest.mark.parametrize("size", [(40, 60), (33, 21), (8, 8), (1, 9), (1, 1)])
def test_gives_valid_scores_at_image_size(chain: list[object], size: tuple[int, int]) -> None:
    image, mask = scene(*size)
    before = coarse(mask, [1, 2])
    (after,) = refine(chain, [image], [before])  # type: ignore[arg-type]
    assert after.scores.shape == (2, *size)
    assert after.scores.dtype == np.float32
    assert np.isfinite(after.scores).all()
    assert after.scores.min() >= 0 and after.scores.max() <= 1
    np.testing.assert_array_equal(after.class_ids, before.class_ids)
    np.testing.assert_array_equal(after.class_probs, before.class_probs)
    assert after.size == size


def test_moves_the_mask_towards_the_truth(chain: list[object]) -> None:
    image, mask = scene(40, 60)
    before = coarse(mask, [1, 2])
    (after,) = refine(chain, [image], [before])  # type: ignore[arg-type]
    truth = mask > 0
    errors = []
    for one in (before, after):
        foreground = one.full_scores().max(axis=0)
        errors.append(
            min((truth != (foreground > theta)).mean() for theta in np.arange(0.05, 1, 0.05))
        )
    assert errors[1] <= errors[0]


def test_permuting_the_classes_permutes_the_result(chain: list[object]) -> None:
    image, mask = scene(24, 36)
    one = coarse(mask, [1, 2])
    swapped = ScoreMap(one.class_ids[::-1], one.scores[::-1], one.size, one.class_probs[::-1])
    (plain,) = refine(chain, [image], [one])  # type: ignore[arg-type]
    (other,) = refine(chain, [image], [swapped])  # type: ignore[arg-type]
    np.testing.assert_allclose(plain.scores, other.scores[::-1], atol=1e-5)


def test_a_batch_is_its_images_one_by_one(chain: list[object]) -> None:
    scenes = [scene(24, 36, 1), scene(17, 40, 2), scene(9, 9, 3)]
    images = [image for image, _ in scenes]
    maps = [coarse(scenes[0][1], [1, 2]), coarse(scenes[1][1], [2]), coarse(scenes[2][1], [])]
    together = refine(chain, images, maps)  # type: ignore[arg-type]
    for image, one, result in zip(images, maps, together, strict=True):
        (alone,) = refine(chain, [image], [one])  # type: ignore[arg-type]
        np.testing.assert_array_equal(alone.scores, result.scores)


def test_a_batch_without_tags_stays_empty(chain: list[object]) -> None:
    scenes = [scene(9, 12, seed) for seed in range(2)]
    images = [image for image, _ in scenes]
    maps = [coarse(mask, []) for _, mask in scenes]
    for before, after in zip(maps, refine(chain, images, maps), strict=True):  # type: ignore[arg-type]
        assert (after.scores.shape, after.size) == ((0, 9, 12), before.size)


def test_an_empty_chain_changes_nothing() -> None:
    image, mask = scene(24, 36)
    one = coarse(mask, [1, 2])
    assert refine([], [image], [one]) == [one]
