"""The walk against dense matrices, and paths against distances to segments, cell by cell."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.refine.random_walk import pair_offsets, path_affinities, random_walk

OFFSETS = pair_offsets(5)


def dense_walk(
    scores: torch.Tensor, affinities: torch.Tensor, offsets: np.ndarray, beta: float, steps: int
) -> np.ndarray:
    """The definition, entry by entry in float64."""
    classes, height, width = scores.shape
    at = np.arange(height * width).reshape(height, width)
    matrix = np.eye(height * width)
    for index, (dy, dx) in enumerate(offsets):
        for y in range(height):
            for x in range(width):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    cell, other = at[y, x], at[y + dy, x + dx]
                    matrix[cell, other] = matrix[other, cell] = (
                        affinities[index, y, x].item() ** beta
                    )
    matrix /= matrix.sum(axis=0)
    walked = scores.double().numpy().reshape(classes, -1) @ np.linalg.matrix_power(matrix, steps)
    return walked.reshape(scores.shape)


def brute_paths(boundary: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The definition: distances of all cells of the grid to all segments."""
    height, width = boundary.shape
    out = np.zeros((len(offsets), height, width))
    for index, (dy, dx) in enumerate(offsets):
        for y in range(height):
            for x in range(width):
                if not (0 <= y + dy < height and 0 <= x + dx < width):
                    continue
                met = []
                for row in range(height):
                    for column in range(width):
                        along = ((row - y) * dy + (column - x) * dx) / (dy * dy + dx * dx)
                        along = min(max(along, 0), 1)
                        away = math.hypot(row - y - along * dy, column - x - along * dx)
                        if away < 1 - 1e-9:
                            met.append(boundary[row, column])
                out[index, y, x] = 1 - max(met)
    return out


def random_input(
    height: int, width: int, classes: int = 2, rng_seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rng_seed)
    scores = torch.rand(classes, height, width, generator=generator)
    return scores, torch.rand(len(OFFSETS), height, width, generator=generator)


def test_offsets_of_radius_5() -> None:
    pairs = {(0, dx) for dx in range(1, 5)} | {
        (dy, dx) for dy in range(1, 5) for dx in range(-4, 5) if dx * dx + dy * dy < 25
    }
    assert len(pairs) == 34
    assert list(map(tuple, OFFSETS.tolist())) == sorted(pairs)


@pytest.mark.parametrize("radius", [2, 3, 8])
def test_offsets_and_their_opposites_are_all_that_is_nearer(radius: int) -> None:
    half = set(map(tuple, pair_offsets(radius).tolist()))
    around = range(-radius, radius + 1)
    disc = {(y, x) for y in around for x in around if 0 < math.hypot(y, x) < radius}
    assert half | {(-y, -x) for y, x in half} == disc
    assert 2 * len(half) == len(disc)


def test_a_radius_without_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="radius must be at least 2 cells, but is 1"):
        pair_offsets(1)


def test_two_cells() -> None:
    affinities = torch.tensor([[[0.5, float("nan")]]])
    scores = torch.eye(2).view(2, 1, 2)
    offsets = np.array([[0, 1]])
    once = random_walk(scores, affinities, offsets, beta=8, steps=1)
    torch.testing.assert_close(once[0, 0], torch.tensor([0.99611, 0.00389]), atol=5e-6, rtol=0)
    walked = random_walk(scores, affinities, offsets, beta=8, steps=256)
    torch.testing.assert_close(walked[0, 0], torch.tensor([0.56767, 0.43233]), atol=5e-6, rtol=0)
    torch.testing.assert_close(walked[1, 0], torch.tensor([0.43233, 0.56767]), atol=5e-6, rtol=0)


@settings(max_examples=40)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([0.5, 1.0, 8.0, 10.0]),
    st.sampled_from([0, 1, 2, 7, 97, 256]),
    st.integers(0, 10**6),
)
def test_the_walk_is_the_dense_formula(
    height: int, width: int, beta: float, steps: int, rng_seed: int
) -> None:
    scores, affinities = random_input(height, width, rng_seed=rng_seed)
    walked = random_walk(scores, affinities, OFFSETS, beta=beta, steps=steps)
    assert walked.dtype == torch.float32
    expected = dense_walk(scores, affinities, OFFSETS, beta, steps)
    np.testing.assert_allclose(walked.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("steps", [255, 256, 1000, 1001])
def test_what_is_left_out_of_long_walks_is_as_small_as_stated(steps: int) -> None:
    """In float64 nothing but the polynomial is between the two. A bipartite grid of all but
    certain affinities has the eigenvalues nearest to -1 and to 1."""
    scores, affinities = random_input(12, 11)
    few, offsets = torch.cat([affinities[:1], affinities[4:5]]), OFFSETS[[0, 8]]
    for given_, some, beta in ((affinities, OFFSETS, 8.0), (few, offsets, 0.01)):
        walked = random_walk(scores.double(), given_, some, beta=beta, steps=steps)
        expected = dense_walk(scores, given_, some, beta, steps)
        bound = 1e-9 * math.sqrt(12 * 11 * (2 * len(some) + 1))
        assert np.abs(walked.numpy() - expected).max() < bound


def test_weak_affinities_do_not_drown_in_rounding() -> None:
    """Here 256 steps in float32 are off by 1e-4 and more."""
    scores, boundary = random_input(24, 31)[0], random_input(24, 31, rng_seed=1)[0][0] ** 4
    affinities = path_affinities(boundary, OFFSETS)
    walked = random_walk(scores, affinities, OFFSETS, beta=8)
    expected = dense_walk(scores, affinities, OFFSETS, 8, 256)
    np.testing.assert_allclose(walked.numpy(), expected, atol=1e-6)


def test_a_constant_map_stays() -> None:
    _, affinities = random_input(7, 5)
    constant = torch.full((1, 7, 5), 0.3)
    torch.testing.assert_close(
        random_walk(constant, affinities, OFFSETS, beta=8), constant, atol=0, rtol=0
    )


def test_scores_that_come_out_are_means_of_those_that_went_in() -> None:
    scores, affinities = random_input(6, 8)
    scores[0] = (scores[0] > 0.9).float()
    for steps in (1, 5, 256):
        walked = random_walk(scores, affinities, OFFSETS, beta=3, steps=steps)
        for before, after in zip(scores, walked, strict=True):
            assert before.min() <= after.min()
            assert after.max() <= before.max()


def test_a_class_does_not_see_the_others() -> None:
    scores, affinities = random_input(20, 30, classes=5)
    walked = random_walk(scores, affinities, OFFSETS, beta=8)
    order = [3, 0, 4, 2, 1]
    torch.testing.assert_close(
        random_walk(scores[order], affinities, OFFSETS, beta=8), walked[order], atol=0, rtol=0
    )
    for map_, alone in zip(scores, walked, strict=True):
        single = random_walk(map_[None], affinities, OFFSETS, beta=8)
        torch.testing.assert_close(single[0], alone, atol=0, rtol=0)
    assert random_walk(scores[:0], affinities, OFFSETS, beta=8).shape == (0, 20, 30)


def test_input_is_left_as_it_is_and_no_gradient_is_kept() -> None:
    scores, affinities = random_input(4, 5)
    kept = scores.clone(), affinities.clone()
    affinities.requires_grad_()
    assert not random_walk(scores, affinities, OFFSETS, beta=8).requires_grad
    assert not random_walk(scores, affinities, OFFSETS, beta=8, steps=0).requires_grad
    torch.testing.assert_close((scores, affinities.detach()), kept, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": torch.zeros(4, 5)}, r"scores must have shape \(C, h, w\)"),
        ({"affinities": torch.zeros(34, 5, 4)}, r"affinities must have shape \(34, 4, 5\)"),
        ({"affinities": torch.full((34, 4, 5), 1.5)}, r"affinities must lie in \[0, 1\].*1.5"),
        ({"affinities": torch.full((34, 4, 5), -0.5)}, r"affinities must lie in \[0, 1\].*-0.5"),
        ({"affinities": torch.full((34, 4, 5), torch.nan)}, "affinities must lie in .* nan"),
        ({"beta": 0}, "beta must be above 0"),
        ({"steps": -1}, "steps not below it"),
        ({"offsets": -OFFSETS}, r"offsets\[0\] is \(0, -1\); take the opposite"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    scores, affinities = random_input(4, 5)
    values = {"scores": scores, "affinities": affinities, "offsets": OFFSETS, "beta": 8} | change
    with pytest.raises(ValueError, match=message):
        random_walk(**values)  # type: ignore[arg-type]


def test_the_walk_on_a_gpu(cuda: torch.device) -> None:
    scores, affinities = random_input(60, 47, classes=4)
    expected = random_walk(scores, affinities, OFFSETS, beta=8)
    first, two = (
        random_walk(scores.to(cuda), affinities.to(cuda), OFFSETS, beta=8) for _ in range(2)
    )
    torch.testing.assert_close(first.cpu(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(first, two, atol=0, rtol=0)


@pytest.mark.parametrize("shape", [(8, 9), (10, 6), (1, 7), (7, 1), (3, 3), (1, 1)])
def test_paths_are_the_cells_nearer_than_1_to_the_segment(shape: tuple[int, int]) -> None:
    boundary = np.random.default_rng(1).random(shape)
    affinities = path_affinities(torch.from_numpy(boundary), OFFSETS)
    np.testing.assert_allclose(affinities.numpy(), brute_paths(boundary, OFFSETS), atol=1e-12)


def test_leading_axes_and_gradients_of_paths() -> None:
    boundary = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    boundary.requires_grad_()
    affinities = path_affinities(boundary, OFFSETS)
    assert affinities.shape == (2, 3, 34, 5, 6)
    torch.testing.assert_close(affinities[1, 2], path_affinities(boundary[1, 2], OFFSETS))
    affinities.sum().backward()  # every pair loses what its highest cell gains
    pairs = sum((5 - dy) * (6 - abs(dx)) for dy, dx in OFFSETS.tolist())
    torch.testing.assert_close(boundary.grad.sum((2, 3)), torch.full((2, 3), -float(pairs)))


def test_nothing_crosses_a_wall() -> None:
    """A pair that looks past the wall's cells in its own row and column must still meet it."""
    boundary = torch.zeros(9, 11)
    boundary[:, 5] = 1
    scores = torch.zeros(1, 9, 11)
    scores[0, :, :5] = torch.rand(9, 5, generator=torch.Generator().manual_seed(0))
    walked = random_walk(scores, path_affinities(boundary, OFFSETS), OFFSETS, beta=10)
    assert walked[0, :, 5:].abs().max() == 0
    assert walked[0, :, :5].min() > 0.3


def test_a_diagonal_wall_does_not_leak() -> None:
    boundary = torch.eye(9)
    scores = torch.ones(9, 9).tril(-1)[None]
    walked = random_walk(scores, path_affinities(boundary, OFFSETS), OFFSETS, beta=10)
    torch.testing.assert_close(walked, scores, atol=1e-6, rtol=0)


def test_without_boundaries_all_becomes_one_mean() -> None:
    """Cells weigh as many neighbours as they have: that is where the walk spends its time."""
    scores, _ = random_input(8, 7)
    affinities = path_affinities(torch.zeros(8, 7), OFFSETS)
    assert affinities.max() == 1
    walked = random_walk(scores, affinities, OFFSETS, beta=10)
    neighbours = torch.tensor(
        [
            [
                sum(math.hypot(y - v, x - u) < 5 for v in range(8) for u in range(7))
                for x in range(7)
            ]
            for y in range(8)
        ]
    )
    means = (scores * neighbours).sum((1, 2)) / neighbours.sum()
    torch.testing.assert_close(walked, means[:, None, None].expand_as(walked), atol=1e-5, rtol=0)
