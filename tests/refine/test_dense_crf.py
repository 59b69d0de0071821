"""What the refiner adds to the CRF: the unary it builds and the background it folds away."""

import numpy as np
import pytest

from wsss.artifacts import ScoreMap
from wsss.densecrf import dense_crf
from wsss.refine.dense_crf import DenseCrf, DenseCrfSettings, unary_probs


def one_map(scores: np.ndarray) -> ScoreMap:
    count = len(scores)
    ids = np.arange(1, count + 1, dtype=np.uint8)
    return ScoreMap(ids, scores.astype(np.float32), scores.shape[1:], np.ones(count, np.float32))


@pytest.mark.parametrize("background", ["constant", "power"])
@pytest.mark.parametrize("unary", ["soft", "labels"])
def test_unary_is_a_distribution_with_the_stacks_winner(background: str, unary: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((3, 5, 6)).astype(np.float32)
    settings = DenseCrfSettings(background=background, unary=unary, threshold=0.4, alpha=2)  # type: ignore[arg-type]
    probs = unary_probs(scores, settings)
    np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-6)
    assert probs.min() > 0
    best = scores.max(axis=0)
    bg = np.full_like(best, 0.4) if background == "constant" else (1 - best) ** 2
    winner = np.where(bg >= best, 0, scores.argmax(axis=0) + 1)
    np.testing.assert_array_equal(probs.argmax(axis=0), winner)
    if unary == "labels":
        np.testing.assert_allclose(probs.max(axis=0), 0.7, atol=1e-6)


def test_threshold_one_half_is_the_marginals_own_winner() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
    settings = DenseCrfSettings(sigma_xy=5, sigma_rgb=30, n_iters=3)
    one = one_map(rng.random((2, 12, 14)))
    probs = dense_crf(
        [image],
        [unary_probs(one.scores, settings)],
        sigma_xy=5,
        sigma_rgb=30,
        compat_bilateral=10,
        sigma_gaussian=3,
        compat_gaussian=3,
        n_iters=3,
    )[0]
    (refined,) = DenseCrf(settings)([image], [one])
    mask = np.where(refined.scores.max(axis=0) > 0.5, refined.scores.argmax(axis=0) + 1, 0)
    np.testing.assert_array_equal(mask, probs.argmax(axis=0))


def test_no_update_keeps_the_order_of_scores() -> None:
    one = one_map(np.random.default_rng(2).random((1, 6, 7)))
    image = np.zeros((6, 7, 3), np.uint8)
    (refined,) = DenseCrf(DenseCrfSettings(n_iters=0))([image], [one])
    order = np.argsort(one.scores.ravel())
    assert (np.diff(refined.scores.ravel()[order]) >= -1e-6).all()
