"""The background's score: published numbers, and the form that the settings name."""

import numpy as np
import pytest

from wsss.config.background import BackgroundSettings, background_scores


@pytest.mark.parametrize(("alpha", "expected"), [(4, 0.2401), (16, 0.00332), (32, 1.10e-5)])
def test_power_is_of_the_highest_score(alpha: float, expected: float) -> None:
    scores = np.array([[[0.3, 0.1]], [[0.2, 0.3]]], np.float32)
    found = background_scores(scores, BackgroundSettings(background="power", alpha=alpha), 0.9)
    assert (found.dtype, found.shape) == (np.float32, (1, 1, 2))
    np.testing.assert_allclose(found, expected, rtol=5e-3)


def test_constant_is_the_threshold_everywhere() -> None:
    found = background_scores(np.random.default_rng(0).random((2, 3, 4)), BackgroundSettings(), 0.2)
    np.testing.assert_array_equal(found, np.full((1, 3, 4), 0.2, np.float32))
