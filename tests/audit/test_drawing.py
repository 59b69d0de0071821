"""Draws: each image as often as its probability says, classes in their share, and growing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsss.audit import intensities, order_of_drawing, probabilities
from wsss.audit.drawing import MOST, spread
from wsss.evaluate import Counts

SIZES = hnp.arrays(float, st.integers(2, 60), elements=st.floats(0.01, 100))


@given(sizes=SIZES, data=st.data())
@settings(max_examples=60)
def test_probabilities_sum_to_the_number_and_keep_the_order_of_sizes(
    sizes: np.ndarray, data: st.DataObject
) -> None:
    planned, number = (data.draw(st.integers(1, len(sizes))) for _ in range(2))
    probs = probabilities(intensities(sizes, planned), number)
    assert probs.sum() == pytest.approx(number)
    assert (probs > 0).all() and (probs <= 1).all()
    larger = sizes[:, None] > sizes
    assert (probs[:, None] >= probs - 1e-9)[larger].all()


def test_planned_probabilities_are_proportional_to_sizes_up_to_the_most() -> None:
    sizes = np.array([1.0, 2, 3, 4, 90])
    probs = probabilities(intensities(sizes, 2), 2)
    assert probs == pytest.approx([0.105, 0.21, 0.315, 0.42, MOST])


def test_all_images_are_certain() -> None:
    assert (probabilities(intensities(np.array([1.0, 5, 3]), 2), 3) == 1).all()


@pytest.mark.parametrize("number", [0, 4])
def test_more_images_than_there_are_cannot_be_drawn(number: int) -> None:
    with pytest.raises(ValueError, match=f"{number} images cannot be drawn from a set of 3; draw"):
        intensities(np.ones(3), number)


@pytest.mark.parametrize("number", [10, 20, 30])
def test_each_image_is_drawn_as_often_as_its_probability_says(number: int) -> None:
    rng = np.random.default_rng(0)
    sizes, strata = rng.lognormal(0, 1, 60), rng.integers(0, 4, 60)
    odds = intensities(sizes, 20)
    times, draws = np.zeros(60), 4000
    for seed in range(draws):
        times[order_of_drawing(odds, strata, seed, "test")[:number]] += 1
    probs = probabilities(odds, number)
    error = np.sqrt(probs * (1 - probs) / draws)
    # order sampling has its probabilities in the limit: a few percent are what 10 images miss
    assert (np.abs(times / draws - probs) < 4 * error + 0.02).all()


def test_each_class_is_drawn_in_its_share() -> None:
    """Without strata, the number of a class with an expected 10 has a standard deviation near 3."""
    strata = np.repeat([0, 1, 2, 3], 50)
    odds = intensities(np.ones(200), 40)
    orders = [order_of_drawing(odds, strata, seed, "test")[:40] for seed in range(200)]
    numbers = np.array([np.bincount(strata[order], minlength=4) for order in orders])
    assert numbers.mean(axis=0) == pytest.approx(10, abs=0.3)
    assert numbers.std(axis=0).max() < 1


def test_a_draw_comes_from_its_seed_and_its_name() -> None:
    odds, strata = np.ones(30), np.zeros(30, int)
    orders = [
        tuple(order_of_drawing(odds, strata, seed, name))
        for seed, name in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))
    ]
    assert orders[0] == orders[1]
    assert len(set(orders)) == 3
    assert sorted(orders[0]) == [*range(30)]


def counts(*parts: list[list[float]]) -> Counts:
    return Counts(*map(np.array, parts))


def test_doubt_and_rare_classes_are_worth_more() -> None:
    # images: sure of a common class; unsure of it; sure of a class that nothing else shows
    expected = counts(
        [[90, 0], [50, 0], [90, 0], [0, 90]],
        [[100, 0], [100, 0], [100, 0], [0, 100]],
        [[100, 0], [100, 0], [100, 0], [0, 100]],
    )
    sizes = spread(expected, np.array([True, True]))
    assert sizes.mean() == pytest.approx(1)
    assert sizes[3] > sizes[1] > sizes[0] == sizes[2] > 0


def test_classes_that_do_not_count_are_worth_nothing() -> None:
    expected = counts([[90, 0], [0, 10]], [[100, 0], [0, 100]], [[100, 0], [0, 100]])
    first = spread(expected, np.array([True, False]))
    assert first[0] > first[1] == pytest.approx(0.2)  # what every image has


def test_images_of_which_nothing_is_expected_are_drawn_evenly() -> None:
    nothing = np.zeros((3, 2))
    assert spread(Counts(nothing, nothing, nothing), np.ones(2, bool)).tolist() == [1, 1, 1]
