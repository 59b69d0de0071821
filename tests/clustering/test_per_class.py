"""Classes into sub-categories: each image has one sub-label for each of its classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsss.clustering import assign_per_class, cluster_per_class
from wsss.clustering.finch import Finch, FinchSettings
from wsss.clustering.kmeans import Kmeans, KmeansSettings

tags = st.tuples(st.integers(1, 25), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


def blocks(hot: np.ndarray, counts: tuple[int, ...]) -> list[np.ndarray]:
    assert hot.shape[1] == sum(counts)
    return np.split(hot, np.cumsum(counts)[:-1], axis=1)


def by_sign(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two clusters, of labels that are neither 0 and 1 nor in order."""
    return np.where(points[:, 0] < 0, 7, 3)


@given(tags, st.sampled_from([Finch(FinchSettings()), Kmeans(KmeansSettings(num_clusters=3))]))
@settings(max_examples=60)
def test_sub_labels_of_a_class_sum_to_its_label(
    labels: np.ndarray, clustering: Finch | Kmeans
) -> None:
    features = np.random.default_rng(0).normal(size=(len(labels), 3))
    found = cluster_per_class(features, labels, clustering)
    assert found.labels.dtype == labels.dtype
    for column, block in enumerate(blocks(found.labels, found.counts)):
        np.testing.assert_array_equal(block.sum(axis=1), labels[:, column])
        assert (block.sum(axis=0) > 0).all()  # no cluster without an image
        images = labels[:, column].sum()
        assert found.counts[column] <= images
        if images:
            assert found.counts[column] >= 1
        for k, centroid in enumerate(found.centroids[column]):
            np.testing.assert_allclose(centroid, features[block[:, k] == 1].mean(axis=0))


def test_well_separated_blobs_are_the_sub_categories() -> None:
    """Class 0 has both blobs; class 1 only images of the second."""
    rng = np.random.default_rng(0)
    ends = np.repeat([[20, 0.0], [0, 20]], 12, axis=0)
    features = ends + rng.normal(size=ends.shape)
    labels = np.ones((24, 2), np.float32)
    labels[:12, 1] = 0
    settings = KmeansSettings(num_clusters=2)
    first, second = blocks(
        (found := cluster_per_class(features, labels, Kmeans(settings))).labels, found.counts
    )
    np.testing.assert_array_equal(first.argmax(axis=1), np.repeat([0, 1], 12))
    assert found.counts == (2, 2)
    assert second[:12].sum() == 0


def test_classes_with_no_or_one_image() -> None:
    features = np.array([[1.0], [-1], [2]])
    labels = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0]])
    found = cluster_per_class(features, labels, by_sign)
    assert found.counts == (2, 0, 1)
    assert found.labels.tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 0]]


def test_other_classes_change_nothing() -> None:
    """Each class draws from a generator of its own."""

    def coin(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate([[0, 1], rng.integers(2, size=len(points) - 2)])

    features = np.arange(40.0)[:, None]
    labels = np.ones((40, 3), np.uint8)
    fewer = labels.copy()
    fewer[::2, 0] = 0
    before, after = (
        cluster_per_class(features, chosen, coin, rng_seed=3) for chosen in (labels, fewer)
    )
    np.testing.assert_array_equal(before.labels[:, 2:], after.labels[:, 2:])
    assert (before.labels[:, 2] != before.labels[:, 4]).any()
    again = cluster_per_class(features, labels, coin, rng_seed=4)
    assert (again.labels != before.labels).any()


def test_images_left_out_get_the_nearest_centroid() -> None:
    features = np.array([[5.0, 0], [7, 0], [-5, 1], [-6, 1]])
    labels = np.array([[1, 0], [1, 1], [1, 0], [1, 1]], np.uint8)
    found = cluster_per_class(features, labels, by_sign)
    back = assign_per_class(features, labels, found.centroids, metric="euclidean")
    np.testing.assert_array_equal(back, found.labels)
    new = np.array([[-1.0, 0], [3, 0]])
    hot = assign_per_class(new, np.array([[1, 1], [0, 1]]), found.centroids, metric="euclidean")
    assert hot.tolist() == [[0, 1, 0, 1], [0, 0, 1, 0]]


def test_a_class_that_the_clustering_never_saw_is_an_error() -> None:
    found = cluster_per_class(np.ones((2, 2)), np.array([[1, 0], [1, 0]]), by_sign)
    with pytest.raises(ValueError, match="1 images have the class in column 1 of labels"):
        assign_per_class(np.ones((1, 2)), np.array([[0, 1]]), found.centroids)
    with pytest.raises(ValueError, match="one entry per class, 3, but have 2"):
        assign_per_class(np.ones((1, 2)), np.array([[0, 1, 0]]), found.centroids)


def test_errors_name_the_class_and_the_label() -> None:
    broken = np.eye(4)
    broken[2, 1] = np.nan
    with pytest.raises(ValueError, match="class in column 1 of labels: points must be finite"):
        cluster_per_class(broken, np.array([[0, 1]] * 4), Finch(FinchSettings()))
    with pytest.raises(ValueError, match="labels must be 0 or 1, but row 1 has 2 in column 0"):
        cluster_per_class(np.eye(2), np.array([[1], [2]]), by_sign)
    with pytest.raises(ValueError, match=r"labels must have shape \(2, K\), but has \(3, 1\)"):
        cluster_per_class(np.eye(2), np.ones((3, 1)), by_sign)
