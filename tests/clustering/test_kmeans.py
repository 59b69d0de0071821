"""k-means: blobs, determinism, and fewer points than clusters."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_info, threadpool_limits

from wsss.clustering import cluster_means, nearest_centroid
from wsss.clustering.kmeans import kmeans


def blobs(num_each: int = 30, rng_seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(rng_seed)
    return np.concatenate([rng.normal(size=(num_each, 3)) + at for at in (0, 40)])


def test_two_blobs() -> None:
    labels, centroids = kmeans(blobs(), 2, rng_seed=0)
    assert labels.tolist() == [0] * 30 + [1] * 30
    np.testing.assert_allclose(centroids, cluster_means(blobs(), labels), atol=1e-9)


def test_lower_cost_than_any_single_run() -> None:
    """Ten starts find the four corners that one start may miss."""
    rng = np.random.default_rng(1)
    points = rng.normal(size=(200, 2)) * 0.1 + rng.choice([0, 5], size=(200, 2))
    for rng_seed in range(5):
        labels, centroids = kmeans(points, 4, rng_seed=rng_seed)
        assert ((points - centroids[labels]) ** 2).sum() / 400 < 0.02


def test_same_bytes_twice_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums in several threads may come in any order, so the same bytes twice would be luck."""
    threads = []
    fit = KMeans.fit

    def watched(self: KMeans, points: np.ndarray) -> KMeans:
        threads.extend(pool["num_threads"] for pool in threadpool_info())
        return fit(self, points)

    monkeypatch.setattr(KMeans, "fit", watched)
    points = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    with threadpool_limits(limits=2):
        once, twice, other = (kmeans(points, 7, rng_seed=seed, n_init=2) for seed in (5, 5, 6))
    assert threads and set(threads) == {1}
    assert [part.tobytes() for part in once] == [part.tobytes() for part in twice]
    assert once[1].tobytes() != other[1].tobytes()


def test_fewer_points_than_clusters() -> None:
    points = np.array([[0.0], [1], [5]])
    labels, centroids = kmeans(points, 10, rng_seed=0)
    assert labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(centroids, points)


@pytest.mark.filterwarnings("error")
def test_fewer_different_points_than_clusters() -> None:
    labels, centroids = kmeans(np.array([[4.0], [4], [1], [4]]), 3, rng_seed=0)
    assert labels.tolist() == [0, 0, 1, 0]
    assert centroids.ravel().tolist() == [4, 1]


def test_refuses_no_clusters_and_no_points() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, but is 0"):
        kmeans(blobs(), 0, rng_seed=0)
    with pytest.raises(ValueError, match="at least one row"):
        kmeans(np.zeros((0, 2)), 2, rng_seed=0)
    with pytest.raises(ValueError, match="row 1 has inf"):
        kmeans(np.array([[0.0], [np.inf]]), 2, rng_seed=0)


def test_training_points_are_nearest_to_their_own_centroid() -> None:
    labels, centroids = kmeans(blobs(), 5, rng_seed=0)
    np.testing.assert_array_equal(nearest_centroid(blobs(), centroids), labels)


def test_nearest_centroid_against_all_distances() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 4)).astype(np.float32) + 1000
    centroids = rng.normal(size=(6, 4)) + 1000
    squares = ((points[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest_centroid(points, centroids), squares.argmin(axis=1))


def test_nearest_centroid_by_cosine_ignores_length() -> None:
    points = np.array([[9.0, 1], [1, 9], [0, 0]])
    centroids = np.array([[0.0, 100], [0.1, 0]])
    assert nearest_centroid(points, centroids, metric="cosine").tolist() == [1, 0, 0]
    assert nearest_centroid(points, centroids, metric="euclidean").tolist() == [1, 1, 1]


def test_nearest_centroid_wants_equal_dimensions() -> None:
    with pytest.raises(ValueError, match=r"points must have shape \(n, 2\), but has \(1, 3\)"):
        nearest_centroid(np.ones((1, 3)), np.ones((2, 2)))
