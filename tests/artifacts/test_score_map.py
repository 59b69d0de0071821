from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsss.artifacts import ScoreMap, read_score_map, write_score_map


def score_map(scores: np.ndarray, size: tuple[int, int] | None = None) -> ScoreMap:
    number = len(scores)
    return ScoreMap(
        np.arange(1, number + 1, dtype=np.uint8),
        np.asarray(scores, np.float32),
        size or scores.shape[1:],
        np.linspace(0, 1, number, dtype=np.float32),
    )


stacks = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(0, 1, width=32),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(stacks)
@example(np.full((1, 1, 1), 1e-45, np.float32))  # its step would be zero
def test_round_trip_is_off_by_at_most_half_a_step(tmp_path: Path, scores: np.ndarray) -> None:
    path = tmp_path / "é b.npz"
    with np.errstate(divide="raise", invalid="raise"):
        write_score_map(path, score_map(scores, (7, 9)))
    found = read_score_map(path)
    peaks = scores.max(axis=(1, 2), initial=0)
    bound = peaks[:, None, None] / 510 * (1 + 1e-4) + 1e-30
    assert (np.abs(found.scores - scores) <= bound).all()
    np.testing.assert_allclose(
        found.scores.max(axis=(1, 2), initial=0), peaks, rtol=1e-6, atol=1.1e-30
    )
    assert found.scores.max(initial=0) <= 1
    assert found.size == (7, 9)
    np.testing.assert_array_equal(found.class_ids, np.arange(1, len(scores) + 1))
    np.testing.assert_array_equal(
        found.class_probs, np.linspace(0, 1, len(scores), dtype=np.float32)
    )


def test_the_same_map_gives_the_same_bytes(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).random((2, 5, 6))
    write_score_map(tmp_path / "a.npz", score_map(scores))
    write_score_map(tmp_path / "b.npz", score_map(scores.copy(order="F")))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_at_most_a_quarter_of_float32_at_full_resolution_even_for_noise(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((2, 120, 160))
    write_score_map(tmp_path / "full.npz", score_map(noise))
    assert (tmp_path / "full.npz").stat().st_size <= noise.size * 4 / 4 * 1.03 + 1500
    write_score_map(tmp_path / "strided.npz", score_map(noise[:, ::4, ::4], (120, 160)))
    assert (tmp_path / "strided.npz").stat().st_size < noise.size * 4 / 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_there_is_no_map_with_scores_out_of_range(bad: float) -> None:
    scores = np.full((1, 2, 2), 0.5)
    scores[0, 1, 1] = bad
    with pytest.raises(ValueError, match=r"scores must lie in \[0, 1\], but span \["):
        score_map(scores)


def test_any_damage_is_a_value_error_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_score_map(path, score_map(np.random.default_rng(1).random((2, 8, 8))))
    whole = path.read_bytes()
    refused = 0
    for cut in range(0, len(whole), 5):
        for damaged in (whole[:cut], whole[:cut] + bytes([whole[cut] ^ 0x55]) + whole[cut + 1 :]):
            path.write_bytes(damaged)
            try:
                read_score_map(path)
            except ValueError as error:
                assert "a.npz is not a score map" in str(error)
                refused += 1
    assert refused > 200


def test_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", scores=np.zeros((1, 2, 2)))
    for name in ("array.npy", "other.npz", "missing.npz"):
        with pytest.raises(ValueError, match=rf"{name} is not a score map.*rerun"):
            read_score_map(tmp_path / name)


def test_parts_of_a_map_must_agree() -> None:
    with pytest.raises(ValueError, match=r"scores must have shape \(2, h, w\)"):
        ScoreMap(np.array([1, 2], np.uint8), np.zeros((1, 2, 2)), (2, 2), np.zeros(2))
    with pytest.raises(ValueError, match=r"class_probs must have shape \(2\)"):
        ScoreMap(np.array([1, 2], np.uint8), np.zeros((2, 2, 2)), (2, 2), np.zeros(1))


@pytest.mark.parametrize(
    ("grid", "size"),
    [((6, 8), (24, 32)), ((5, 7), (17, 31)), ((1, 1), (3, 2)), ((1, 4), (1, 9)), ((3, 3), (3, 3))],
)
def test_full_scores_is_torchs_bilinear_without_aligned_corners(
    grid: tuple[int, int], size: tuple[int, int]
) -> None:
    torch = pytest.importorskip("torch")
    scores = np.random.default_rng(2).random((2, *grid)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(scores)[None], size=size, mode="bilinear", align_corners=False
    )[0].numpy()
    np.testing.assert_allclose(score_map(scores, size).full_scores(), expected, atol=5e-6)


sides = st.integers(1, 40)


@settings(max_examples=300)
@given(
    sides, sides, sides, sides, st.integers(0, 39), st.integers(1, 40), st.integers(0, 2**32 - 1)
)
def test_rows_are_those_of_the_whole(
    h: int, w: int, height: int, width: int, start: int, count: int, seed: int
) -> None:
    """To the last bit, and so whatever a threshold is."""
    scores = np.random.default_rng(seed).random((2, h, w), np.float32)
    scores[1] = scores[1].round()
    found = score_map(scores, (height, width))
    start = start % height
    stop = min(start + count, height)
    rows = found.rows(start, stop)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, found.full_scores()[:, start:stop])


@pytest.mark.parametrize("grid", [(750, 3), (301, 3), (1, 2), (2999, 3), (3000, 2), (3001, 1)])
def test_rows_far_down_a_large_image_are_those_of_the_whole(grid: tuple[int, int]) -> None:
    """Where a position in float32 is off by a ten thousandth of a cell."""
    found = score_map(np.random.default_rng(4).random((1, *grid), np.float32), (3000, 5))
    for start in range(0, 3000, 271):
        stop = min(start + 271, 3000)
        np.testing.assert_array_equal(found.rows(start, stop), found.full_scores()[:, start:stop])


@given(sides, sides, st.integers(1, 100), st.booleans())
def test_blocks_are_all_rows_once_and_bounded(
    height: int, width: int, limit: int, coarse: bool
) -> None:
    found = score_map(np.zeros((1, 1 if coarse else height, 1), np.float32), (height, width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsss.artifacts.score_map.BLOCK_PIXELS", limit)
        blocks = list(found.row_blocks())
    assert [row for start, stop in blocks for row in range(start, stop)] == list(range(height))
    assert all(stop - start == 1 or (stop - start) * width <= limit for start, stop in blocks)
    assert len(blocks) == -(-height // max(1, limit // width))


def test_an_ordinary_image_is_one_block() -> None:
    assert list(score_map(np.zeros((1, 250, 250)), (1024, 1024)).row_blocks()) == [(0, 1024)]
    large = score_map(np.zeros((3, 10, 10)), (10_000, 10_000))
    assert max(stop - start for start, stop in large.row_blocks()) * 10_000 <= 2**20
    finer = score_map(np.zeros((0, 2001, 1)), (2000, 2000))
    assert list(finer.row_blocks()) == [(0, 2000)]
