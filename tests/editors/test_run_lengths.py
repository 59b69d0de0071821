"""Run lengths that are written are read again, by our own readers of the published formats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from wsss.data._run_lengths import filled_runs, packed_alpha, unpacked_counts
from wsss.editors.run_lengths import packed_bytes, packed_text, run_lengths

pixels = arrays(bool, array_shapes(min_dims=1, max_dims=1, max_side=80))


@settings(max_examples=150)
@given(pixels)
def test_every_region_comes_back(inside: np.ndarray) -> None:
    counts = run_lengths(inside)
    assert sum(counts) == len(inside)
    assert all(count > 0 for count in counts[1:])
    assert (filled_runs(unpacked_counts(packed_text(counts)), len(inside)) == inside).all()
    assert (packed_alpha(packed_bytes(inside), len(inside)) == 255 * inside).all()


@pytest.mark.parametrize("length", [1, 16_383, 16_384, 16_385, 70_000, 2**20])
def test_long_runs_are_written_in_pieces(length: int) -> None:
    inside = np.zeros(length + 2, bool)
    inside[1 : length + 1] = True
    assert (packed_alpha(packed_bytes(inside), len(inside)) == 255 * inside).all()
    assert (
        filled_runs(unpacked_counts(packed_text(run_lengths(inside))), len(inside)) == inside
    ).all()


@settings(max_examples=60)
@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=12))
def test_coco_s_own_library_reads_the_same(counts: list[int]) -> None:
    peer = pytest.importorskip("pycocotools.mask")
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    packed = {"size": [len(inside), 1], "counts": packed_text(run_lengths(inside))}
    assert (peer.decode(packed)[:, 0].astype(bool) == inside).all()
