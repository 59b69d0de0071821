"""What every clustering promises, checked on each name the registry finds."""

from typing import Literal

import numpy as np
import pytest
from pydantic import ValidationError

from wsss.clustering import Clustering
from wsss.registry import CLUSTERINGS

VARIANTS = {
    **{name: {"name": name} for name in CLUSTERINGS.names()},
    "finch-finest": {"name": "finch", "partition": "finest"},
    "finch-euclidean": {"name": "finch", "metric": "euclidean"},
    "finch-required": {"name": "finch", "required_clusters": 2},
    "finch-early-exit": {"name": "finch", "drop_long_links": True},
}


@pytest.fixture(params=VARIANTS)
def clustering(request: pytest.FixtureRequest) -> Clustering:
    values = VARIANTS[request.param]
    return CLUSTERINGS.build(CLUSTERINGS.settings(values["name"]).model_validate(values))


def features(n: int = 80, dims: int = 5) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = np.abs(rng.normal(size=(8, dims))) * 20
    return (centres[rng.integers(8, size=n)] + rng.normal(size=(n, dims))).astype(np.float32)


def test_both_are_found() -> None:
    assert CLUSTERINGS.names() == ["finch", "kmeans"]


@pytest.mark.parametrize("name", CLUSTERINGS.names())
def test_settings_fit_their_name(name: str) -> None:
    settings = CLUSTERINGS.settings(name)
    assert settings.model_fields["name"].annotation == Literal[name]
    with pytest.raises(ValidationError, match="no_such_key"):
        settings.model_validate({"no_such_key": 1})


def test_labels_are_numbered_by_appearance(clustering: Clustering) -> None:
    labels = clustering(features(), np.random.default_rng(0))
    assert labels.shape == (80,) and labels.dtype == np.int64
    _, first = np.unique(labels, return_index=True)
    assert labels[np.sort(first)].tolist() == list(range(labels.max() + 1))
    assert labels.max() > 0


def test_same_bytes_twice_and_points_untouched(clustering: Clustering) -> None:
    points = features()
    points.flags.writeable = False
    once, twice = (clustering(points, np.random.default_rng(0)) for _ in range(2))
    assert once.tobytes() == twice.tobytes()


def test_far_directions_are_never_joined(clustering: Clustering) -> None:
    """By angle and by distance, two tight groups at right angles."""
    rng = np.random.default_rng(0)
    points = np.repeat([[100, 0, 0], [0, 100, 0.0]], 15, axis=0) + rng.uniform(size=(30, 3))
    labels = clustering(points, np.random.default_rng(0))
    assert not set(labels[:15]) & set(labels[15:])


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_points(n: int) -> None:
    for name in CLUSTERINGS.names():
        found = CLUSTERINGS.build(CLUSTERINGS.settings(name)())
        labels = found(features(n), np.random.default_rng(0))
        assert labels.tolist() == ([0, 1][:n] if name == "kmeans" else [0] * n)


def test_settings_choose_the_level() -> None:
    def run(**values: object) -> np.ndarray:
        settings = CLUSTERINGS.settings("finch").model_validate(values)
        return CLUSTERINGS.build(settings)(features(), np.random.default_rng(0))

    assert run(partition="finest").max() > run(partition="coarsest").max()
    np.testing.assert_array_equal(run(), run(partition="coarsest"))
    assert run(required_clusters=3).max() == 2
    np.testing.assert_array_equal(run(required_clusters=70), run(partition="finest"))
    assert (
        CLUSTERINGS.build(CLUSTERINGS.settings("kmeans")(num_clusters=4))(
            features(), np.random.default_rng(0)
        ).max()
        == 3
    )
