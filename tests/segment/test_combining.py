"""Maps of several chains in one: where the right answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss.artifacts import ScoreMap, as_stored
from wsss.artifacts.background import labels_above
from wsss.config.segmentation import PseudoMaskSettings
from wsss.segment.combining import COMMON_THRESHOLD, combine
from wsss.segment.pseudo_masks import pseudo_mask

SETTINGS = PseudoMaskSettings(ignore_margin=0)


def score_map(scores: np.ndarray, class_ids: list[int], size: tuple[int, int]) -> ScoreMap:
    ids = np.array(class_ids, np.uint8)
    return ScoreMap(ids, scores.astype(np.float32), size, np.ones(len(ids), np.float32))


def mask_of(found: ScoreMap) -> np.ndarray:
    """As files hold it, and as make_pseudo_masks cuts it."""
    return pseudo_mask(as_stored(found), SETTINGS, COMMON_THRESHOLD)


@given(
    seed=st.integers(0, 10**6),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    threshold=st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.99, 1.0]),
)
def test_one_class_has_the_mask_of_its_chain_at_its_threshold(
    seed: int, grid: tuple[int, int], threshold: float
) -> None:
    """At any threshold and on any grid, after storing; the other chain has no say."""
    rng = np.random.default_rng(seed)
    own = as_stored(score_map(rng.random((1, *grid)) ** rng.choice([0.1, 1, 9]), [4], (9, 7)))
    other = score_map(rng.random((1, 3, 3)), [4], (9, 7))
    found = combine({"own": own, "other": other}, {4: ("own", threshold)})
    wanted = labels_above(own.full_scores(), own.class_ids, threshold)
    np.testing.assert_array_equal(mask_of(found), wanted)


@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.02, 0.3, 0.9]))
def test_classes_of_one_chain_keep_their_background_and_their_order(
    seed: int, threshold: float
) -> None:
    """What is above the threshold is the same; who of several wins, but for steps of the files."""
    rng = np.random.default_rng(seed)
    own = as_stored(score_map(rng.random((3, 5, 6)), [2, 5, 9], (5, 6)))
    taken = dict.fromkeys((2, 5, 9), ("own", threshold))
    found = combine({"own": own}, taken)
    wanted = labels_above(own.full_scores(), own.class_ids, threshold)
    np.testing.assert_array_equal(mask_of(found) > 0, wanted > 0)
    # before storing, to the pixel, where no two lie at the threshold itself
    apart = (np.abs(found.scores - COMMON_THRESHOLD) > 1 / 200).all(axis=0)
    exact = pseudo_mask(found, SETTINGS, COMMON_THRESHOLD)
    np.testing.assert_array_equal(exact[apart], wanted[apart])


def test_chains_of_unlike_scales_share_an_image_as_the_scene_is() -> None:
    """A cat on the left, a cow on the right, background between; each chain knows one of them.

    The first has scores near 0 and 1 and the threshold 0.99, the other ends at 0.3 with 0.1 as its
    threshold. Compared as they are, the first would take all, at either threshold.
    """
    truth = np.zeros((4, 12), np.uint8)
    truth[:, :4], truth[:, 8:] = 1, 2
    sure = np.where(truth == 1, 0.999, 0.6)
    weak = np.where(truth == 2, 0.3, 0.05)
    blind = np.full(truth.shape, 0.7)
    crf = score_map(np.stack([sure, blind]), [1, 2], truth.shape)
    cam = score_map(np.stack([blind, weak]), [1, 2], truth.shape)
    taken = {1: ("crf", 0.99), 2: ("cam", 0.1)}
    found = mask_of(combine({"crf": crf, "cam": cam}, taken))
    np.testing.assert_array_equal(found, truth)
    raw = np.stack([sure, weak]).astype(np.float32)
    for threshold in (0.1, 0.99):
        assert (labels_above(raw, crf.class_ids, threshold) != truth).mean() > 0.3


def test_where_both_claim_a_pixel_the_surer_one_has_it() -> None:
    """Ninefold odds of one chain against fourfold odds of the other, by its own threshold."""
    first = score_map(np.array([[[0.9, 0.5]], [[0, 0]]]), [1, 2], (1, 2))  # threshold 0.5
    other = score_map(np.array([[[0, 0]], [[4 / 13, 9 / 18]]]), [1, 2], (1, 2))  # 0.1
    found = combine({"a": first, "b": other}, {1: ("a", 0.5), 2: ("b", 0.1)})
    odds = found.scores / (1 - found.scores)
    np.testing.assert_allclose(odds[:, 0, 0], [9, 4], rtol=1e-4)
    assert odds[1, 0, 1] == pytest.approx(9, rel=1e-4)
    assert mask_of(found).tolist() == [[1, 2]]


def test_an_untagged_image_is_background() -> None:
    empty = score_map(np.zeros((0, 2, 2)), [], (4, 6))
    assert not mask_of(combine({"own": empty}, {})).any()


def test_maps_of_other_images_or_classes_are_refused() -> None:
    own = score_map(np.zeros((1, 2, 2)), [1], (4, 6))
    for other in (score_map(np.zeros((1, 2, 2)), [2], (4, 6)),
                  score_map(np.zeros((1, 2, 2)), [1], (4, 5))):  # fmt: skip
        with pytest.raises(ValueError, match="run refine_cams again"):
            combine({"own": own, "other": other}, {1: ("own", 0.5)})
    with pytest.raises(ValueError, match="threshold of 'own'"):
        combine({"own": own}, {1: ("own", 1.5)})
