"""The lattice filter against a plain dictionary lattice, and against the exact Gaussian."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.densecrf import lattice_filter
from wsss.densecrf.reference import bilateral_features, gaussian_filter, position_features


def dictionary_lattice(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Adams et al. 2010 word for word: float64, points one by one, vertices in a dict."""
    d, n = features.shape
    vertices: dict[tuple[int, ...], np.ndarray] = {}
    corners = []
    for i in range(n):
        scaled = features[:, i] / np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2))
        scaled = scaled * np.sqrt(2 / 3) * (d + 1)
        elevated = np.array(
            [scaled[j:].sum() - (j * scaled[j - 1] if j else 0.0) for j in range(d + 1)]
        )
        nearest = np.round(elevated / (d + 1)) * (d + 1)
        order = np.argsort(-(elevated - nearest), kind="stable")
        rank = np.empty(d + 1, int)
        rank[order] = np.arange(d + 1)
        rank += round(nearest.sum() / (d + 1))
        nearest[rank < 0] += d + 1
        nearest[rank > d] -= d + 1
        rank %= d + 1
        offset = np.zeros(d + 2)
        offset[rank] = (elevated - nearest) / (d + 1)  # by rank, falling
        weight = [1 + offset[d] - offset[0]]
        weight += [offset[d - k] - offset[d - k + 1] for k in range(1, d + 1)]
        simplex = []
        for r in range(d + 1):
            vertex = nearest + np.where(rank <= d - r, r, r - (d + 1))
            key = tuple(round(c) for c in vertex)
            vertices[key] = vertices.get(key, 0) + weight[r] * values[:, i]
            simplex.append((key, weight[r]))
        corners.append(simplex)
    for axis in range(d + 1):
        step = np.ones(d + 1, int)
        step[axis] = -d
        old = vertices
        nothing = np.zeros(len(values))
        vertices = {
            key: value
            + 0.5 * old.get(tuple(int(c) for c in np.array(key) - step), nothing)
            + 0.5 * old.get(tuple(int(c) for c in np.array(key) + step), nothing)
            for key, value in old.items()
        }
    out = [sum(w * vertices[key] for key, w in simplex) for simplex in corners]
    return np.stack(out, axis=1) / (1 + 2.0**-d)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 6, 9, 15])
@pytest.mark.parametrize("channels", [1, 4, 5, 21, 37])
def test_matches_a_dictionary_lattice(dim: int, channels: int) -> None:
    # Catches: a wrong neighbour constant, a chain cut short, a remainder that wraps wrongly, a
    # row width whose kernel mixes columns. 37 channels take the path of any width.
    rng = np.random.default_rng(dim)
    features = rng.normal(size=(dim, 75)) * rng.uniform(0.2, 9 / (dim + 1), (dim, 1)) - 0.5
    values = rng.uniform(size=(channels, 75))
    expected = dictionary_lattice(features, values)
    np.testing.assert_allclose(lattice_filter(features, values), expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_matches_a_dictionary_lattice_when_points_share_simplices(dim: int) -> None:
    # Crowded points: catches a remembered simplex taken for another with the same first corner.
    rng = np.random.default_rng(dim)
    features = rng.uniform(0, 0.8, (dim, 300))
    values = rng.uniform(size=(2, 300))
    expected = dictionary_lattice(features, values)
    np.testing.assert_allclose(lattice_filter(features, values), expected, rtol=2e-4)


@pytest.mark.parametrize("sigma_xy, sigma_rgb", [(80, 13), (10, 20)])
def test_average_is_close_to_the_exact_gaussian(make_problem, sigma_xy, sigma_rgb) -> None:
    # Catches: sigma applied twice or squared, a missing sqrt(2/3), barycentric weights of the wrong
    # corner. The lattice's own error is 0.02 here.
    image, probs = make_problem(24, 31, 3)
    features = bilateral_features(image, sigma_xy, sigma_rgb)
    values = np.concatenate([probs.reshape(3, -1), np.ones((1, features.shape[1]))])
    ours, exact = lattice_filter(features, values), gaussian_filter(features, values)
    difference = np.abs(ours[:3] / ours[3] - exact[:3] / exact[3])
    assert difference.max() < 0.04
    assert difference.mean() < 0.004


def test_impulse_response_is_a_gaussian_of_unit_sigma() -> None:
    # Catches an error in the kernel's width that normalised averages of smooth data would hide.
    features = position_features(61, 61, 6.0)
    impulse = np.zeros((1, 61 * 61))
    impulse[0, 30 * 61 + 30] = 1
    response = lattice_filter(features, impulse)[0].astype(float)
    response /= response.sum()
    squared = (features - features[:, [30 * 61 + 30]]) ** 2
    np.testing.assert_allclose((response * squared).sum(axis=1), 1.0, rtol=0.1)
    exact = gaussian_filter(features, impulse)[0]
    assert np.abs(response - exact / exact.sum()).sum() < 0.1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_is_linear_and_symmetric(dim, n, channels, rng_seed) -> None:
    # <a, K b> = <K a, b> fails if splat and slice disagree on a weight; linearity fails if a
    # channel leaks into another or a workspace is not cleared. The blur's axes do not commute where
    # vertices are missing, which leaves a small asymmetry.
    rng = np.random.default_rng(rng_seed)
    features = rng.normal(size=(dim, n)) * 0.1
    a, b = rng.uniform(size=(2, channels, n))
    filtered_a, filtered_b = lattice_filter(features, a), lattice_filter(features, b)
    both = lattice_filter(features, 2 * a - b)
    np.testing.assert_allclose(both, 2 * filtered_a - filtered_b, rtol=1e-3, atol=1e-3)
    for c in range(channels):
        np.testing.assert_allclose(filtered_a[c] @ b[c], a[c] @ filtered_b[c], rtol=0.05)
        np.testing.assert_array_equal(lattice_filter(features, a[[c]])[0], filtered_a[c])


def test_one_point_keeps_its_value() -> None:
    # The lattice's own gain at a lone point: the same for every channel.
    ones, twos = lattice_filter(np.zeros((2, 1)), np.array([[1.0], [2.0]]))
    assert 0.5 < ones[0] < 1.1
    assert twos[0] == 2 * ones[0]


@pytest.mark.parametrize(
    "features, message",
    [
        (np.zeros((2, 3, 4)), r"must have shape \(d, N\)"),
        (np.zeros((16, 4)), "1 to 15 components but have 16"),
        (np.zeros((0, 4)), "1 to 15 components but have 0"),
        (np.array([[0, 1, np.nan, 2]]), "component 0 of point 2 is nan"),
        (np.array([[0, 1, 2, 2], [0, 1, 1, np.inf]]), "component 1 of point 3 is inf"),
        (np.array([[0, 0, 0, 1e8]]), "2.20 lattice cells.*larger sigma"),
        (np.array([[0, 0, 0, 3e38]] * 2), "larger sigma"),
        (np.array([[0, 0, 0, 1e5]] * 5), "2.60 lattice cells.*larger sigma"),
    ],
)
def test_refuses_features_it_cannot_number(features: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lattice_filter(features, np.ones((1, 4)))


def test_refuses_values_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(C, N\) with N = 4"):
        lattice_filter(np.zeros((2, 4)), np.zeros((1, 5)))
    with pytest.raises(ValueError, match="nan at channel 1, point 2"):
        lattice_filter(np.zeros((1, 3)), np.array([[0, 0, 0], [0, 0, np.nan]]))
    with pytest.raises(ValueError, match=r"at least one point and one label|1 to .* points"):
        lattice_filter(np.zeros((2, 0)), np.zeros((1, 0)))


def test_far_features_are_numbered_exactly() -> None:
    # Two clusters 300 000 sigmas apart do not meet: an int16 key would wrap them together.
    features = np.array([[0.0, 0.1, 3e5, 3e5]])
    values = np.array([[1.0, 1.0, 0.0, 0.0]])
    out = lattice_filter(features, values)[0]
    assert (out[:2] > 0.1).all()
    assert (out[2:] == 0).all()
