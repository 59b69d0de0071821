"""Class evidence, by hand."""

import numpy as np
import pytest

from wsss.artifacts import ScoreMap
from wsss.refine import Chain, Context
from wsss.refine.class_evidence import ClassEvidenceSettings

IMAGE = np.zeros((8, 12, 3), np.uint8)


@pytest.mark.parametrize(("power", "factors"), [(1, [0.81, 0.25]), (0.5, [0.9, 0.5])])
def test_scores_are_multiplied_by_the_probability_of_their_class(
    power: float, factors: list[float]
) -> None:
    scores = np.random.default_rng(0).random((2, 4, 6)).astype(np.float32)
    probs = np.array([0.81, 0.25], np.float32)
    before = ScoreMap(np.array([1, 4], np.uint8), scores, (8, 12), probs)
    (after,) = Chain([ClassEvidenceSettings(power=power)], Context())([IMAGE], [before], ["a"])
    np.testing.assert_allclose(after.scores, scores * np.array(factors)[:, None, None], rtol=1e-6)
    assert after.scores.dtype == np.float32
