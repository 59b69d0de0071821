"""What a clustering is, and how it splits each class into sub-categories."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np

from wsss.checks import check_shape
from wsss.seeding import generator

__all__ = [
    "Clustering",
    "Metric",
    "ClassClusters",
    "assign_per_class",
    "check_points",
    "cluster_means",
    "cluster_per_class",
    "cluster_sums",
    "in_blocks",
    "nearest_centroid",
    "number_by_appearance",
    "row_norms",
]

Metric: TypeAlias = Literal["cosine", "euclidean"]

COPIED = 1 << 22
"""Numbers that a step over many rows holds in float64 at a time (32 MiB)."""


class Clustering(Protocol):
    """Built from its settings; registered with `CLUSTERINGS`."""

    def __call__(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Group points.

        Args:
            points: (n, D) finite float, n >= 1.
            rng: the only source of randomness; a clustering without any leaves it alone.

        Returns:
            (n,) int64, 0..k-1 without a gap, numbered by first appearance.
        """


@dataclass(frozen=True)
class ClassClusters:
    """The classes of a data set, each split into clusters of its images' features."""

    labels: np.ndarray
    """(N, sum of counts) multi-hot, of the class labels' dtype: the blocks of all classes in
    order, in each of which an image of that class has one 1 and every other image none."""
    centroids: tuple[np.ndarray, ...]
    """For each class (K_c, D) float64, the means of its clusters."""

    @property
    def counts(self) -> tuple[int, ...]:
        """K_c of each class: 0 without an image, 1 with a single one."""
        return tuple(len(means) for means in self.centroids)


def cluster_per_class(
    features: np.ndarray, labels: np.ndarray, clustering: Clustering, *, rng_seed: int = 0
) -> ClassClusters:
    """Split each class by clustering the features of the images that have it.

    Pass training images only; `assign_per_class` gives the others their sub-categories. An
    image of several classes is in a cluster of each. Every class has a generator of its own,
    so what another class holds changes nothing.

    Args:
        features: (N, D) finite float.
        labels: (N, K) multi-hot.
        clustering: such as CLUSTERINGS.build(settings).
        rng_seed: for clusterings that draw random numbers.

    Raises:
        ValueError: the shapes disagree, labels are not 0 or 1, or a class cannot be clustered
            as asked (the message names it by its column of `labels`).

    References:
        Sub-category exploration (Chang et al., CVPR 2020), with K_c derived, not fixed.

    Example:
        >>> from wsss.clustering.finch import Finch, FinchSettings
        >>> features = np.array([[0, 1], [0, 2], [5, 0], [4, 0]], np.float32)
        >>> labels = np.array([[1, 0], [1, 0], [1, 1], [1, 0]], np.uint8)
        >>> found = cluster_per_class(features, labels, Finch(FinchSettings()))
        >>> found.counts
        (2, 1)
        >>> found.labels
        array([[1, 0, 0],
               [1, 0, 0],
               [0, 1, 1],
               [0, 1, 0]], dtype=uint8)
    """
    _check_labels(features, labels)
    found: list[np.ndarray] = []
    centroids: list[np.ndarray] = []
    for column in range(labels.shape[1]):
        points = features[labels[:, column] == 1]
        clusters = np.zeros(len(points), np.int64)
        if len(points) > 1:
            try:
                clusters = clustering(points, generator(rng_seed, "cluster", column))
            except ValueError as error:
                raise ValueError(f"class in column {column} of labels: {error}") from error
            clusters = number_by_appearance(clusters)
        found.append(clusters)
        centroids.append(cluster_means(points, clusters))
    return ClassClusters(_multi_hot(labels, found, centroids), tuple(centroids))


def assign_per_class(
    features: np.ndarray,
    labels: np.ndarray,
    centroids: Sequence[np.ndarray],
    *,
    metric: Metric = "cosine",
) -> np.ndarray:
    """Sub-labels of images that took no part in the clustering: their nearest centroids.

    Args:
        features: (N, D) finite float, of validation images.
        labels: (N, K) multi-hot.
        centroids: of each class (K_c, D), as `ClassClusters.centroids`.
        metric: that of the clustering; "euclidean" for k-means.

    Returns:
        (N, sum of K_c) multi-hot of the dtype of `labels`, as `ClassClusters.labels`.

    Raises:
        ValueError: the shapes disagree, or an image has a class without a centroid.
    """
    _check_labels(features, labels)
    if len(centroids) != labels.shape[1]:
        raise ValueError(
            f"centroids must have one entry per class, {labels.shape[1]}, but have {len(centroids)}"
        )
    found: list[np.ndarray] = []
    for column, means in enumerate(centroids):
        points = features[labels[:, column] == 1]
        if len(points) and not len(means):
            raise ValueError(
                f"{len(points)} images have the class in column {column} of labels, of which the "
                "clustering saw none; move one of them to the training images, or drop the class"
            )
        empty = np.zeros(0, np.int64)
        found.append(nearest_centroid(points, means, metric=metric) if len(points) else empty)
    return _multi_hot(labels, found, centroids)


def nearest_centroid(
    points: np.ndarray, centroids: np.ndarray, *, metric: Metric = "euclidean"
) -> np.ndarray:
    """The row of `centroids` nearest to each point; the lowest of equally near ones.

    Args:
        points: (n, D) finite float.
        centroids: (k, D) finite float, k >= 1.
        metric: "cosine" or "euclidean".

    Returns:
        (n,) int64 in 0..k-1.

    Example:
        >>> nearest_centroid(np.array([[1.0], [9.0], [5.0]]), np.array([[0.0], [10.0]]))
        array([0, 1, 0])
    """
    points, centroids = check_points(points), check_points(centroids, "centroids")
    check_shape("points", points.shape, ("n", centroids.shape[1]))
    # the nearest by |x - c|² has the largest x·c - |c|²/2; by the angle, the largest x·c/|c|
    origin = centroids.mean(axis=0, dtype=np.float64) if metric == "euclidean" else 0.0
    targets = centroids.astype(np.float64) - origin
    if metric == "cosine":
        targets /= row_norms(centroids)[:, None]
    half = np.zeros(len(targets)) if metric == "cosine" else (targets**2).sum(axis=1) / 2
    nearest = np.empty(len(points), np.int64)
    for rows in in_blocks(len(points), max(points.shape[1], len(targets))):
        scores = (points[rows].astype(np.float64) - origin) @ targets.T - half
        nearest[rows] = scores.argmax(axis=1)
    return nearest


def cluster_means(points: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The mean of each cluster's points.

    Args:
        points: (n, D) float.
        clusters: (n,) int in 0..k-1, each of them used.

    Returns:
        (k, D) float64; (0, D) of no points.
    """
    return cluster_sums(points, clusters) / np.bincount(clusters)[:, None]


def cluster_sums(points: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """(k, D) float64 sums of each cluster's points; see `cluster_means`."""
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

    count = int(clusters.max(initial=-1)) + 1
    members = (np.ones(len(points)), (clusters, np.arange(len(points))))
    matrix = csr_array(members, shape=(count, len(points)))
    sums = np.empty((count, points.shape[1]))
    for columns in in_blocks(points.shape[1], len(points)):
        sums[:, columns] = matrix @ points[:, columns].astype(np.float64)
    return sums


def number_by_appearance(clusters: np.ndarray) -> np.ndarray:
    """Rename clusters to 0, 1, ... in the order of their first points.

    Example:
        >>> number_by_appearance(np.array([7, 2, 7, 5]))
        array([0, 1, 0, 2])
    """
    _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[first.argsort()] = np.arange(len(first))
    renamed: np.ndarray = rank[inverse]
    return renamed


def check_points(points: np.ndarray, name: str = "points") -> np.ndarray:
    """The points as float32 or float64, rows contiguous. Raises ValueError for any not finite."""
    points = np.asarray(points)
    check_shape(name, points.shape, ("n", "D"))
    if not points.size:
        raise ValueError(f"{name} must hold at least one row and column, but are {points.shape}")
    if points.dtype not in (np.float32, np.float64):
        points = points.astype(np.float64)
    limit = min(1e100, float(np.finfo(points.dtype).max))  # squares of larger ones overflow
    for rows in in_blocks(*points.shape):
        fits = np.abs(points[rows]) <= limit  # false for NaN
        if not fits.all():
            row, column = np.argwhere(~fits)[0]
            raise ValueError(
                f"{name} must be finite and below 1e100, but row {rows.start + row} has "
                f"{points[rows.start + row, column]} in column {column}; leave that row out, or "
                "look at what made it"
            )
    return np.ascontiguousarray(points)


def row_norms(points: np.ndarray) -> np.ndarray:
    """(n,) float64 Euclidean norms; 1 for a row of zeros, which makes its cosines 0."""
    norms = np.empty(len(points))
    for rows in in_blocks(*points.shape):
        norms[rows] = np.linalg.norm(points[rows].astype(np.float64), axis=1)
    norms[norms == 0] = 1
    return norms


def in_blocks(count: int, width: int) -> Iterator[slice]:
    """Cut `count` rows of `width` numbers into slices of at most `COPIED` numbers."""
    step = max(1, COPIED // max(1, width))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _check_labels(features: np.ndarray, labels: np.ndarray) -> None:
    check_shape("features", features.shape, ("N", "D"))
    check_shape("labels", labels.shape, (len(features), "K"))
    wrong = np.argwhere((labels != 0) & (labels != 1))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"labels must be 0 or 1, but row {row} has {labels[row, column]} in column {column}"
        )


def _multi_hot(
    labels: np.ndarray, clusters: Sequence[np.ndarray], centroids: Sequence[np.ndarray]
) -> np.ndarray:
    """Sub-labels from, per class, the clusters of the images that have it."""
    starts = np.concatenate([[0], np.cumsum([len(means) for means in centroids], dtype=np.int64)])
    hot = np.zeros((len(labels), starts[-1]), labels.dtype)
    for column, chosen in enumerate(clusters):
        hot[np.flatnonzero(labels[:, column]), starts[column] + chosen] = 1
    return hot
