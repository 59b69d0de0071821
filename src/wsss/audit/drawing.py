"""Which images a person is asked about: by chance, by how unsure their masks are, by class."""

import numpy as np

from wsss.checks import check_shape
from wsss.evaluate import Counts
from wsss.seeding import generator

__all__ = ["MOST", "intensities", "order_of_drawing", "probabilities", "spread"]

SURE_SHARE = 0.15
"""Of an image's pixels of a class, so many count as unsure however sure the maker is of them."""
EVEN_SHARE = 0.2
"""Of the sample, so much is drawn evenly, so that no image is all but out of reach."""
MOST = 0.95
"""No image is drawn with a higher probability, so that any number of the first drawn is a draw."""


def spread(expected: Counts, counted: np.ndarray) -> np.ndarray:
    """By how much each image may move the mean IoU: what its drawing is worth.

    It is the root of the sum, over classes, of the squared share that an image has in the pixels of
    the class which its maker is unsure of. A class that few images show weighs as much as a common
    one, as it does in the mean.

    Args:
        expected: (N, C) each, as of `Audited`.
        counted: (C,) bool: the classes of the mean.

    Returns:
        (N,) float64 above 0, with the mean 1.
    """
    union = np.maximum(expected.union, 0).astype(float)
    wrong = np.maximum(expected.predicted - expected.correct, 0)
    missed = np.maximum(expected.gt - expected.correct, 0)
    unsure = (1 - SURE_SHARE) * (wrong + missed) + SURE_SHARE * union
    shares = (unsure / np.maximum(unsure.sum(axis=0), 1))[:, counted]
    sizes: np.ndarray = np.sqrt((shares**2).sum(axis=1))
    if not sizes.any():
        return np.ones(len(sizes))
    worth: np.ndarray = (1 - EVEN_SHARE) * sizes / sizes.mean() + EVEN_SHARE
    return worth


def intensities(sizes: np.ndarray, number: int) -> np.ndarray:
    """The odds p / (1 - p) of each image in a draw of a number of them.

    Args:
        sizes: (N,) above 0, to which the probabilities p are proportional, up to `MOST`.
        number: of images that are to be drawn, in 1..N.

    Returns:
        (N,) float64 above 0.

    Raises:
        ValueError: there are not so many images.

    Example:
        >>> intensities(np.array([1.0, 1, 2]), 2).round(2)
        array([ 1.11,  1.11, 19.  ])
    """
    check_number(number, len(sizes))
    probs = np.full(len(sizes), min(number / len(sizes), MOST))
    capped = np.zeros(len(sizes), bool)
    while number < MOST * len(sizes):
        left = number - MOST * capped.sum()
        probs = np.where(capped, MOST, left * sizes / sizes[~capped].sum())
        above = (probs > MOST) & ~capped
        if not above.any():
            break
        capped |= above
    odds: np.ndarray = probs / (1 - probs)
    return odds


def check_number(number: int, images: int) -> None:
    """Raise ValueError unless so many of the images can be drawn."""
    if not 1 <= number <= images:
        raise ValueError(
            f"{number} images cannot be drawn from a set of {images}; draw 1 to {images} of them"
        )


def probabilities(odds: np.ndarray, number: int) -> np.ndarray:
    """The probability of each image to be among the first so many that are drawn.

    Args:
        odds: (N,) above 0, as of `intensities`.
        number: in 1..N; that of the draw gives the probabilities that it was planned with.

    Returns:
        (N,) float64 in (0, 1], which sum to `number`.

    References:
        Rosén, On sampling with probability proportional to size, JSPI 1997: order sampling with
        Pareto ranks, whose probabilities these are but for terms that vanish with the number.

    Example:
        >>> probabilities(np.array([1.0, 1, 19]), 2).round(2)
        array([0.52, 0.52, 0.95])
    """
    check_number(number, len(odds))
    if number == len(odds):
        return np.ones(len(odds))
    low, high = -80.0, 80.0  # of the logarithm of what all odds are multiplied with
    for _ in range(100):
        middle = (low + high) / 2
        scaled = odds * np.exp(middle)
        found: np.ndarray = scaled / (1 + scaled)
        low, high = (middle, high) if found.sum() < number else (low, middle)
    return found


def order_of_drawing(odds: np.ndarray, strata: np.ndarray, rng_seed: int, name: str) -> np.ndarray:
    """Put images into an order of which any number of the first is a draw without replacement.

    So a sample grows by taking further ones, and ends wherever its corrections end. Within a
    stratum the random numbers are spread evenly over [0, 1), so that of each class the share that
    it is to have is drawn, and not more or less by chance.

    Args:
        odds: (N,), as of `intensities`.
        strata: (N,) int, such as the rarest tag of each image.
        rng_seed: what chance begins with.
        name: of the draw; draws of different names are independent.

    Returns:
        (N,) int64: the places of the images, that which is drawn first in front.
    """
    check_shape("strata", strata.shape, odds.shape)
    rng = generator(rng_seed, "audit", name)
    numbers = np.empty(len(odds))
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        numbers[own] = (rng.permutation(len(own)) + rng.random()) / len(own)
    return np.argsort(numbers / (1 - numbers) / odds, kind="stable")
