"""The IoU of a whole set of images from a sample of corrected ones, and how sure that is.

What is estimated is a fixed number: the IoU over N images, with pixels pooled. Chance is in the
draw of the sample alone, so that an interval holds however good or bad the maker's probabilities
are; they only make it narrower.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

import numpy as np

from wsss.checks import check_shape, check_values
from wsss.evaluate import Counts

__all__ = ["CONFIDENCE", "FEWEST", "Audited", "Estimate", "Interval", "Way", "estimate"]

CONFIDENCE = 0.95
FEWEST = 3
"""Corrected images that have to show a class before anything is said of it."""

Way = Literal["ratios", "totals", "plain"]


class Interval(NamedTuple):
    """A value, and the limits between which the truth lies in 95 of 100 draws."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """From the low limit to the high one."""
        return self.high - self.low


@dataclass(frozen=True)
class Audited:
    """N images with a mask, n of which a person has corrected.

    Attributes:
        expected: (N, C) each, float64 pixels of all images: `predicted` of the masks, and as
            `correct` and `gt` what their maker expects (`ExpectedPixels`). Where it expects
            nothing, any stand-ins will do, such as those of a maker that is sure of everything.
        found: (n, C) each, pixels of the corrected images, where the person's mask is the ground
            truth; pixels that it, or the mask, ignores are left out of all three.
        places: (n,) of the corrected images among the N, all different.
        probabilities: (n,) in (0, 1], with which each of these was to be drawn.

    Raises:
        ValueError: the arrays do not fit together, or there are fewer than two corrected images.
    """

    expected: Counts
    found: Counts
    places: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        number, classes = self.expected.gt.shape
        drawn = len(self.places)
        for counts, rows in ((self.expected, number), (self.found, drawn)):
            for name in ("correct", "gt", "predicted"):
                check_shape(name, getattr(counts, name).shape, (rows, classes))
        check_shape("probabilities", self.probabilities.shape, (drawn,))
        check_values("probabilities", self.probabilities, np.finfo(float).tiny, 1)
        if drawn < 2:
            raise ValueError(
                f"an interval needs 2 corrected images at least, but there are {drawn}; correct "
                "more of those that were drawn"
            )
        if (
            len(np.unique(self.places)) != drawn
            or not ((self.places >= 0) & (self.places < number)).all()
        ):
            raise ValueError(f"the places must be different and lie in 0..{number - 1}")


@dataclass(frozen=True)
class Estimate:
    """The IoU of each class over the whole set, and by how much each corrected image moves it.

    Attributes:
        values: (C,) float64 in [0, 1].
        moves: (n, C) float64: by how much the estimates change without an image, times the root of
            (k - 1) / k for k images that were left to chance. Their squares, times `chances`, sum
            to the variance; sums and differences of estimates have those of the moves.
        chances: (n,) in [0, 1): 1 - the probability of each image, by which it counts.
        shown: (C,) how many of the corrected images show each class.
        whole: whether all images of the set were corrected.
    """

    values: np.ndarray
    moves: np.ndarray
    chances: np.ndarray
    shown: np.ndarray
    whole: bool

    @property
    def known(self) -> np.ndarray:
        """(C,) bool: the classes that enough images show; of a set that is seen whole, any."""
        return self.shown >= (1 if self.whole else FEWEST)

    def of_class(self, class_id: int) -> Interval | None:
        """The IoU of a class; None where too few images show it, or nothing tells the spread."""
        if not self.known[class_id]:
            return None
        squares = self.moves[:, class_id] ** 2 * self.chances
        return self._between(float(self.values[class_id]), squares, heavy=True)

    def mean(self, class_ids: np.ndarray) -> Interval | None:
        """The mean IoU over classes, all of which have to be `known`; None where there are none."""
        if not len(class_ids):
            return None
        squares = self.moves[:, class_ids].mean(axis=1) ** 2 * self.chances
        return self._between(float(self.values[class_ids].mean()), squares, heavy=False)

    def gain(self, other: Self, class_ids: np.ndarray) -> Interval | None:
        """By how much the mean IoU of another estimate, from the same images, is higher.

        Both are of one draw, so that hard images count against both, and the interval is that of
        the difference.
        """
        check_shape("moves", other.moves.shape, self.moves.shape)
        if not len(class_ids):
            return None
        value = float((other.values - self.values)[class_ids].mean())
        squares = (other.moves - self.moves)[:, class_ids].mean(axis=1) ** 2 * self.chances
        error = float(np.sqrt(squares.sum()))
        if error == 0:
            return Interval(value, value, value) if self.whole or value == 0 else None
        # two chains may differ in a few images alone
        half = _quantile(self._degrees(squares, heavy=True)) * error
        return Interval(value, max(value - half, -1.0), min(value + half, 1.0))

    def with_probabilities(self, now: np.ndarray, then: np.ndarray) -> Self:
        """What the estimate would be like with more images, if these turn out like the others.

        Args:
            now: (n,), the probabilities that it was made with.
            then: (n,), those of the larger sample.
        """
        # an image stands for 1 / now others, each of which adds (1 - then) / then to the variance
        return replace(self, chances=np.where(self.chances > 0, now * (1 / then - 1), 0))

    def _between(self, value: float, squares: np.ndarray, *, heavy: bool) -> Interval | None:
        """Student's t on the logit, so that limits stay in [0, 1] and lean away from the ends."""
        error = float(np.sqrt(squares.sum()))
        if error == 0:
            return Interval(value, value, value) if self.whole else None
        centre = min(max(value, error), 1 - error) if error < 0.5 else 0.5
        reach = _quantile(self._degrees(squares, heavy=heavy)) * error / (centre * (1 - centre))
        logit = np.log(centre / (1 - centre))
        sides = np.clip([logit - reach, logit + reach], -50, 50)  # beyond, limits are 0 and 1
        low, high = (1 / (1 + np.exp(-sides))).tolist()
        # within an error of an end, that end is not ruled out
        low, high = 0.0 if value < error else low, 1.0 if 1 - value < error else high
        return Interval(value, min(low, value), max(high, value))

    def _degrees(self, squares: np.ndarray, *, heavy: bool) -> float:
        """Degrees of freedom of Student's t.

        They are one fewer than images left to chance. Where few images decide, as of a single class
        or a difference, they are as many as a variance of that kurtosis is worth by Satterthwaite's
        rule (Biometrics Bulletin, 1946): 2 k / (kurtosis - 1).
        """
        squares = squares[self.chances > 0]
        images = len(squares)
        if not heavy:
            return max(images - 1, 1)
        kurtosis = images * (squares**2).sum() / squares.sum() ** 2
        return float(np.clip(2 * images / max(kurtosis - 1, 1e-9), 1, max(images - 1, 1)))


def estimate(audited: Audited, way: Way = "ratios") -> Estimate:
    """Estimate the IoU of each class over all images.

    `ratios` corrects the sample's IoU by as much as its expected IoU is beside that of the whole
    set: J = R(sample) - (R_expected(sample) - R_expected(set)), with R a ratio of sums
    that are weighted by one over the probabilities. It is the difference estimator of prediction-
    powered inference for a ratio (Angelopoulos et al., Science 2023), in which both parts are
    ratios: the size of objects, which neither knows beforehand, falls out of each. With all images
    it is the IoU itself.

    `totals` is the same of each sum by itself, T = expected(set) + (true - expected)(sample), and
    their ratio; it needs probabilities that are calibrated. `plain` is the sample's ratio alone.
    The variance is that of leaving each image out in turn, with 1 - probability for a sample
    without replacement (Tukey's jackknife with Hájek's weights).

    Args:
        audited: the sample and what is expected of all.
        way: see above.

    Returns:
        Values in [0, 1]; of a class that no corrected image has or is given, what is expected.

    Example:
        >>> expected = Counts(*np.array([[[4.0], [3], [5]], [[6.0], [6], [8]], [[5.0], [5], [7]]]))
        >>> found = Counts(*np.array([[[5.0], [4], [6]], [[6.0], [7], [8]], [[5.0], [5], [7]]]))
        >>> whole = Audited(expected, found, np.arange(3), np.ones(3))
        >>> estimate(whole).of_class(0)
        Interval(value=0.6521739130434783, low=0.6521739130434783, high=0.6521739130434783)
    """
    weights = 1 / audited.probabilities
    chances = 1 - audited.probabilities
    chances[chances < 1e-9] = 0
    values = _ious(audited, weights[None], way)[0]
    moves = np.zeros((len(weights), len(values)))
    left = np.flatnonzero(chances)
    if len(left) > 1:
        share = len(left) / (len(left) - 1)
        without = np.repeat(weights[None], len(left), axis=0)
        without[:, left] *= share
        without[np.arange(len(left)), left] = 0
        moves[left] = (_ious(audited, without, way) - values) / np.sqrt(share)
    shown = (audited.found.gt > 0).sum(axis=0)
    return Estimate(
        np.clip(values, 0, 1), moves, chances, shown, len(weights) == len(audited.expected.gt)
    )


def _ious(audited: Audited, weights: np.ndarray, way: Way) -> np.ndarray:
    """(R, C): the estimates with each of R weightings of the corrected images, (R, n)."""
    found, all_ = audited.found, audited.expected
    expected = Counts(*(part[audited.places] for part in (all_.correct, all_.gt, all_.predicted)))
    of_set = _ratio(all_.correct.sum(axis=0), all_.union.sum(axis=0), 0.0)
    if way == "totals":
        totals = [
            of_all.sum(axis=0) + weights @ (true - stand_in)
            for of_all, true, stand_in in (
                (all_.correct, found.correct, expected.correct),
                (all_.gt, found.gt, expected.gt),
                (all_.predicted, found.predicted, expected.predicted),
            )
        ]
        correct, gt, predicted = totals
        return _ratio(correct, gt + predicted - correct, of_set)
    true = _ratio(weights @ found.correct, weights @ found.union, of_set)
    if way == "plain":
        return true
    drawn = _ratio(weights @ expected.correct, weights @ expected.union, of_set)
    corrected: np.ndarray = true - (drawn - of_set)
    return corrected


def _ratio(part: np.ndarray, whole: np.ndarray, otherwise: np.ndarray | float) -> np.ndarray:
    quotient = np.broadcast_to(np.asarray(otherwise, float), np.shape(whole)).copy()
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient


def _quantile(degrees: float) -> float:
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(degrees, 0.5 + CONFIDENCE / 2))
