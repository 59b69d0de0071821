"""The choice among chains against a curve counted by hand, and the two ends of its shrinkage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss.artifacts import ScoreMap
from wsss.evaluate import (
    ChainScores,
    ThresholdCurve,
    best_chain,
    choose_chains,
    score_histogram,
)

NAMES = ("cat", "cow", "dog")


def curve_of(images: list[tuple[np.ndarray, np.ndarray, list[int]]]) -> ThresholdCurve:
    curve = ThresholdCurve(len(NAMES) + 1, 0.25)
    for gt_mask, scores, class_ids in images:
        ids = np.array(class_ids, np.uint8)
        maps = ScoreMap(
            ids, scores.astype(np.float32), gt_mask.shape, np.ones(len(ids), np.float32)
        )
        histogram = score_histogram(gt_mask, maps, len(NAMES) + 1, curve.thresholds)
        curve.add(histogram, ids)
    return curve


def test_scores_are_those_at_the_best_threshold_of_classes_that_masks_show() -> None:
    """A cat of two pixels, both found above 0.25; a tagged cow that the mask does not show."""
    gt_mask = np.array([[1, 1, 0, 0, 255]], np.uint8)
    scores = np.array([[[0.9, 0.5, 0.2, 0, 0.9]], [[0, 0, 0, 0, 0.2]]])
    found = ChainScores.of(curve_of([(gt_mask, scores, [1, 2])] * 3), NAMES, {}, "mean_iou")
    assert found == ChainScores(0.25, 1.0, {"cat": 1.0}, {"cat": 3})
    assert found is not None and ChainScores.parse(found.values()) == found


def test_no_class_in_any_mask_gives_no_scores() -> None:
    empty = np.zeros((1, 3), np.uint8)
    found = ChainScores.of(curve_of([(empty, np.ones((1, 1, 3)), [1])]), NAMES, {}, "mean_iou")
    assert found is None


scores_of_chains = st.lists(
    st.tuples(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=3, max_size=3)),
    min_size=1,
    max_size=5,
)


def chains(values: list[tuple[float, list[float]]], images: list[int]) -> dict[str, ChainScores]:
    shown = dict(zip(NAMES, images, strict=True))
    shown = {name: number for name, number in shown.items() if number}
    return {
        f"chain{at}": ChainScores(
            0.1 * at, score, {name: of[NAMES.index(name)] for name in shown}, shown
        )
        for at, (score, of) in enumerate(values)
    }


@given(values=scores_of_chains)
def test_without_shrinkage_each_class_has_the_chain_with_its_best_iou(
    values: list[tuple[float, list[float]]],
) -> None:
    found = choose_chains(chains(values, [1, 5, 90]), NAMES, 0)
    for at, name in enumerate(NAMES):
        assert found[name].iou[found[name].chain] == max(of[at] for _, of in values)
        assert found[name].own_share == 1


@given(values=scores_of_chains, images=st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_with_endless_shrinkage_all_classes_go_with_the_best_chain(
    values: list[tuple[float, list[float]]], images: list[int]
) -> None:
    scores = chains(values, images)
    found = choose_chains(scores, NAMES, 1e300)
    assert {scores[one.chain].score for one in found.values()} == {scores[best_chain(scores)].score}


@given(
    values=scores_of_chains,
    images=st.lists(st.integers(0, 60), min_size=3, max_size=3),
    shrinkage=st.floats(0.5, 100),
)
def test_the_winner_beats_each_other_chain_in_what_they_are_compared_by(
    values: list[tuple[float, list[float]]], images: list[int], shrinkage: float
) -> None:
    """Written as differences: of the class by n / (n + shrinkage), of the chains by the rest."""
    scores = chains(values, images)
    found = choose_chains(scores, NAMES, shrinkage)
    for at, name in enumerate(NAMES):
        one, number = found[name], images[at]
        own = scores[one.chain]
        gaps = []
        for chain, other in scores.items():
            whole = own.score - other.score
            of_class = own.iou[name] - other.iou[name] if number else 0.0
            gap = (number * of_class + shrinkage * whole) / (number + shrinkage)
            assert gap >= -1e-9
            if chain != one.chain:
                gaps.append(gap)
        assert one.threshold == own.threshold and one.images == number
        assert one.lead == pytest.approx(min(gaps, default=0.0), abs=1e-9)
        assert (one.next == "") == (len(scores) == 1)


def test_a_chain_that_was_lucky_on_two_images_does_not_win_their_class() -> None:
    """As good chains as each other but for noise: the more so, the fewer images there are."""
    rng = np.random.default_rng(0)
    wrong = {}
    for shrinkage in (0, 20):
        count = 0
        for _ in range(200):
            truth = {"good": 0.55, "bad": 0.50}
            images = dict(zip(NAMES, (2, 20, 80), strict=True))
            scores = {
                chain: ChainScores(
                    0.5,
                    value,
                    {name: value + rng.normal(0, 0.3 / n**0.5) for name, n in images.items()},
                    images,
                )
                for chain, value in truth.items()
            }
            found = choose_chains(scores, NAMES, shrinkage)
            count += sum(one.chain == "bad" for one in found.values())
        wrong[shrinkage] = count / 600
    assert wrong[20] < 0.6 * wrong[0]


def test_chains_scored_on_other_images_are_not_compared() -> None:
    scores = chains([(0.5, [0.1, 0.2, 0.3])], [1, 2, 3]) | {
        "other": ChainScores(0.5, 0.5, {"cat": 0.5}, {"cat": 4})
    }
    with pytest.raises(ValueError, match="'other' was scored on other images"):
        choose_chains(scores, NAMES, 20)
    with pytest.raises(ValueError, match="no chain"):
        choose_chains({}, NAMES, 20)
