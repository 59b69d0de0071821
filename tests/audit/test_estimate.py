"""Intervals that hold their word: on numbers worked by hand, at the ends, and over many draws."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.audit import (
    Audited,
    Estimate,
    Interval,
    estimate,
    intensities,
    order_of_drawing,
    probabilities,
)
from wsss.audit.drawing import spread
from wsss.evaluate import Counts
from wsss.evaluate.metrics import iou


@dataclass(frozen=True)
class Population:
    """N images of which the truth is known: pixels as of `Audited`, and the tags."""

    expected: Counts
    true: Counts
    tagged: np.ndarray

    @property
    def ious(self) -> np.ndarray:
        return iou(self.true.pooled())

    def audited(self, places: np.ndarray, probs: np.ndarray) -> Audited:
        found = Counts(
            *(part[places] for part in (self.true.correct, self.true.gt, self.true.predicted))
        )
        return Audited(self.expected, found, places, probs)

    def drawn(self, number: int, seed: int, *, planned: int = 0) -> Audited:
        """A draw of so many images, or the first so many of a draw that was planned with others."""
        sizes = spread(self.expected, self.tagged.any(axis=0))
        odds = intensities(sizes, planned or number)
        strata = np.where(self.tagged[:, 1:].any(axis=1), self.tagged[:, 1:].argmax(axis=1), -1)
        order = order_of_drawing(odds, strata, seed, "test")[:number]
        return self.audited(order, probabilities(odds, number)[order])

    def evenly(self, number: int, seed: int) -> Audited:
        """A draw in which all images have the same probability."""
        total = len(self.tagged)
        places = np.random.default_rng(seed).permutation(total)[:number]
        return self.audited(places, np.full(number, number / total))


def population(
    images: int = 300, *, shares: tuple[float, ...] = (0.5, 0.35, 0.2), calibrated: float = 1,
    seed: int = 0,
) -> Population:  # fmt: skip
    """Images with objects of very different sizes, some of which are missed or of another class.

    Args:
        images: N.
        shares: of the images that show each class, the background aside.
        calibrated: how much of what is right and wrong in an image its maker knows, from 0 to 1.
        seed: of all of it.
    """
    rng = np.random.default_rng(seed)
    classes, area = 1 + len(shares), 10_000.0
    tagged = np.ones((images, classes), bool)
    tagged[:, 1:] = rng.random((images, len(shares))) < shares
    gt, predicted, correct = (np.zeros((images, classes)) for _ in range(3))
    shown, right = np.zeros((images, classes)), np.zeros((images, classes))
    for image in range(images):
        for label in np.flatnonzero(tagged[image, 1:]) + 1:
            size = min(rng.lognormal(6.5, 1), area / 5)
            quality = rng.beta(4, 1) * (rng.random() > 0.12)  # now and then nothing is found
            gt[image, label] = size
            correct[image, label] = quality * size
            predicted[image, label] = quality * size + size * rng.beta(1, 5)
            guess = calibrated * quality + (1 - calibrated) * rng.beta(4, 1)
            right[image, label] = min(guess * size, predicted[image, label])
            shown[image, label] = size * rng.uniform(0.8, 1.2)
    gt[:, 0] = area - gt[:, 1:].sum(axis=1)
    predicted[:, 0] = area - predicted[:, 1:].sum(axis=1)
    missed = (gt - correct)[:, 1:].sum(axis=1)
    correct[:, 0] = np.maximum(gt[:, 0] - (predicted - correct)[:, 1:].sum(axis=1), 0)
    correct[:, 0] = np.minimum(correct[:, 0], predicted[:, 0])
    shown[:, 0] = area - shown[:, 1:].sum(axis=1)
    right[:, 0] = np.maximum(predicted[:, 0] - missed * rng.uniform(0.5, 1.5, images), 0)
    right[:, 0] = np.minimum(right[:, 0], shown[:, 0])
    return Population(Counts(right, shown, predicted), Counts(correct, gt, predicted), tagged)


def column(*pixels: float) -> np.ndarray:
    return np.array(pixels, float)[:, None]


BY_HAND = Audited(
    Counts(column(8, 6, 0, 9, 4, 2), column(10, 9, 1, 11, 6, 5), column(10, 8, 0, 12, 6, 4)),
    Counts(column(7, 0, 5), column(9, 2, 7), column(10, 0, 6)),
    np.array([0, 2, 4]),
    np.full(3, 0.5),
)
"""Six images, of which three are corrected."""


def standard_error(found: Estimate) -> np.ndarray:
    return np.sqrt((found.moves**2 * found.chances[:, None]).sum(axis=0))


@pytest.mark.parametrize(
    ("way", "value"),
    [
        ("totals", 29 / (40 + 44 - 29)),
        ("plain", 24 / (32 + 36 - 24)),
        # 12/22 of the images, where 12/21 were expected and 29/53 of the whole set
        ("ratios", 12 / 22 - (12 / 21 - 29 / 53)),
    ],
)
def test_values_worked_by_hand(way: str, value: float) -> None:
    assert estimate(BY_HAND, way).values[0] == pytest.approx(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("way", "error"), [("totals", 0.046554), ("plain", 0.052838)])
def test_errors_are_near_those_of_the_linearised_estimate(way: str, error: float) -> None:
    """They differ by what a straight line misses of a ratio of three images."""
    found = standard_error(estimate(BY_HAND, way))[0]  # type: ignore[arg-type]
    assert found == pytest.approx(error, rel=0.1)


def linearised(audited: Audited, way: str) -> np.ndarray:
    """(C,): the standard error by the textbook: residuals of the linearised ratio, Hájek's form."""
    weights, classes = 1 / audited.probabilities[:, None], audited.places
    true, all_ = audited.found, audited.expected
    expected = Counts(all_.correct[classes], all_.gt[classes], all_.predicted[classes])

    def residuals(counts: Counts) -> np.ndarray:
        union = (weights * counts.union).sum(axis=0)
        ratio = (weights * counts.correct).sum(axis=0) / union
        return np.asarray((counts.correct - ratio * counts.union) / union)

    rest = residuals(true) - (residuals(expected) if way == "ratios" else 0)
    chances = 1 - audited.probabilities[:, None]
    values = weights * rest
    centre = (chances * values).sum(axis=0) / chances.sum()
    number = len(values)
    return np.sqrt(number / (number - 1) * (chances * (values - centre) ** 2).sum(axis=0))


@pytest.mark.parametrize("way", ["plain", "ratios"])
def test_errors_of_many_images_are_those_of_the_textbook(way: str) -> None:
    audited = population(1000).drawn(300, seed=1)
    found = standard_error(estimate(audited, way))  # type: ignore[arg-type]
    assert found == pytest.approx(linearised(audited, way), rel=0.1)


@given(
    images=st.integers(2, 12),
    classes=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    way=st.sampled_from(["ratios", "totals", "plain"]),
)
@settings(max_examples=60)
def test_all_images_give_the_iou_itself_and_no_width(
    images: int, classes: int, seed: int, way: str
) -> None:
    rng = np.random.default_rng(seed)
    correct, wrong, missed = rng.integers(0, 4, (3, images, classes)).astype(float)
    true = Counts(correct, correct + missed, correct + wrong)
    stand_ins = Counts(*rng.integers(0, 9, (3, images, classes)).astype(float))
    expected = Counts(
        np.minimum(stand_ins.correct, np.minimum(stand_ins.gt, true.predicted)),
        stand_ins.gt,
        true.predicted,
    )
    order = rng.permutation(images)
    found = Counts(correct[order], true.gt[order], true.predicted[order])
    whole = estimate(Audited(expected, found, order, np.ones(images)), way)  # type: ignore[arg-type]
    pooled = true.pooled()
    for label in range(classes):
        interval = whole.of_class(label)
        if pooled.gt[label]:
            value = pooled.correct[label] / pooled.union[label]
            assert interval == pytest.approx((value, value, value))
        else:
            assert interval is None
    shown = np.flatnonzero(pooled.gt)
    if len(shown):
        mean = (pooled.correct[shown] / pooled.union[shown]).mean()
        assert whole.mean(shown) == pytest.approx((mean, mean, mean))


def test_expectations_that_come_true_leave_no_doubt_of_the_ratio() -> None:
    """All that the sample could still have told is how it was drawn."""
    made = population()
    sure = Population(made.true, made.true, made.tagged)
    found = estimate(sure.drawn(30, seed=2))
    assert found.values == pytest.approx(sure.ious)
    assert standard_error(found) == pytest.approx(0, abs=1e-12)
    assert found.of_class(1) is None  # the spread of a part, where nothing was seen to vary


def test_expectations_that_say_nothing_leave_the_sample_alone() -> None:
    made = population()
    predicted = made.expected.predicted
    silent = Population(Counts(predicted, predicted, predicted), made.true, made.tagged)
    audited = silent.drawn(40, seed=3)
    ratios, plain = estimate(audited), estimate(audited, "plain")
    assert ratios.values == pytest.approx(plain.values)
    assert ratios.moves == pytest.approx(plain.moves)


def test_the_order_of_images_and_the_unit_of_pixels_change_nothing() -> None:
    audited = population().drawn(25, seed=4)
    other = np.random.default_rng(0).permutation(25)

    def changed(counts: Counts, rows: np.ndarray | slice) -> Counts:
        parts = (counts.correct, counts.gt, counts.predicted)
        return Counts(*(part[rows] * 100 for part in parts))

    again = Audited(
        changed(audited.expected, slice(None)),
        changed(audited.found, other),
        audited.places[other],
        audited.probabilities[other],
    )
    one, two = estimate(audited), estimate(again)
    assert one.values == pytest.approx(two.values)
    assert one.mean(np.arange(4)) == pytest.approx(two.mean(np.arange(4)))


def test_a_class_that_few_images_show_has_no_interval() -> None:
    audited = population(shares=(0.6, 0.02)).evenly(30, seed=5)
    found = estimate(audited)
    assert found.shown[2] < 3 <= found.shown[1]
    assert found.known.tolist() == [True, True, False]
    assert found.of_class(2) is None and found.of_class(1) is not None


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_limits_stay_between_nothing_and_all(right: float) -> None:
    """All of a class is missed, or found, where the maker expects something else each time."""
    rng = np.random.default_rng(6)
    sizes = rng.uniform(50, 100, (40, 1))
    expected = Counts(sizes * rng.uniform(0.3, 0.9, sizes.shape), sizes, sizes)
    found = Counts(*(part[:10] for part in (sizes * right, sizes, sizes)))
    interval = estimate(Audited(expected, found, np.arange(10), np.full(10, 0.25))).of_class(0)
    assert interval is not None
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.low <= right <= interval.high
    assert interval.width < 0.9


def covers(interval: Interval | None, truth: float) -> bool:
    assert interval is not None
    return interval.low <= truth <= interval.high


def shares(
    made: Population, draw: Callable[[int], Audited], draws: int = 200
) -> tuple[float, float, float]:
    """How often intervals hold the truth: of the mean, with their width, and of classes."""
    hits, widths, of_class = [], [], []
    for seed in range(draws):
        found = estimate(draw(seed))
        known = np.flatnonzero(found.known)
        mean = found.mean(known)
        assert mean is not None
        hits.append(covers(mean, made.ious[known].mean()))
        widths.append(mean.width)
        of_class += [covers(found.of_class(label), made.ious[label]) for label in known]
    return float(np.mean(hits)), float(np.mean(widths)), float(np.mean(of_class))


MADE = {
    "common": population(),
    "rare": population(500, shares=(0.5, 0.3, 0.06, 0.03)),
    "unknown": population(calibrated=0),
    "untagged": population(shares=(0.3, 0.1)),
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("number", [20, 40, 80])
def test_nearly_95_of_100_intervals_hold_the_truth(kind: str, number: int) -> None:
    made = MADE[kind]
    mean, _, of_class = shares(made, lambda seed: made.drawn(number, seed))
    assert 0.91 <= mean <= 0.995
    assert 0.89 <= of_class <= 0.99


@pytest.mark.parametrize("number", [30, 60])
def test_fewer_or_more_images_than_planned_are_a_draw_too(number: int) -> None:
    made = MADE["common"]
    mean, _, of_class = shares(made, lambda seed: made.drawn(number, seed, planned=40))
    assert 0.91 <= mean <= 0.995
    assert 0.89 <= of_class <= 0.99


def test_draws_by_doubt_with_expectations_are_narrower_than_plain_ones_of_twice_the_images() -> (
    None
):
    made = MADE["common"]
    _, ours, _ = shares(made, lambda seed: made.drawn(40, seed), 50)
    widths = []
    for seed in range(50):
        found = estimate(made.evenly(80, seed), "plain").mean(np.arange(4))
        assert found is not None
        widths.append(found.width)
    assert ours < np.mean(widths)


def test_what_more_images_would_narrow_it_to_is_what_they_do() -> None:
    made, ids = MADE["common"], np.arange(4)
    foreseen, seen = [], []
    for seed in range(60):
        few, more = made.drawn(30, seed, planned=30), made.drawn(50, seed, planned=30)
        found = estimate(few)
        then = found.with_probabilities(few.probabilities, more.probabilities[:30]).mean(ids)
        now = estimate(more).mean(ids)
        assert then is not None and now is not None
        assert then.width < found.mean(ids).width  # type: ignore[union-attr]
        foreseen.append(then.width)
        seen.append(now.width)
    assert np.mean(foreseen) == pytest.approx(np.mean(seen), rel=0.12)


def worse(made: Population, share: float) -> Population:
    """The same masks, from which so much of what is right in each class has gone to none."""
    true, expected = made.true, made.expected
    keep = np.full(true.gt.shape[1], 1 - share)
    keep[0] = 1
    less = Counts(true.correct * keep, true.gt, true.predicted - true.correct * (1 - keep))
    right = np.minimum(expected.correct * keep, less.predicted)
    return Population(Counts(right, expected.gt, less.predicted), less, made.tagged)


def test_a_difference_is_told_that_two_intervals_could_not_tell() -> None:
    made = MADE["common"]
    other, ids = worse(made, 0.04), np.arange(4)
    truth = float((other.ious - made.ious).mean())
    hits, paired, apart = [], [], []
    for seed in range(200):
        audited = made.drawn(40, seed)
        same = other.audited(audited.places, audited.probabilities)
        one, two = estimate(audited), estimate(same)
        gain = one.gain(two, ids)
        hits.append(covers(gain, truth))
        paired.append(gain is not None and gain.high < 0)
        first, second = one.mean(ids), two.mean(ids)
        assert first is not None and second is not None
        apart.append(second.high < first.low)
    assert 0.91 <= np.mean(hits) <= 0.99
    assert np.mean(paired) > 0.95 and np.mean(apart) < 0.2


def test_masks_differ_in_nothing_from_themselves() -> None:
    found = estimate(MADE["common"].drawn(20, seed=0))
    assert found.gain(found, np.arange(4)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("places", "probs", "message"),
    [
        ([0], [0.5], "2 corrected images at least, but there are 1"),
        ([0, 0], [0.5, 0.5], r"different and lie in 0\.\.5"),
        ([0, 6], [0.5, 0.5], r"different and lie in 0\.\.5"),
        ([0, 1], [0.5, 0.0], "probabilities must lie in"),
        ([0, 1], [0.5, 1.5], "probabilities must lie in"),
        ([0, 1], [0.5], "probabilities must have shape"),
    ],
)
def test_samples_that_cannot_be(places: list[int], probs: list[float], message: str) -> None:
    found = Counts(*(np.ones((len(places), 1)) for _ in range(3)))
    with pytest.raises(ValueError, match=message):
        Audited(BY_HAND.expected, found, np.array(places), np.array(probs))
