from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsss.artifacts import Proposals, read_proposals, write_proposals

stacks = hnp.arrays(
    np.bool_, st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(1, 6)), fill=st.nothing()
)
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)


def dense(proposals: Proposals) -> np.ndarray:
    """(N, H, W) bool, by painting each run."""
    height, width = proposals.size
    masks = np.zeros((len(proposals), height * width), np.bool_)
    for mask, (first, last) in enumerate(zip(proposals.offsets, proposals.offsets[1:])):
        for run in range(first, last):
            start = proposals.starts[run]
            masks[mask, start : start + proposals.lengths[run]] = True
    return masks.reshape(-1, height, width)


@quick
@given(stacks)
@example(np.ones((2, 3, 4), np.bool_))  # one run over all rows
@example(np.zeros((2, 1, 1), np.bool_))
def test_masks_come_back_from_the_file(tmp_path: Path, masks: np.ndarray) -> None:
    quality = np.linspace(0, 1, len(masks), dtype=np.float32)
    made = Proposals.from_masks(masks, quality)
    write_proposals(tmp_path / "é/a.npz", made)
    found = read_proposals(tmp_path / "é/a.npz")
    np.testing.assert_array_equal(dense(found), masks)
    np.testing.assert_array_equal(found.quality, quality)
    assert found.size == masks.shape[1:]
    for part in ("starts", "lengths", "offsets", "quality"):
        assert getattr(found, part).dtype == getattr(made, part).dtype
        assert getattr(found, part).dtype.itemsize == 4


@quick
@given(stacks, st.integers(0, 2**31))
def test_products_are_those_of_dense_masks(masks: np.ndarray, seed: int) -> None:
    proposals = Proposals.from_masks(masks)
    count, height, width = masks.shape
    rng = np.random.default_rng(seed)
    values, weights = rng.random((3, height, width), np.float32), rng.normal(size=(2, count))
    np.testing.assert_array_equal(proposals.areas(), masks.sum(axis=(1, 2)))
    expected = np.einsum("chw,nhw->cn", values.astype(np.float64), masks)
    np.testing.assert_allclose(proposals.sums(values), expected, atol=1e-12)
    np.testing.assert_allclose(
        proposals.scatter(weights), np.einsum("cn,nhw->chw", weights, masks), atol=1e-12
    )
    bits, kept = values > 0.5, weights > 0
    np.testing.assert_array_equal(proposals.sums(bits), np.einsum("chw,nhw->cn", bits * 1, masks))
    np.testing.assert_array_equal(
        proposals.scatter(kept), np.einsum("cn,nhw->chw", kept * 1, masks)
    )
    matrix = proposals.matrix()
    assert matrix.dtype == np.float32 and matrix.has_canonical_format
    np.testing.assert_array_equal(matrix.toarray(), masks.reshape(count, height * width))


@quick
@given(
    hnp.arrays(
        st.sampled_from([np.int64, np.int8]),
        st.tuples(st.integers(1, 5), st.integers(1, 6)),
        elements=st.integers(-2, 4),
        fill=st.nothing(),
    )
)
@example(np.array([[0, 255], [255, 0]], np.uint8))
def test_a_label_map_is_one_mask_per_value(labels: np.ndarray) -> None:
    expected = [labels == value for value in np.unique(labels) if value >= 0]
    found = dense(Proposals.from_labels(labels))
    np.testing.assert_array_equal(found, np.reshape(expected, (-1, *labels.shape)))


def test_joined_masks_keep_their_order_and_quality() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((5, 4, 6)) < 0.4
    quality = rng.random(5).astype(np.float32)
    parts = [Proposals.from_masks(masks[s], quality[s]) for s in (np.s_[:2], np.s_[2:2], np.s_[2:])]
    whole = Proposals.join(parts)
    np.testing.assert_array_equal(dense(whole), masks)
    np.testing.assert_array_equal(whole.quality, quality)
    with pytest.raises(ValueError, match=r"one size can be joined, but got \[\(4, 6\), \(6, 4\)\]"):
        Proposals.join([parts[0], Proposals.from_masks(masks.transpose(0, 2, 1))])


def test_the_same_proposals_give_the_same_bytes(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((3, 20, 30)) < 0.5
    write_proposals(tmp_path / "a.npz", Proposals.from_masks(masks))
    write_proposals(tmp_path / "b.npz", Proposals.from_masks(masks.copy(order="F")))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_large_image_takes_little_memory_and_disk(tmp_path: Path) -> None:
    """400 squares of 200 pixels in a 1920 x 1280 image: 16 million pixels of masks."""
    tracemalloc = pytest.importorskip("tracemalloc")
    rows = np.arange(400) * 1080 // 400
    starts = (rows[:, None] + np.arange(200)) * 1920 + rows[:, None]
    proposals = Proposals(
        starts.ravel().astype(np.int32),
        np.full(starts.size, 200, np.int32),
        np.arange(0, starts.size + 1, 200, dtype=np.int32),
        np.ones(400, np.float32),
        (1280, 1920),
    )
    scores = np.random.default_rng(0).random((1, 1280, 1920), np.float32)
    tracemalloc.start()
    sums = proposals.sums(scores)
    counts = proposals.scatter(np.ones((1, 400)))
    write_proposals(tmp_path / "a.npz", proposals)
    read_proposals(tmp_path / "a.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    assert counts.sum() == 400 * 200 * 200
    row = rows[-1]
    expected = scores[0, row : row + 200, row : row + 200].sum(dtype=np.float64)
    np.testing.assert_allclose(sums[0, -1], expected, rtol=1e-9)


def test_any_damage_is_a_value_error_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_proposals(path, Proposals.from_masks(np.random.default_rng(1).random((3, 9, 9)) < 0.5))
    whole = path.read_bytes()
    refused = 0
    for cut in range(0, len(whole), 5):
        for damaged in (whole[:cut], whole[:cut] + bytes([whole[cut] ^ 0x55]) + whole[cut + 1 :]):
            path.write_bytes(damaged)
            try:
                read_proposals(path)
            except ValueError as error:
                assert "a.npz does not hold proposals" in str(error)
                refused += 1
    assert refused > 200


def test_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", starts=np.zeros(3))
    for name in ("array.npy", "other.npz", "missing.npz"):
        with pytest.raises(ValueError, match=rf"{name} does not hold proposals.*rerun"):
            read_proposals(tmp_path / name)


@pytest.mark.parametrize(
    ("starts", "lengths", "offsets", "quality", "rule"),
    [
        ([0], [1], [0, 1], [1, 1], r"offsets must have shape \(3\)"),
        ([0, 4], [1, 1], [0, 1], [1], r"starts must have shape \(1\)"),
        ([0], [1, 1], [0, 1], [1], r"lengths must have shape \(1\)"),
        ([0, 4], [1, 1], [0, 3, 2], [1, 1], "never descend"),
        ([0], [0], [0, 1], [1], "within 2 x 3 pixels"),
        ([4], [3], [0, 1], [1], "within 2 x 3 pixels"),
        ([-1], [2], [0, 1], [1], "within 2 x 3 pixels"),
        ([0, 1], [2, 1], [0, 2], [1], "ascend and not overlap"),
        ([0], [1], [0, 1], [np.nan], "quality must be finite"),
    ],
)
def test_parts_must_agree(
    starts: list[int], lengths: list[int], offsets: list[int], quality: list[float], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        made_of(starts, lengths, offsets, quality)


def made_of(
    starts: list[int], lengths: list[int], offsets: list[int], quality: list[float]
) -> Proposals:
    first, second, third = (np.array(item, np.int32) for item in (starts, lengths, offsets))
    return Proposals(first, second, third, np.array(quality, np.float32), (2, 3))


def test_runs_of_different_masks_may_overlap() -> None:
    assert made_of([0, 0], [3, 6], [0, 1, 2], [1, 1]).areas().tolist() == [3, 6]
