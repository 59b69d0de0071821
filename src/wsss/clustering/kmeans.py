"""k-means with the settings of sub-category exploration (Chang et al., CVPR 2020)."""

import warnings
from typing import Literal

import numpy as np
from pydantic import PositiveInt

from wsss.checks import check_range
from wsss.clustering._base import check_points, number_by_appearance
from wsss.registry import CLUSTERINGS
from wsss.settings import Named

__all__ = ["Kmeans", "KmeansSettings", "kmeans"]


def kmeans(
    points: np.ndarray, k: int, *, rng_seed: int, max_iters: int = 300, n_init: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's k-means from k-means++ starts; the best of `n_init` runs.

    With fewer than k different points every one of them is a cluster. It runs in one thread,
    since sums in several threads do not give the same bytes twice.

    Args:
        points: (n, D) finite float.
        k: clusters wanted, at least 1.
        rng_seed: in 0..2**32 - 1.
        max_iters: of each run; 300 as in the paper's code.
        n_init: runs; 10 was scikit-learn's default when the paper was written.

    Returns:
        (n,) int64 in 0..k'-1, numbered by first appearance, and (k', D) centroids of the
        points' dtype, where k' <= min(k, n). `nearest_centroid` gives further points theirs.

    Raises:
        ValueError: there are no points, one is not finite, k < 1, or the seed is not as above.

    Example:
        >>> labels, centroids = kmeans(np.array([[0.0], [1.0], [9.0]]), 2, rng_seed=0)
        >>> labels, centroids.ravel()
        (array([0, 0, 1]), array([0.5, 9. ]))
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    points = check_points(points)
    check_range("rng_seed", rng_seed, 0, 2**32 - 1)
    if k < 1:
        raise ValueError(f"k must be at least 1, but is {k}")
    model = KMeans(
        min(k, len(points)),
        init="k-means++",
        max_iter=max_iters,
        n_init=n_init,
        random_state=rng_seed,
    )
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        # fewer different points than clusters: the empty ones are dropped below
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    _, first = np.unique(model.labels_, return_index=True)
    kept = model.labels_[np.sort(first)]
    return number_by_appearance(model.labels_), model.cluster_centers_[kept]


class KmeansSettings(Named):
    """How many clusters, and how hard to look for them."""

    name: Literal["kmeans"] = "kmeans"
    num_clusters: PositiveInt = 10
    """Clusters of each class; a class of fewer images has one for each."""
    max_iters: PositiveInt = 300
    """Iterations of one run."""
    n_init: PositiveInt = 10
    """Runs from different starts, of which the best counts."""


@CLUSTERINGS.register(KmeansSettings)
class Kmeans:
    """A fixed number of clusters."""

    def __init__(self, settings: KmeansSettings) -> None:
        self.settings = settings

    def __call__(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return kmeans(
            points,
            self.settings.num_clusters,
            rng_seed=int(rng.integers(2**32)),
            max_iters=self.settings.max_iters,
            n_init=self.settings.n_init,
        )[0]
