"""The lattice in PyTorch against the compiled one and against the exact Gaussian."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from wsss.densecrf import bilateral_filter, torch_lattice  # noqa: E402
from wsss.densecrf.reference import bilateral_features, gaussian_filter  # noqa: E402
from wsss.densecrf.torch_lattice import BatchKeyError, TorchLattice, filter_batch  # noqa: E402


@st.composite
def batches(draw):
    """Features and values of any dimension and size, some of them on the simplices' boundaries."""
    dim, n_points = draw(st.integers(1, 6)), draw(st.integers(1, 60))
    n_images, n_channels = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = rng.normal(size=(n_images, dim, n_points)) * draw(st.sampled_from([0.1, 1.0, 30.0]))
    grid = draw(st.sampled_from([None, 0.5, 3.0]))
    if grid is not None:
        features = np.round(features / grid) * grid
    values = rng.uniform(size=(n_images, n_channels, n_points))
    return features.astype(np.float32), values.astype(np.float32)


def filter_in_torch(features: np.ndarray, values: np.ndarray, parity: bool = False) -> np.ndarray:
    f, v = torch.from_numpy(features), torch.from_numpy(values)
    return filter_batch(f, v, phantom_points=parity).numpy()


@settings(max_examples=150)
@given(batches(), st.booleans())
def test_matches_the_compiled_lattice(batch, parity) -> None:
    # Catches: an operation of the embedding out of order (a point on a boundary then takes another
    # simplex), a wrong step to a neighbour, images that meet, phantoms in the wrong images.
    features, values = batch
    expected = bilateral_filter(features, values, parity=parity, num_threads=1)
    np.testing.assert_allclose(filter_in_torch(features, values, parity), expected, rtol=1e-5)


@pytest.mark.parametrize("dim", [9, 15, 16, 40])
def test_matches_the_compiled_lattice_in_many_dimensions(dim) -> None:
    rng = np.random.default_rng(dim)
    features = rng.normal(size=(2, dim, 50)).astype(np.float32) * 0.2
    values = rng.uniform(size=(2, 3, 50)).astype(np.float32)
    expected = bilateral_filter(features, values, num_threads=1)
    np.testing.assert_allclose(filter_in_torch(features, values), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma_xy, sigma_rgb", [(80, 13), (10, 20)])
def test_average_is_close_to_the_exact_gaussian(make_problem, sigma_xy, sigma_rgb, dtype) -> None:
    image, probs = make_problem(24, 31, 3)
    features = bilateral_features(image, sigma_xy, sigma_rgb)
    values = np.concatenate([probs.reshape(3, -1), np.ones((1, features.shape[1]))])
    exact = gaussian_filter(features, values)
    ours = filter_batch(
        torch.from_numpy(features)[None].to(dtype), torch.from_numpy(values)[None].to(dtype)
    )[0]
    assert ours.dtype == dtype
    difference = np.abs((ours[:3] / ours[3]).numpy() - exact[:3] / exact[3])
    assert difference.max() < 0.04  # the lattice's own error is 0.02 here
    assert difference.mean() < 0.004


def test_float64_is_the_same_lattice() -> None:
    # Away from boundaries. Catches a step of the embedding, or a weight, left in float32.
    rng = np.random.default_rng(0)
    features, values = rng.normal(size=(2, 3, 200)), rng.uniform(size=(2, 4, 200))
    double = filter_in_torch(features, values)
    assert double.dtype == np.float64
    single = filter_in_torch(features.astype(np.float32), values.astype(np.float32))
    np.testing.assert_allclose(single, double, rtol=1e-4)
    scaled = filter_in_torch(features, 3 * values)
    np.testing.assert_allclose(scaled, 3 * double, rtol=1e-13)


def test_a_batch_is_its_elements_one_by_one() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 5, 33)).astype(np.float32)
    values = rng.uniform(size=(5, 7, 33)).astype(np.float32)
    batched = filter_in_torch(features, values, True)
    for f, v, filtered in zip(features, values, batched, strict=True):
        np.testing.assert_array_equal(filter_in_torch(f[None], v[None], True)[0], filtered)
    np.testing.assert_array_equal(filter_in_torch(features, values, True), batched)


def test_a_batch_whose_numbers_do_not_fit_a_key_goes_one_by_one() -> None:
    # A span of 2^54 cells: 100 images of it do not fit, each by itself does.
    rng = np.random.default_rng(0)
    features = np.zeros((100, 5, 4), np.float32)
    features[:, :, 1:] = rng.uniform(0, 1, (100, 5, 3)) * 2500
    features[:, :, 3] = 2500
    values = rng.uniform(size=(100, 2, 4)).astype(np.float32)
    points = torch.from_numpy(features).transpose(0, 1).flatten(1)
    with pytest.raises(BatchKeyError):
        TorchLattice.build(points, [4] * 100)
    expected = bilateral_filter(features, values, num_threads=1)
    np.testing.assert_allclose(filter_in_torch(features, values), expected, rtol=1e-5)


def test_many_points_of_one_vertex(monkeypatch) -> None:
    # A flat region: its points are added up bag by bag.
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(1, 3, 3)), [1500, 1, 300], axis=2).astype(np.float32)
    values = rng.uniform(size=(1, 5, 1801)).astype(np.float32)
    expected = bilateral_filter(features, values)
    np.testing.assert_allclose(filter_in_torch(features, values), expected, rtol=1e-5)
    lattice = TorchLattice.build(torch.from_numpy(features[0]), [1801])
    assert lattice.vertex_start is not None
    assert np.diff(lattice.bag_start).max() <= torch_lattice._LONGEST_BAG
    monkeypatch.setattr(torch_lattice, "_LONGEST_BAG", 10**9)
    assert TorchLattice.build(torch.from_numpy(features[0]), [1801]).vertex_start is None
    np.testing.assert_allclose(filter_in_torch(features, values), expected, rtol=1e-5)


def test_images_of_differing_sizes_share_a_lattice() -> None:
    rng = np.random.default_rng(0)
    sizes = [3, 40, 1, 17]
    parts = [rng.normal(size=(2, n)).astype(np.float32) for n in sizes]
    values = [rng.uniform(size=(5, n)).astype(np.float32) for n in sizes]
    points = torch.from_numpy(np.concatenate(parts, axis=1))
    lattice = TorchLattice.build(points, sizes, phantom_points=True)
    rows = lattice.filter(torch.from_numpy(np.concatenate(values, axis=1)).T.contiguous())
    for f, v, filtered in zip(parts, values, rows.split(sizes), strict=True):
        expected = bilateral_filter(f, v, parity=True)
        np.testing.assert_allclose(filtered.T, expected, rtol=1e-5)


def test_scaled_multiplies_before_and_after() -> None:
    rng = np.random.default_rng(0)
    lattice = TorchLattice.build(torch.from_numpy(rng.normal(size=(3, 50))), [50])
    before, after, values = (torch.from_numpy(rng.uniform(size=(50, c))) for c in (1, 1, 4))
    scaled = lattice.scaled(before[:, 0], after[:, 0]).filter(values)
    torch.testing.assert_close(scaled, after * lattice.filter(before * values))


@pytest.mark.parametrize(
    "features, message",
    [
        (np.zeros((256, 4)), "1 to 255 components but have 256"),
        (np.zeros((0, 4)), "1 to 255 components but have 0"),
        (np.zeros((2, 0)), "takes 1 to .* points but got 0"),
        (np.array([[0, 1, np.nan, 2]]), "component 0 of point 2 is nan"),
        (np.array([[0, 1, 2, 2], [0, 1, 1, np.inf]]), "component 1 of point 3 is inf"),
        (np.array([[0, 0, 0, 1e13]]), r"2\^40 lattice cells.*a sigma that is larger by"),
        (np.array([[0, 0, 0, 3e38]] * 2), "a sigma that is larger by a factor of"),
    ],
)
def test_refuses_features_it_cannot_number(features, message) -> None:
    # The words are those of the compiled core: its test has the same table.
    points = torch.from_numpy(features.astype(np.float32))
    with pytest.raises(ValueError, match=message):
        TorchLattice.build(points, [points.shape[1]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gpu_answers_as_the_cpu(cuda, dtype) -> None:
    # Catches an operation that the GPU's compiler contracts, and sums in no fixed order.
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, 5000, generator=generator, dtype=dtype)
    features[:, :, 2000:3000] = features[:, :, :1]
    values = torch.rand(3, 21, 5000, generator=generator, dtype=dtype)
    expected = filter_batch(features, values)
    filtered = bilateral_filter(features.to(cuda), values.to(cuda))
    assert filtered.device.type == "cuda"
    assert filtered.dtype == dtype
    torch.testing.assert_close(filtered.cpu(), expected, rtol=1e-5, atol=0)
    again = bilateral_filter(features.to(cuda), values.to(cuda))
    assert filtered.cpu().numpy().tobytes() == again.cpu().numpy().tobytes()


def test_a_gpu_refuses_as_the_cpu(cuda) -> None:
    features, values = torch.zeros(2, 4, device=cuda), torch.ones(1, 4, device=cuda)
    with pytest.raises(ValueError, match=r"features is on cuda.*values is on cpu"):
        bilateral_filter(features, values.cpu())
    values[0, 2] = torch.nan
    with pytest.raises(ValueError, match="nan at channel 0, point 2"):
        bilateral_filter(features, values)
    with pytest.raises(ValueError, match="component 1 of point 3 is inf"):
        features[1, 3] = torch.inf
        bilateral_filter(features, torch.ones_like(values))
