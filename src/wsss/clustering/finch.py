"""Clusters from first-neighbour relations: FINCH (Sarfraz et al., CVPR 2019).

Written from the paper's formulas.
"""

from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Literal

import numpy as np
from pydantic import PositiveInt

from wsss.clustering._base import (
    Metric,
    check_points,
    cluster_means,
    cluster_sums,
    in_blocks,
    number_by_appearance,
    row_norms,
)
from wsss.registry import CLUSTERINGS
from wsss.settings import Named

__all__ = ["Finch", "FinchSettings", "Partition", "finch", "first_neighbours"]

TIE = 2.0**40
"""Distances that agree to this precision, 12 digits, are ties."""


@dataclass(frozen=True)
class Partition:
    """One level of the hierarchy."""

    labels: np.ndarray
    """(n,) int64 in 0..num_clusters-1, numbered by first appearance."""

    @property
    def num_clusters(self) -> int:
        """How many clusters there are."""
        return int(self.labels.max()) + 1


def finch(
    points: np.ndarray,
    *,
    metric: Metric = "cosine",
    required_clusters: int | None = None,
    drop_long_links: bool = False,
    block_rows: int = 1024,
) -> list[Partition]:
    """Partition points by joining each with its first neighbour, and so on for the means.

    With κ(i) the nearest other point, i and j are linked if j = κ(i), i = κ(j) or κ(i) = κ(j),
    and the connected components are the clusters. The next level does the same to the means
    of the clusters' original points, as given: by cosine, scaling single rows leaves the first
    level as it is, but not the means. It ends before a level of a single cluster, or of as many
    clusters as the level before; the first level is always returned.

    Time is O(n² D) for the first level and far less for the others; see `first_neighbours` for
    the memory. `required_clusters` takes O(m D) for each merge, from a level of m clusters.

    Args:
        points: (n, D) finite float, n >= 1.
        metric: "cosine", for which a row of zeros is at distance 1 from all, or "euclidean".
        required_clusters: return one partition of that many clusters: of the coarsest level
            that has enough, merge the linked pair of smallest distance until it is reached.
        drop_long_links: from the second level on, leave out links longer than the longest of
            the first, as the authors' code does by default ("early exit") and the paper does
            not. Far clusters then stay apart, so that the coarsest partition is a finer one.
            Their code counts links of mutual neighbours twice as long in that maximum; here
            a length is a length.
        block_rows: passed to `first_neighbours`.

    Returns:
        Partitions, finest first; with `required_clusters`, that one alone.

    Raises:
        ValueError: there are no points, one is not finite, or `required_clusters` is more than
            the finest partition has.

    Example:
        >>> points = np.array([0, 1, 2.2, 10, 11, 30, 31, 33.5])[:, None]
        >>> [level.labels for level in finch(points, metric="euclidean")]
        [array([0, 0, 0, 1, 1, 2, 2, 2])]
        >>> [level.labels for level in finch(points, metric="euclidean", required_clusters=2)]
        [array([0, 0, 0, 0, 0, 1, 1, 1])]
    """
    points = check_points(points)
    if required_clusters is not None and required_clusters < 1:
        raise ValueError(f"required_clusters must be at least 1, but is {required_clusters}")
    if len(points) == 1:
        levels = [Partition(np.zeros(1, np.int64))]
    else:
        levels = _levels(points, metric, drop_long_links, block_rows)
    if required_clusters is None:
        return levels
    if required_clusters > levels[0].num_clusters:
        raise ValueError(
            f"required_clusters must be at most {levels[0].num_clusters}, which is what the "
            f"finest partition of these {len(points)} points has, but is {required_clusters}; "
            "ask for fewer, or use kmeans, which takes any number"
        )
    start = [level for level in levels if level.num_clusters >= required_clusters][-1]
    return [Partition(_merge(points, start.labels, required_clusters, metric, block_rows))]


def first_neighbours(
    points: np.ndarray, *, metric: Metric = "cosine", block_rows: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other point of each point, by exact search.

    Blocks of float32 matrix products, each used for its rows and its columns, rule out all but
    the pairs within their rounding error of the nearest; float64 decides among these. The
    result therefore depends neither on `block_rows` nor on the number of threads. Distances
    that agree to 12 digits are ties, and the lowest index wins.

    Memory beside the points: one float32 copy of them, 4 n D bytes, about 100 n bytes, and some
    100 MB for block_rows = 1024, growing with its square; never n². Time is O(n² D), and more
    where a good part of all pairs are near-ties (equal rows are not: they are searched once).

    Args:
        points: (n, D) finite float, n >= 2.
        metric: "cosine" or "euclidean".
        block_rows: side of a block.

    Returns:
        (n,) int64 indices and (n,) float64 distances.

    Raises:
        ValueError: there are fewer than two points, or one is not finite.
    """
    points = check_points(points)
    if len(points) < 2:
        raise ValueError(f"points must be at least 2 to have neighbours, but are {len(points)}")
    if block_rows < 1:
        raise ValueError(f"block_rows must be at least 1, but is {block_rows}")
    # equal rows are searched once: they would be ties with one another as seen from any point
    first, second = _equal_rows(points)
    different = np.flatnonzero(first == np.arange(len(points)))
    search = _Search(points, different, metric)
    starts = range(0, len(different), block_rows)
    for start in starts:
        rows = slice(start, min(start + block_rows, len(different)))
        for other in starts[start // block_rows :]:
            columns = slice(other, min(other + block_rows, len(different)))
            scores = search.scores(rows, columns)
            if start == other:
                np.fill_diagonal(scores, -np.inf)
            # every row meets the others' blocks in ascending order: of ties, the first one stays
            search.offer(scores, rows, columns)
            if start != other:
                search.offer(scores.T, columns, rows)
    searched = np.searchsorted(different, first)
    nearest, distances = different[search.nearest[searched]], search.distances[searched]
    equal = np.where(second >= 0, second, first)
    # by cosine, a row of the same direction is as near as an equal one
    chosen = (equal != np.arange(len(points))) & ((distances > 0) | (equal < nearest))
    nearest[chosen], distances[chosen] = equal[chosen], 0
    if metric == "cosine":
        zero = np.concatenate([~points[rows].any(axis=1) for rows in in_blocks(*points.shape)])
        nearest[zero], distances[zero] = 0, 1
        nearest[0] = 1 if zero[0] else nearest[0]
    return nearest, distances


def _equal_rows(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row, the first row of the same bytes, and the second one or -1."""
    first = np.arange(len(points))
    second = np.full(len(points), -1)
    seen: dict[bytes, int] = {}
    for index, row in enumerate(points):
        at = seen.setdefault(blake2b(row.data, digest_size=16).digest(), index)
        first[index] = at
        if at != index and second[at] < 0:
            second[at] = index
    return first, second


class _Search:
    """The nearest points so far, as blocks of scores come in; a higher score is nearer.

    Indices are those of `different`, the rows that are searched.
    """

    def __init__(self, points: np.ndarray, different: np.ndarray, metric: Metric) -> None:
        self.points, self.different, self.metric = points, different, metric
        self.norms = row_norms(points) if metric == "cosine" else np.ones(0)
        self.nearest = np.full(len(different), -1, np.int64)
        self.distances = np.full(len(different), np.inf)
        self.unit = 1.0  # length of 1 in `vectors`
        self.vectors = np.empty((len(different), points.shape[1]), np.float32)
        centre = points.mean(axis=0, dtype=np.float64) if metric == "euclidean" else 0.0
        if metric == "euclidean":
            spread = (np.abs(points[rows] - centre).max() for rows in in_blocks(*points.shape))
            self.unit = float(max(spread)) or 1.0
        for rows in in_blocks(*self.vectors.shape):
            moved = points[different[rows]] - np.asarray(centre, np.float64)
            moved /= self.unit if metric == "euclidean" else self.norms[different[rows], None]
            self.vectors[rows] = moved
        self.half = np.einsum("ij,ij->i", self.vectors, self.vectors) / 2

    def scores(self, rows: slice, columns: slice) -> np.ndarray:
        """float32 cosines, or minus half the squared distances in units of `unit`²."""
        scores: np.ndarray = self.vectors[rows] @ self.vectors[columns].T
        if self.metric == "euclidean":
            scores -= self.half[columns]
            scores -= self.half[rows, None]
        return scores

    def offer(self, scores: np.ndarray, rows: slice, columns: slice) -> None:
        """Keep what is nearer than before. `scores` are of `rows` by `columns`."""
        peak = scores.max(axis=1)
        best = self.distances[rows]
        known = 1 - best if self.metric == "cosine" else -((best / self.unit) ** 2) / 2
        # a product's error is below D eps |x||y|, and |x||y| below the sum of their half squares
        error = (self.points.shape[1] + 8) * np.finfo(np.float32).eps
        margin = 2 * error * (self.half[rows] + self.half[columns].max()) + 4 / TIE
        reach = np.maximum(peak, known) - margin
        hit = np.flatnonzero((peak >= reach) & (peak > -np.inf))
        if len(hit):
            row, column = np.nonzero(scores[hit] >= reach[hit, None])
            self._decide(hit[row] + rows.start, column + columns.start)

    def _decide(self, row: np.ndarray, column: np.ndarray) -> None:
        """Compare candidates in float64."""
        pairs = self.different[row], self.different[column]
        distances = _distances(self.points, self.norms, *pairs, self.metric)
        order = np.lexsort((column, distances, row))
        order = order[np.diff(row[order], prepend=-1) != 0]
        row, column, distances = row[order], column[order], distances[order]
        nearer = distances < self.distances[row]
        self.nearest[row[nearer]] = column[nearer]
        self.distances[row[nearer]] = distances[nearer]


def _distances(
    points: np.ndarray, norms: np.ndarray, row: np.ndarray, column: np.ndarray, metric: Metric
) -> np.ndarray:
    """Distances of pairs of points in float64, rounded so that ties are equal."""
    found = np.empty(len(row))
    for pairs in in_blocks(len(row), points.shape[1]):
        left = points[row[pairs]].astype(np.float64)
        right = points[column[pairs]].astype(np.float64)
        if metric == "euclidean":
            left -= right
            right = left
        found[pairs] = np.einsum("ij,ij->i", left, right)
    if metric == "euclidean":
        mantissa, exponent = np.frexp(np.sqrt(found))
        distances: np.ndarray = np.ldexp(np.rint(mantissa * TIE) / TIE, exponent)
        return distances
    cosines = found / (norms[row] * norms[column])
    rounded: np.ndarray = np.maximum(np.rint((1 - cosines) * TIE) / TIE, 0)
    return rounded


def _components(nearest: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Connected components of the links i - κ(i) that are kept.

    Two points of one first neighbour are linked through it, whatever is left out: neither is
    nearer to the other than to that neighbour, so if their link is kept, so are those two.
    """
    from scipy.sparse import csr_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    rows = np.flatnonzero(kept)
    links = (np.ones(len(rows), np.int8), (rows, nearest[rows]))
    graph = csr_array(links, shape=(len(nearest), len(nearest)))
    return number_by_appearance(connected_components(graph, directed=False)[1])


def _levels(
    points: np.ndarray, metric: Metric, drop_long_links: bool, block_rows: int
) -> list[Partition]:
    nearest, distances = first_neighbours(points, metric=metric, block_rows=block_rows)
    longest = np.inf
    if drop_long_links:
        longest = max(distances.max(), _longest_sibling_link(points, nearest, metric, block_rows))
    levels = [Partition(_components(nearest, np.ones(len(points), bool)))]
    while levels[-1].num_clusters > 1:
        means = cluster_means(points, levels[-1].labels)
        nearest, distances = first_neighbours(means, metric=metric, block_rows=block_rows)
        merged = _components(nearest, distances <= longest)
        count = merged.max() + 1
        if count == 1 or count == len(means):
            break
        levels.append(Partition(merged[levels[-1].labels]))
    return levels


def _longest_sibling_link(
    points: np.ndarray, nearest: np.ndarray, metric: Metric, block_rows: int
) -> float:
    """The largest distance of two points with the same first neighbour; 0 without any."""
    norms = row_norms(points) if metric == "cosine" else np.ones(0)
    order = nearest.argsort(kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(nearest[order])) + 1)
    longest = 0.0
    for group in groups:
        for at in range(0, len(group) if len(group) > 1 else 0, block_rows):
            left = group[at : at + block_rows]
            for other in range(at, len(group), block_rows):
                right = group[other : other + block_rows]
                ours, theirs = (points[part].astype(np.float64) for part in (left, right))
                if metric == "cosine":
                    far = -(ours @ theirs.T) / norms[right] / norms[left, None]
                else:
                    ours, theirs = ours - ours[0], theirs - ours[0]
                    far = (theirs**2).sum(axis=1) - 2 * (ours @ theirs.T)
                    far += (ours**2).sum(axis=1)[:, None]
                row, column = np.unravel_index(far.argmax(), far.shape)
                pair = left[row : row + 1], right[column : column + 1]
                longest = max(longest, float(_distances(points, norms, *pair, metric)[0]))
    return longest


def _merge(
    points: np.ndarray, labels: np.ndarray, count: int, metric: Metric, block_rows: int
) -> np.ndarray:
    """Merge the closest linked pair of clusters until `count` are left.

    The shortest of all links is that of a point to its first neighbour. After a merge only
    clusters whose neighbour was one of the pair look for a new one; the others compare theirs
    with the new mean.
    """
    sizes = np.bincount(labels)
    if len(sizes) == count:
        return labels
    sums = cluster_sums(points, labels)
    means = sums / sizes[:, None]
    nearest, distances = first_neighbours(means, metric=metric, block_rows=block_rows)
    norms = row_norms(means) if metric == "cosine" else np.ones(0)
    parent = np.arange(len(sizes))
    alive = np.ones(len(sizes), bool)
    for _ in range(len(sizes) - count):
        found = int(distances.argmin())
        kept, gone = sorted((found, int(nearest[found])))
        sums[kept] += sums[gone]
        sizes[kept] += sizes[gone]
        means[kept] = sums[kept] / sizes[kept]
        parent[parent == gone] = kept
        alive[gone], distances[gone] = False, np.inf
        if metric == "cosine":
            norms[kept] = row_norms(means[kept : kept + 1])[0]
        others = np.flatnonzero(alive)
        others = others[others != kept]
        if not len(others):
            break
        new = _distances(means, norms, np.full(len(others), kept), others, metric)
        lost = np.isin(nearest[others], (kept, gone))
        closer = ~lost & (
            (new < distances[others]) | ((new == distances[others]) & (kept < nearest[others]))
        )
        nearest[others[closer]], distances[others[closer]] = kept, new[closer]
        nearest[kept], distances[kept] = others[new.argmin()], new.min()
        for index in others[lost]:
            rest = np.flatnonzero(alive)
            rest = rest[rest != index]
            new = _distances(means, norms, np.full(len(rest), index), rest, metric)
            nearest[index], distances[index] = rest[new.argmin()], new.min()
    return number_by_appearance(parent[labels])


class FinchSettings(Named):
    """Which distance, and which level of the hierarchy."""

    name: Literal["finch"] = "finch"
    metric: Metric = "cosine"
    """'cosine' or 'euclidean'."""
    partition: Literal["coarsest", "finest"] = "coarsest"
    """The level that counts, unless `required_clusters` is set."""
    required_clusters: PositiveInt | None = None
    """Clusters of each class; a class whose finest level has fewer stays at that level."""
    drop_long_links: bool = False
    """From the second level on, leave out links longer than the longest of the first."""


@CLUSTERINGS.register(FinchSettings)
class Finch:
    """As many clusters as the points suggest."""

    def __init__(self, settings: FinchSettings) -> None:
        self.settings = settings

    def __call__(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        settings, required = self.settings, self.settings.required_clusters
        levels_of = partial(
            finch, points, metric=settings.metric, drop_long_links=settings.drop_long_links
        )
        levels = levels_of()
        if required is None:
            return levels[0 if settings.partition == "finest" else -1].labels
        if required < levels[0].num_clusters:
            levels = levels_of(required_clusters=required)
        return levels[0].labels
