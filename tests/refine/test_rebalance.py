"""Sinkhorn by a slow other way, and what rebalancing is for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import logsumexp

from wsss.artifacts import ScoreMap
from wsss.refine import Chain, Context
from wsss.refine.rebalance import RebalanceSettings, prices, transport_plan

SCORES = arrays(
    np.float32, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.floats(0, 1, width=32)
)


def rebalanced(scores: np.ndarray, **values: float) -> np.ndarray:
    ids = np.arange(1, len(scores) + 1, dtype=np.uint8)
    size = scores.shape[1] * 4, scores.shape[2] * 4
    before = ScoreMap(ids, scores.astype(np.float32), size, np.ones(len(ids), np.float32))
    chain = Chain([RebalanceSettings.model_validate(values)], Context())
    (after,) = chain([np.zeros((*size, 3), np.uint8)], [before], ["a"])
    assert after.scores.dtype == np.float32
    return after.scores


@given(SCORES)
@settings(max_examples=40)
def test_the_plan_is_that_of_sinkhorn_in_logarithms(scores: np.ndarray) -> None:
    cost = 1 - scores.reshape(len(scores), -1).T.astype(np.float64)  # (N, P)
    cells, classes = cost.shape
    f, g = np.zeros((cells, 1)), np.zeros((1, classes))
    for _ in range(100):
        f = -np.log(cells) - logsumexp(g - cost / 0.1, axis=1, keepdims=True)
        g = -np.log(classes) - logsumexp(f - cost / 0.1, axis=0, keepdims=True)
    plan = np.exp(f + g - cost / 0.1)
    plan /= plan.sum(axis=1, keepdims=True)
    found = transport_plan(scores, 0.1, 100).reshape(classes, -1).T
    np.testing.assert_allclose(found, plan, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_of_two_classes_each_owns_half_of_the_mass_though_one_map_is_higher_everywhere(
    seed: int,
) -> None:
    low = np.random.default_rng(seed).uniform(0, 0.5, (1, 24, 32))
    scores = np.concatenate([0.6 + low[:, ::-1] / 2, low])
    assert (scores[0] > scores[1]).all()
    plan = transport_plan(scores, 0.1, 100)
    np.testing.assert_allclose(plan.sum(axis=0), 1)
    np.testing.assert_allclose(plan.mean(axis=(1, 2)), 0.5, atol=1e-6)


def test_a_map_that_is_high_everywhere_leaves_the_other_class_its_place() -> None:
    there = np.zeros((16, 16), bool)
    there[4:8, 4:8] = True
    scores = np.stack([np.full((16, 16), 0.9), np.where(there, 0.8, 0.05)])
    assert (scores.argmax(axis=0) == 0).all()
    found = rebalanced(scores)
    np.testing.assert_array_equal(found.argmax(axis=0) == 1, there)
    np.testing.assert_allclose(found[1, there], 0.8)  # who gets a cell keeps its score there


@given(SCORES)
@settings(max_examples=40)
def test_scores_never_rise_and_the_winner_of_a_cell_keeps_its_own(scores: np.ndarray) -> None:
    found = rebalanced(scores)
    assert np.isfinite(found).all()
    assert (found <= scores).all() and (found >= 0).all()
    shown = scores.max(axis=(1, 2)) > 0
    assert not found[~shown].any()
    if shown.any():
        assert (found[shown] == scores[shown]).any(axis=0).all()


def test_a_class_alone_stays_as_it_is_also_beside_one_without_any_score() -> None:
    scores = np.random.default_rng(0).random((2, 5, 7)).astype(np.float32)
    np.testing.assert_array_equal(rebalanced(scores[:1]), scores[:1])
    scores[1] = 0
    np.testing.assert_array_equal(rebalanced(scores), scores)


def test_prices_are_found_on_a_coarse_grid_and_hardly_differ() -> None:
    rows, columns = np.mgrid[:96, :128] / 96
    scores = np.stack([0.5 + 0.4 * np.sin(3 * rows), 0.4 * columns])
    fine, coarse = rebalanced(scores, long_side=128), rebalanced(scores, long_side=32)
    assert 0 < np.abs(fine - coarse).mean() < 0.01


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 10])
def test_extreme_scores_stay_finite(epsilon: float) -> None:
    scores = np.stack([np.ones((8, 8)), np.zeros((8, 8)), np.eye(8)])
    assert np.isfinite(prices(scores, epsilon, 100)).all()
