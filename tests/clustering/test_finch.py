"""FINCH against its definition, written out over all pairs, and its invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsss.clustering._base import Metric, number_by_appearance
from wsss.clustering.finch import _merge, _Search, finch, first_neighbours

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")
TOY = np.array([0, 1, 2.2, 10, 11, 30, 31, 33.5])[:, None]


def all_distances(points: np.ndarray, metric: Metric) -> np.ndarray:
    """(n, n) float64, infinite on the diagonal."""
    points = points.astype(np.float64)
    if metric == "euclidean":
        distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    else:
        norms = np.sqrt((points**2).sum(axis=1))
        unit = points / np.where(norms > 0, norms, 1)[:, None]
        distances = 1 - unit @ unit.T
    np.fill_diagonal(distances, np.inf)
    return distances


def nearest(distances: np.ndarray) -> np.ndarray:
    """The lowest index among the equally near."""
    low = distances.min(axis=1, keepdims=True)
    return (distances <= low + 1e-11 * (1 + low)).argmax(axis=1)


def adjacency(distances: np.ndarray) -> np.ndarray:
    """j = κ(i), or i = κ(j), or κ(i) = κ(j)."""
    first = nearest(distances)
    linked = np.zeros(distances.shape, bool)
    linked[np.arange(len(first)), first] = True
    linked = linked | linked.T | (first[:, None] == first[None])
    np.fill_diagonal(linked, False)
    return linked


def components(linked: np.ndarray) -> np.ndarray:
    labels = np.full(len(linked), -1)
    for start in range(len(linked)):
        waiting = [start] if labels[start] < 0 else []
        label = labels.max() + 1
        while waiting:
            at = waiting.pop()
            labels[at] = label
            waiting.extend(j for j in np.flatnonzero(linked[at]) if labels[j] < 0)
    return labels


def means_of(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([points[labels == label].mean(axis=0) for label in range(labels.max() + 1)])


def by_definition(points: np.ndarray, metric: Metric, drop: bool = False) -> list[np.ndarray]:
    distances = all_distances(points, metric)
    linked = adjacency(distances)
    longest = distances[linked].max() if drop else np.inf
    levels = [components(linked)]
    while levels[-1].max() > 0:
        distances = all_distances(means_of(points, levels[-1]), metric)
        merged = components(adjacency(distances) & (distances <= longest + 1e-11))
        if merged.max() == 0 or merged.max() == levels[-1].max():
            break
        levels.append(merged[levels[-1]])
    return levels


def merged_to(points: np.ndarray, count: int, metric: Metric) -> np.ndarray:
    """From the coarsest partition with enough clusters, one linked pair after another."""
    labels = [level for level in by_definition(points, metric) if level.max() + 1 >= count][-1]
    return merged_from(points, labels, count, metric)


def merged_from(points: np.ndarray, labels: np.ndarray, count: int, metric: Metric) -> np.ndarray:
    while labels.max() + 1 > count:
        distances = all_distances(means_of(points, labels), metric)
        distances[~adjacency(distances)] = np.inf
        low = distances.min()
        kept, two = np.argwhere(distances <= low + 1e-11 * (1 + low))[0]
        labels = number_by_appearance(np.where(labels == two, kept, labels))
    return labels


grids = st.tuples(st.integers(2, 14), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-4, 4).map(float))
)
"""Few coordinates, so that equal points, equal distances and zeros are common."""


def scattered(n: int, dims: int, rng_seed: int = 0) -> np.ndarray:
    """Groups of points without ties."""
    rng = np.random.default_rng(rng_seed)
    centres = rng.normal(size=(max(1, n // 10), dims)) * 3
    return centres[rng.integers(len(centres), size=n)] + rng.normal(size=(n, dims))


def partitions(points: np.ndarray, **options: object) -> list[list[int]]:
    return [level.labels.tolist() for level in finch(points, **options)]  # type: ignore[arg-type]


def test_worked_example() -> None:
    """The next level is a single cluster and is discarded."""
    assert partitions(TOY, metric="euclidean") == [[0, 0, 0, 1, 1, 2, 2, 2]]


def test_two_levels_by_hand() -> None:
    """Pairs 1 apart, their means 10 apart in twos, those 100 apart."""
    points = np.array([0, 1, 10, 11, 110, 111, 120, 121.0])[:, None]
    assert partitions(points, metric="euclidean") == [
        [0, 0, 1, 1, 2, 2, 3, 3],
        [0, 0, 0, 0, 1, 1, 1, 1],
    ]


def test_means_are_of_the_original_points() -> None:
    """Clusters of 2 to 29 points, whose means' mean is elsewhere."""
    rng = np.random.default_rng(3)
    weights = rng.integers(2, 30, size=40)
    centres = np.repeat(rng.normal(size=(40, 2)) * 50, weights, axis=0)
    points = centres + rng.normal(size=centres.shape)
    levels = by_definition(points, "euclidean")
    assert len(levels) >= 3
    assert partitions(points, metric="euclidean") == [level.tolist() for level in levels]


@given(grids, st.sampled_from(METRICS), st.booleans(), st.integers(1, 15))
@settings(max_examples=300)
def test_equals_the_definition(
    points: np.ndarray, metric: Metric, drop: bool, block_rows: int
) -> None:
    found = partitions(points, metric=metric, drop_long_links=drop, block_rows=block_rows)
    assert found == [level.tolist() for level in by_definition(points, metric, drop)]


@given(grids, st.sampled_from(METRICS))
@settings(max_examples=100)
def test_required_clusters_equal_the_definition(points: np.ndarray, metric: Metric) -> None:
    for count in range(1, finch(points, metric=metric)[0].num_clusters + 1):
        (found,) = partitions(points, metric=metric, required_clusters=count)
        assert found == merged_to(points, count, metric).tolist()


@given(grids, st.sampled_from(METRICS))
@settings(max_examples=100)
def test_merging_single_points_equals_the_definition(points: np.ndarray, metric: Metric) -> None:
    """Long runs of merges, in which ties and means nearer than any point are common."""
    labels = single = np.arange(len(points))
    for count in range(len(points) - 1, 0, -1):
        labels = merged_from(points, labels, count, metric)
        assert _merge(points, single, count, metric, 1024).tolist() == labels.tolist()


def test_a_new_mean_wins_ties_by_its_index() -> None:
    """After 1 and 2 met at (2, 0), point 0 is as far from them as from 3."""
    points = np.array([[0, 0], [2, 0.5], [2, -0.5], [-2, 0]])
    merged = _merge(points, np.arange(4), 2, "euclidean", 1024)
    assert merged.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("metric", METRICS)
def test_required_clusters_of_many_points(metric: Metric) -> None:
    points = scattered(150, 6)
    counts = [level.num_clusters for level in finch(points, metric=metric)]
    assert len(counts) >= 2
    for count in {*counts, counts[-1] - 1, counts[0] - 1, counts[1] + 1, 1}:
        (found,) = finch(points, metric=metric, required_clusters=count)
        assert found.num_clusters == count
        assert found.labels.tolist() == merged_to(points, count, metric).tolist()


def test_required_clusters_of_a_level_are_that_level() -> None:
    points = scattered(120, 4)
    for level in finch(points):
        (found,) = finch(points, required_clusters=level.num_clusters)
        np.testing.assert_array_equal(found.labels, level.labels)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_do_not_change_neighbours(metric: Metric, dtype: type) -> None:
    points = scattered(203, 17).astype(dtype)
    distances = all_distances(points, metric)
    for block_rows in (1, 7, 64, 202, 203, 1000):
        index, distance = first_neighbours(points, metric=metric, block_rows=block_rows)
        np.testing.assert_array_equal(index, distances.argmin(axis=1))
        np.testing.assert_allclose(distance, distances.min(axis=1), rtol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_float64_decides_between_close_candidates(metric: Metric) -> None:
    """Angles of 1e-5 and an offset of 1e5: a float32 product alone cannot tell them apart."""
    rng = np.random.default_rng(0)
    points = (np.ones(8) + 1e-5 * rng.normal(size=(200, 8))) * (1e5 if metric == "cosine" else 1)
    points += 0 if metric == "cosine" else 1e5 * (np.arange(200)[:, None] % 2)
    distances = all_distances(points, metric)
    with_float32 = points.astype(np.float32)
    with_float32 /= np.linalg.norm(with_float32, axis=1, keepdims=True)
    scores = with_float32 @ with_float32.T
    np.fill_diagonal(scores, -1)
    assert (scores.argmax(axis=1) != distances.argmin(axis=1)).mean() > 0.5
    # cosine distances are here 1e-10 and known to 1e-12: the nearest up to that
    index, distance = first_neighbours(points, metric=metric, block_rows=50)
    chosen = distances[np.arange(200), index]
    assert (chosen <= distances.min(axis=1) + (2e-12 if metric == "cosine" else 0)).all()
    np.testing.assert_allclose(distance, chosen, atol=2e-12)


def test_rounding_of_far_points_is_allowed_for() -> None:
    """Seen from the centre, points of radius 1 differ by 1e-9: less than float32 can tell."""
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, size=500)
    radii = 1 + 1e-9 * np.random.default_rng(1).permutation(500)
    ring = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = np.concatenate([np.zeros((1, 2)), ring, -ring])  # their mean is the centre
    index, distance = first_neighbours(points, metric="euclidean", block_rows=100)
    assert index[0] == 1 + radii.argmin()
    assert distance[0] == pytest.approx(1, abs=1e-11)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_size_of_the_coordinates_does_not_matter(scale: float) -> None:
    """Squares of such numbers leave float32."""
    points = scattered(60, 3)
    for metric in METRICS:
        assert partitions(points * scale, metric=metric) == partitions(points, metric=metric)


@given(st.integers(0, 10**6), st.sampled_from(METRICS), st.booleans())
@settings(max_examples=30)
def test_order_of_points_does_not_matter(rng_seed: int, metric: Metric, drop: bool) -> None:
    points = scattered(60, 4, rng_seed)
    order = np.random.default_rng(rng_seed).permutation(60)
    before = finch(points, metric=metric, drop_long_links=drop)
    after = finch(points[order], metric=metric, drop_long_links=drop)
    assert [number_by_appearance(level.labels[order]).tolist() for level in before] == [
        level.labels.tolist() for level in after
    ]


@given(st.integers(0, 10**6), st.floats(0.01, 100))
@settings(max_examples=30)
def test_scale_does_not_matter(rng_seed: int, scale: float) -> None:
    points = scattered(60, 4, rng_seed)
    for metric in METRICS:
        assert partitions(points * scale, metric=metric) == partitions(points, metric=metric)
    moved = points * scale + np.array([5, -3, 100, 0])
    assert partitions(moved, metric="euclidean") == partitions(points, metric="euclidean")
    lengths = np.random.default_rng(rng_seed).uniform(0.1, 9, size=(60, 1))
    assert partitions(points * lengths)[0] == partitions(points)[0]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([0, 1, 2], [1, 0, 1]),  # 1 is as far from 0 as from 2
        ([2, 1, 0], [1, 0, 1]),
        ([0, 3, -3, 3], [1, 3, 0, 1]),  # the equal points 1 and 3
        ([5, 5, 5], [1, 0, 0]),
    ],
)
@pytest.mark.parametrize("block_rows", [1, 2, 9])
def test_lowest_index_wins_ties(points: list[int], expected: list[int], block_rows: int) -> None:
    column = np.array(points, float)[:, None]
    index, _ = first_neighbours(column, metric="euclidean", block_rows=block_rows)
    assert index.tolist() == expected


def test_multiples_are_ties_by_cosine() -> None:
    """(1, 1), (3, 3), (7, 7), ... have one direction, whatever their norms round to."""
    points = np.outer([1, 3, 7, 0.1, 11, 13], [1, 1.7, 0.3])
    assert first_neighbours(points)[0].tolist() == [1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("metric", METRICS)
def test_duplicates_are_one_cluster_and_cost_little(
    metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    decide = _Search._decide

    def counted(self: _Search, row: np.ndarray, column: np.ndarray) -> None:
        compared.append(len(row))
        decide(self, row, column)

    monkeypatch.setattr(_Search, "_decide", counted)
    points = np.repeat([[0.3, 0.7], [-5, 2]], 500, axis=0)
    (level,) = finch(points, metric=metric, block_rows=128)
    assert level.labels.tolist() == [0] * 500 + [1] * 500
    assert sum(compared) < 5 * len(points)  # of 10^6 pairs


def test_zero_rows_are_far_from_all_by_cosine() -> None:
    points = np.array([[0, 0], [1, 0], [1, 0.1], [0, 0], [-1, 0]])
    index, distance = first_neighbours(points)
    assert index.tolist() == [1, 2, 1, 0, 0]
    assert distance[[0, 3, 4]].tolist() == [1, 1, 1]


def test_one_and_two_points() -> None:
    assert partitions(np.ones((1, 3))) == [[0]]
    assert partitions(np.ones((1, 3)), required_clusters=1) == [[0]]
    assert partitions(np.array([[1.0, 0], [0, 1]])) == [[0, 0]]


def test_early_exit_keeps_far_groups_apart() -> None:
    """Without it, the four pairs meet in twos; with it, links of 10 exceed the longest, 1."""
    points = np.array([0, 1, 10, 11, 110, 111, 120, 121.0])[:, None]
    kept = partitions(points, metric="euclidean", drop_long_links=True)
    assert kept == [[0, 0, 1, 1, 2, 2, 3, 3]]


def test_early_exit_keeps_links_as_long_as_the_longest() -> None:
    """Two crossed pairs of length 2 with means 2 apart, and a far third one."""
    points = np.array([[0, 0, 0], [2, 0, 0], [1, 2, -1], [1, 2, 1], [1, 99, 0], [1, 99, 1.0]])
    assert partitions(points, metric="euclidean", drop_long_links=True) == [
        [0, 0, 1, 1, 2, 2],
        [0, 0, 0, 0, 1, 1],
    ]


def test_early_exit_measures_links_of_siblings_too() -> None:
    """0 and 4 share the neighbour 2, so the longest link is 4, not 2; 3.5 away is kept."""
    points = np.array([0, 2, 4.1, 100, 101, 104.5, 105.5])[:, None]
    means = [2.03, 100.5, 105]
    assert means[2] - means[1] > 4.1
    dropped = partitions(points, metric="euclidean", drop_long_links=True)
    assert len(dropped) == 1
    points[5:] -= 0.9  # the means are now 3.6 apart: more than a first link, less than 4.1
    dropped = partitions(points, metric="euclidean", drop_long_links=True, block_rows=1)
    assert dropped == [[0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1, 1]]


def test_refuses_what_it_can_not_cluster() -> None:
    with pytest.raises(ValueError, match=r"at least one row and column, but are \(0, 3\)"):
        finch(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"points must have shape \(n, D\), but has \(3,\)"):
        finch(np.zeros(3))
    bad = np.ones((5, 3), np.float32)
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3 has nan in column 1"):
        finch(bad)
    with pytest.raises(ValueError, match="required_clusters must be at least 1, but is 0"):
        finch(TOY, required_clusters=0)
    message = "at most 3, .* these 8 points has, but is 4; ask for fewer, or use kmeans"
    with pytest.raises(ValueError, match=message):
        finch(TOY, metric="euclidean", required_clusters=4)
    with pytest.raises(ValueError, match=r"at most 1, .* but is 2"):
        finch(np.ones((1, 2)), required_clusters=2)
    with pytest.raises(ValueError, match="points must be at least 2"):
        first_neighbours(np.ones((1, 2)))
