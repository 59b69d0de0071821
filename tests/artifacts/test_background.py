"""The background's score: published numbers, and the form that the settings name."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from wsss.artifacts.background import BackgroundSettings, background_scores, usual_threshold
from wsss.registry import REFINERS


@pytest.mark.parametrize(("alpha", "expected"), [(4, 0.2401), (16, 0.00332), (32, 1.10e-5)])
def test_power_is_of_the_highest_score(alpha: float, expected: float) -> None:
    scores = np.array([[[0.3, 0.1]], [[0.2, 0.3]]], np.float32)
    found = background_scores(scores, BackgroundSettings(background="power", alpha=alpha), 0.9)
    assert (found.dtype, found.shape) == (np.float32, (1, 1, 2))
    np.testing.assert_allclose(found, expected, rtol=5e-3)


def test_constant_is_the_threshold_everywhere() -> None:
    found = background_scores(np.random.default_rng(0).random((2, 3, 4)), BackgroundSettings(), 0.2)
    np.testing.assert_array_equal(found, np.full((1, 3, 4), 0.2, np.float32))


OBJECT = BackgroundSettings(background="object", object_source="ccam")


def test_object_is_what_no_class_of_the_map_claims() -> None:
    objects = np.array([[[0.25, 0.5, 0.0]], [[0.125, 1.0, 0.0]]], np.float32)
    found = background_scores(np.ones((3, 1, 3), np.float32), OBJECT, 0.9, objects)
    assert found.dtype == np.float32
    assert found.tolist() == [[[0.75, 0.0, 1.0]]]


def test_the_object_background_does_without_nothing() -> None:
    with pytest.raises(ValidationError, match="set object_source to a name in further_cams"):
        BackgroundSettings(background="object")
    with pytest.raises(ValueError, match="no object map here; take constant or power"):
        background_scores(np.ones((1, 2, 2), np.float32), OBJECT, 0.9)


def test_a_source_waits_for_its_background_as_alpha_does() -> None:
    """So that a recipe or a study can change the background alone."""
    scores = np.random.default_rng(1).random((2, 3, 4), np.float32)
    for background in ("constant", "power"):
        with_source = BackgroundSettings(background=background, object_source="ccam")
        without = BackgroundSettings(background=background)
        np.testing.assert_array_equal(
            background_scores(scores, with_source, 0.3), background_scores(scores, without, 0.3)
        )


def refiner(name: str, **settings: Any) -> Any:
    return REFINERS.settings(name)(**settings)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), 0.4),
        (("dense_crf",), 0.5),
        (("dense_crf", "pamr"), 0.5),
        (("dense_crf", "regions"), 0.5),
        (("affinity_net",), 0.5),
        (("sepl",), 0.5),
        (("fusion", "pamr"), 0.4),
        (("dense_crf", "fusion"), 0.4),
    ],
)
def test_the_usual_threshold_is_that_of_what_decided_last(
    names: tuple[str, ...], expected: float
) -> None:
    refiners = {
        "fusion": refiner("fusion", sources={"other": 1}),
        "sepl": refiner("regions", rule="sepl"),
    }
    chain = [refiners.get(name) or refiner(name) for name in names]
    assert usual_threshold(chain) == expected
