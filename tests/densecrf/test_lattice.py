"""The lattice filter against a plain dictionary lattice, and against the exact Gaussian."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.densecrf import bilateral_filter, lattice
from wsss.densecrf.reference import bilateral_features, gaussian_filter, position_features


def dictionary_lattice(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Adams et al. 2010 word for word: float64, points one by one, vertices in a dict."""
    d, n = features.shape
    vertices: dict[tuple[int, ...], np.ndarray] = {}
    corners = []
    for i in range(n):
        scaled = features[:, i] / np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2))
        scaled = scaled * np.sqrt(2 / 3) * (d + 1)
        tail = np.append(np.cumsum(scaled[::-1])[::-1], 0.0)  # 0 of a feature is a tie of two
        elevated = np.array([tail[j] - (j * scaled[j - 1] if j else 0.0) for j in range(d + 1)])
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


@cache
def points_of(dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, values of 37 channels, and what these are filtered to, channel by channel."""
    rng = np.random.default_rng(dim)
    features = rng.normal(size=(dim, 75))
    features = features * rng.uniform(*sorted((0.2, 9 / (dim + 1))), (dim, 1)) - 0.5
    values = rng.uniform(size=(37, 75))
    return features, values, dictionary_lattice(features, values)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 6, 9, 15, 16, 64])
@pytest.mark.parametrize("channels", [1, 4, 5, 21, 37])
def test_matches_a_dictionary_lattice(dim: int, channels: int) -> None:
    # Catches: a wrong neighbour constant, a chain cut short, a remainder that wraps wrongly, a
    # row width whose kernel mixes columns. 37 channels take the path of any width.
    features, values, expected = points_of(dim)
    filtered = bilateral_filter(features, values[:channels])
    np.testing.assert_allclose(filtered, expected[:channels], rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_matches_a_dictionary_lattice_when_points_share_simplices(dim: int) -> None:
    # Crowded points: catches a remembered simplex taken for another with the same first corner.
    rng = np.random.default_rng(dim)
    features = rng.uniform(0, 0.8, (dim, 300))
    values = rng.uniform(size=(2, 300))
    expected = dictionary_lattice(features, values)
    np.testing.assert_allclose(bilateral_filter(features, values), expected, rtol=2e-4)


@pytest.mark.parametrize("sigma_xy, sigma_rgb", [(80, 13), (10, 20)])
def test_average_is_close_to_the_exact_gaussian(make_problem, sigma_xy, sigma_rgb) -> None:
    # Catches: sigma applied twice or squared, a missing sqrt(2/3), barycentric weights of the wrong
    # corner. The lattice's own error is 0.02 here.
    image, probs = make_problem(24, 31, 3)
    features = bilateral_features(image, sigma_xy, sigma_rgb)
    values = np.concatenate([probs.reshape(3, -1), np.ones((1, features.shape[1]))])
    ours, exact = bilateral_filter(features, values), gaussian_filter(features, values)
    difference = np.abs(ours[:3] / ours[3] - exact[:3] / exact[3])
    assert difference.max() < 0.04
    assert difference.mean() < 0.004


def test_impulse_response_is_a_gaussian_of_unit_sigma() -> None:
    # Catches an error in the kernel's width that normalised averages of smooth data would hide.
    features = position_features(61, 61, 6.0)
    impulse = np.zeros((1, 61 * 61))
    impulse[0, 30 * 61 + 30] = 1
    response = bilateral_filter(features, impulse)[0].astype(float)
    response /= response.sum()
    squared = (features - features[:, [30 * 61 + 30]]) ** 2
    np.testing.assert_allclose((response * squared).sum(axis=1), 1.0, rtol=0.1)
    exact = gaussian_filter(features, impulse)[0]
    assert np.abs(response - exact / exact.sum()).sum() < 0.1


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_is_linear_and_symmetric(dim, n, channels, rng_seed) -> None:
    # <a, K b> = <K a, b> fails if splat and slice disagree on a weight; linearity fails if a
    # channel leaks into another or a workspace is not cleared. The blur's axes do not commute where
    # vertices are missing, which leaves a small asymmetry.
    rng = np.random.default_rng(rng_seed)
    features = rng.normal(size=(dim, n)) * 0.1
    a, b = rng.uniform(size=(2, channels, n))
    filtered_a, filtered_b = bilateral_filter(features, a), bilateral_filter(features, b)
    both = bilateral_filter(features, 2 * a - b)
    np.testing.assert_allclose(both, 2 * filtered_a - filtered_b, rtol=1e-3, atol=1e-3)
    for c in range(channels):
        np.testing.assert_allclose(filtered_a[c] @ b[c], a[c] @ filtered_b[c], rtol=0.05)
        np.testing.assert_array_equal(bilateral_filter(features, a[[c]])[0], filtered_a[c])


def test_one_point_keeps_its_value() -> None:
    # The lattice's own gain at a lone point: the same for every channel.
    ones, twos = bilateral_filter(np.zeros((2, 1)), np.array([[1.0], [2.0]]))
    assert 0.5 < ones[0] < 1.1
    assert twos[0] == 2 * ones[0]


@pytest.mark.parametrize(
    "features, message",
    [
        (np.zeros(4), r"must have shape \(d, N\) or \(B, d, N\)"),
        (np.zeros((256, 4)), "1 to 255 components but have 256"),
        (np.zeros((0, 4)), "1 to 255 components but have 0"),
        (np.array([[0, 1, np.nan, 2]]), "component 0 of point 2 is nan"),
        (np.array([[0, 1, 2, 2], [0, 1, 1, np.inf]]), "component 1 of point 3 is inf"),
        (np.array([[0, 0, 0, 1e13]]), r"2\^40 lattice cells.*a sigma that is larger by"),
        (np.array([[0, 0, 0, 3e38]] * 2), "a sigma that is larger by a factor of"),
    ],
)
def test_refuses_features_it_cannot_number(features: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bilateral_filter(features, np.ones((1, 4)))


def test_refuses_values_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(C, N\) with N = 4"):
        bilateral_filter(np.zeros((2, 4)), np.zeros((1, 5)))
    with pytest.raises(ValueError, match="nan at channel 1, point 2"):
        bilateral_filter(np.zeros((1, 3)), np.array([[0, 0, 0], [0, 0, np.nan]]))
    with pytest.raises(ValueError, match=r"\(B, C, N\) with B = 3 and N = 4"):
        bilateral_filter(np.zeros((3, 2, 4)), np.zeros((2, 1, 4)))
    with pytest.raises(ValueError, match=r"\(B, C, N\) with B = 3 and N = 4"):
        bilateral_filter(np.zeros((3, 2, 4)), np.zeros((1, 4)))
    with pytest.raises(ValueError, match="inf at element 1, channel 0, point 2"):
        values = np.zeros((2, 1, 3))
        values[1, 0, 2] = np.inf
        bilateral_filter(np.zeros((2, 1, 3)), values)
    with pytest.raises(ValueError, match="at least one channel and one point"):
        bilateral_filter(np.zeros((2, 0)), np.zeros((1, 0)))
    with pytest.raises(ValueError, match="at least one channel and one point"):
        bilateral_filter(np.zeros((2, 4)), np.zeros((0, 4)))


def test_far_features_are_numbered_exactly() -> None:
    # Two clusters 300 000 sigmas apart do not meet: an int16 key would wrap them together.
    features = np.array([[0.0, 0.1, 3e5, 3e5]])
    values = np.array([[1.0, 1.0, 0.0, 0.0]])
    out = bilateral_filter(features, values)[0]
    assert (out[:2] > 0.1).all()
    assert (out[2:] == 0).all()


# ---- Points anywhere, and keys of any length. `filters` in conftest: the compiled one, PyTorch's.

METRES = np.array([[206_000.0], [2_650_000.0], [420.0]])


def average(filter_values, features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The kernel's weighted average of the values around each point."""
    filtered = filter_values(features, np.concatenate([values, np.ones_like(values[:1])]))
    return np.asarray(filtered[:-1] / filtered[-1])


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(METRES, id="metres"),
        pytest.param(-METRES[::-1], id="negative"),
        pytest.param(METRES * 1000, id="millimetres"),
        pytest.param(np.full((3, 1), 2.0**40), id="2^40"),
    ],
)
def test_where_the_points_lie_does_not_matter(filters, offset) -> None:
    # The lattice has an origin, and float32 has one. Bounds are those of the data's own span.
    rng = np.random.default_rng(0)
    near = np.round(rng.uniform(0, 12, (3, 600)) * 1024) / 1024  # exact wherever they are moved to
    near -= near.min(axis=1, keepdims=True)
    values = rng.uniform(size=(2, 600))
    expected = average(filters, near, values)
    exact = average(gaussian_filter, near, values)
    found = average(filters, near + offset, values)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.abs(found - exact).mean() < 0.02


def test_float32_points_far_out_are_placed_to_their_own_precision(filters) -> None:
    rng = np.random.default_rng(1)
    features = (rng.uniform(0, 12, (2, 500)) + np.array([[3e5], [-7e5]])).astype(np.float32)
    values = rng.uniform(size=(2, 500)).astype(np.float32)
    exact = average(gaussian_filter, features.astype(float), values)
    assert np.abs(average(filters, features, values) - exact).max() < 0.06


@pytest.mark.parametrize("gap", [1e5, 1e7, 1e9, 1e11])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_clusters_any_distance_apart_do_not_meet(filters, gap, dim) -> None:
    # Beyond 2^17 cells points are placed in float64: catches one that float32 has moved.
    rng = np.random.default_rng(dim)
    near = rng.uniform(0, 3, (dim, 400))
    moved = near + gap * (np.arange(400) >= 200)
    values = rng.uniform(size=(2, 400))
    found = average(filters, moved, values)
    for half in (slice(0, 200), slice(200, 400)):
        alone = average(gaussian_filter, near[:, half], values[:, half])
        assert np.abs(found[:, half] - alone).max() < (0.08 if dim < 5 else 0.15)


@pytest.mark.parametrize("spread", [1.0, 6.0, 300.0, 1e6, 1e10])
@pytest.mark.parametrize("dim", [6, 8, 13, 15, 16, 33])
def test_many_components_match_a_dictionary_lattice(filters, dim, spread) -> None:
    # Keys of one word, of three, of eight, and so on to one for each quotient. Groups of near
    # points, so that there is something to blur, at places that spread over the cells.
    rng = np.random.default_rng(dim)
    places = rng.uniform(-spread, spread, (dim, 12))
    features = np.repeat(places, 5, axis=1) + rng.normal(size=(dim, 60)) * 0.2
    features -= features.min(axis=1, keepdims=True)
    values = rng.uniform(size=(2, 60))
    expected = dictionary_lattice(features, values)
    np.testing.assert_allclose(filters(features, values), expected, rtol=2e-3, atol=2e-3)


def test_a_long_key_gives_what_a_short_one_gives(filters) -> None:
    # The same points among others that stretch the bounds, and so the key: they do not meet.
    rng = np.random.default_rng(0)
    features = rng.uniform(0, 2, (7, 300)).astype(np.float32)
    values = rng.uniform(size=(3, 300)).astype(np.float32)
    expected = filters(features, values)
    for reach in (60, 200):  # within pydensecrf's reach: placed alike
        corners = np.eye(7, dtype=np.float32)[:, np.arange(8) % 7] * reach + 3 * reach
        stretched = np.concatenate([features, corners], axis=1)
        found = filters(stretched, np.concatenate([values, np.ones((3, 8), np.float32)], axis=1))
        np.testing.assert_allclose(found[:, :300], expected, rtol=1e-6)


@pytest.mark.parametrize("n_bands", [12, 13, 30])
def test_bands_of_a_satellite_with_their_position(filters, n_bands) -> None:
    # Twelve bands at sigma 20 and the position: 14 components, that no 64 bits number.
    rng = np.random.default_rng(0)
    height, width = 20, 24
    region = (np.arange(width) > 13) * np.ones((height, 1))
    bands = 110 + 40 * region + rng.normal(size=(n_bands, height, width)) * 5
    y, x = np.mgrid[:height, :width]
    features = np.concatenate([[x / 20, y / 20], bands / 20]).reshape(n_bands + 2, -1)
    values = (region + rng.normal(size=(height, width)) * 0.4).reshape(1, -1)
    found = average(filters, features, values)
    exact = average(gaussian_filter, features, values)
    right, exactly_right = (((a > 0.5) == region.ravel()).mean() for a in (found, exact))
    assert right > exactly_right - (0.01 if n_bands < 30 else 0.03)
    assert np.corrcoef(found, exact)[0, 1] > (0.99 if n_bands < 30 else 0.9)


@pytest.mark.parametrize("num_threads", [1, 2, 8])
@pytest.mark.parametrize("n_images", [0, 1, 5])
def test_a_batch_is_its_elements_one_by_one(num_threads, n_images) -> None:
    # Catches a result written to another's place, and threads that share a workspace.
    rng = np.random.default_rng(0)
    features, values = rng.normal(size=(n_images, 3, 50)), rng.uniform(size=(n_images, 4, 50))
    batched = bilateral_filter(features, values, num_threads=num_threads)
    assert batched.shape == values.shape
    for f, v, filtered in zip(features, values, batched, strict=True):
        np.testing.assert_array_equal(bilateral_filter(f, v), filtered)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_batch_passes_errors_on(num_threads) -> None:
    features = np.zeros((3, 2, 4))
    features[1, 1, 2] = np.nan
    with pytest.raises(ValueError, match="component 1 of point 2 is nan"):
        bilateral_filter(features, np.ones((3, 1, 4)), num_threads=num_threads)


def test_cpu_tensors_give_what_arrays_give() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    features, values = rng.normal(size=(2, 3, 30)), rng.uniform(size=(2, 4, 30))
    expected = bilateral_filter(features, values, parity=True)
    f, v = torch.from_numpy(features), torch.from_numpy(values)
    for dtype in (torch.float32, torch.float64):
        filtered = bilateral_filter(f.to(dtype), v.to(dtype), parity=True)
        assert isinstance(filtered, torch.Tensor)
        np.testing.assert_array_equal(filtered.numpy(), expected)
    np.testing.assert_array_equal(bilateral_filter(f[1], v[1], parity=True), expected[1])
    strided = v.transpose(1, 2).contiguous().transpose(1, 2)
    np.testing.assert_array_equal(bilateral_filter(f, strided, parity=True), expected)
    coarse = bilateral_filter(f.bfloat16(), v.bfloat16())
    again = bilateral_filter(f.bfloat16().float(), v.bfloat16().float())
    assert coarse.dtype == torch.float32
    assert torch.equal(coarse, again)


def test_cpu_tensors_are_not_copied(monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    features, values = torch.zeros(1, 2, 9), torch.ones(1, 3, 9)
    seen = {}

    def filter_nothing(f, v, **_):
        seen.update(features=f, values=v)
        return np.zeros_like(v)

    monkeypatch.setattr(lattice, "native_filter", filter_nothing)
    bilateral_filter(features, values)
    assert seen["features"].ctypes.data == features.data_ptr()
    assert seen["values"].ctypes.data == values.data_ptr()


def test_cpu_tensors_are_refused_with_the_way_out() -> None:
    torch = pytest.importorskip("torch")
    features, values = torch.zeros(2, 4), torch.ones(1, 4)
    with pytest.raises(ValueError, match=r"values requires grad.*detach.*DenseCrfLoss"):
        bilateral_filter(features, values.clone().requires_grad_())
    with pytest.raises(ValueError, match=r"values is no tensor.*torch.as_tensor"):
        bilateral_filter(features, values.numpy())
    with pytest.raises(ValueError, match="features must hold real numbers"):
        bilateral_filter(features.to(torch.complex64), values)
    with pytest.raises(ValueError, match="features is on cpu, values is on meta"):
        bilateral_filter(features, values.to("meta"))
