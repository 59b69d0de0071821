"""From the bounds of features to the way they are embedded and their vertices numbered.

The counterpart of csrc/frame.cpp, number by number: both place every point into the same simplex.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Frame", "Packing", "choose_frame"]

_PEER_REACH = 32767
"""Elevated coordinates that pydensecrf's 16-bit keys hold. Within them features are placed as it
places them; beyond there is nothing to agree with."""

_FLOAT_CELLS = 2**17
"""Quotients below which float32 places a point to a hundredth of a cell."""

_MOST_CELLS = 2**40
"""And where float64 does."""


@dataclass(frozen=True)
class Frame:
    """How features are placed, and which quotients their vertices may have."""

    origin: list[float]
    """(d,): each component is taken less this; all 0 for features within pydensecrf's reach."""
    scale: list[float]
    """(d,): from components to elevated coordinates."""
    far: bool
    """Embed in float64."""
    phantoms: bool
    """A point at feature 0 is embedded as well, if it was asked for."""
    lowest: list[int]
    """(d,): the least quotient of each coordinate but the last, which is implied."""
    radix: list[int]
    """(d,): how many it may have from there on."""

    @property
    def is_usual(self) -> bool:
        """Whether features are placed where they are, in their own precision."""
        return not self.far and not any(self.origin)


def choose_frame(low: Sequence[float], high: Sequence[float], *, double: bool) -> Frame:
    """The frame of features with these bounds, (d,) each.

    Args:
        low: the least of each component.
        high: the greatest.
        double: the features are float64.

    Raises:
        ValueError: the features span too many lattice cells.
    """
    dim = len(low)
    origin, far, phantoms = [0.0] * dim, False, True
    scale = _scale(dim, double)
    # The phantom points sit at the origin.
    low_or_0, high_or_0 = [min(0.0, x) for x in low], [max(0.0, x) for x in high]
    least, most = _elevated(low_or_0, high_or_0, scale)
    if _reach(least, most) > _PEER_REACH:
        phantoms = low_or_0 == list(low) and high_or_0 == list(high)
        origin, span = list(low), [h - x for x, h in zip(low, high, strict=True)]
        least, most = _elevated([0.0] * dim, span, scale)
        far = _reach(least, most) >= _FLOAT_CELLS * (dim + 1)
        if far:
            scale = _scale(dim, True)
            least, most = _elevated([0.0] * dim, span, scale)
        cells = _reach(least, most) / (dim + 1)
        if not cells < _MOST_CELLS:
            raise ValueError(
                f"features span more than 2^40 lattice cells, beyond which float64 does not tell "
                f"them apart; use a sigma that is larger by a factor of "
                f"{math.ceil(cells / _MOST_CELLS) * 2:.0e}"
            )
    # The margins: the corrected quotient lies within one of the real one, a corner may be one less,
    # a neighbour one less or more; and one for rounding.
    lowest = [math.floor(x / (dim + 1)) - 4 for x in least[:dim]]
    highest = [math.ceil(x / (dim + 1)) + 3 for x in most[:dim]]
    radix = [high - low + 1 for low, high in zip(lowest, highest, strict=True)]
    return Frame(origin, scale, far, phantoms, lowest, radix)


@dataclass(frozen=True)
class Packing:
    """How a vertex becomes a number, of one 64-bit word or, where that does not do, of several.

    Its coordinates all leave the same remainder modulo d + 1, and sum to zero. So the words have
    the quotients of all coordinates but the last, as digits of mixed radix, and the first word has
    above them the remainder, and above that the image. A step to a neighbouring vertex is the
    addition of a constant to each word.
    """

    words: list[int]
    """(d + 1,): the word of each quotient."""
    places: list[int]
    """(d + 1,): its place value there; 0 for the last, which is implied."""
    remainder: int
    """The place value of the remainder, in the first word."""
    count: int
    """The number of words."""

    @classmethod
    def of(cls, frame: Frame, n_images: int) -> "Packing":
        """The packing of a frame's vertices in this many images."""
        dim = len(frame.radix)
        words, places = [0] * (dim + 1), [0] * (dim + 1)
        word, place, remainder = 0, 1, 1
        for j in range(dim - 1, -1, -1):
            most = (2**63 - 1) // ((dim + 1) * n_images) if word == 0 else 2**63 - 1
            if place * frame.radix[j] > most:
                word, place = word + 1, 1
            words[j], places[j] = word, place
            place *= frame.radix[j]
            if word == 0:
                remainder = place
        return cls(words, places, remainder, word + 1)


def _scale(dim: int, double: bool) -> list[float]:
    """(d,) factors from features to elevated coordinates, rounded as the compiled core rounds them.

    The blur's standard deviation is sqrt(2/3) (d + 1) in elevated units (Adams 2010, p. 7).
    """
    rounded = np.float64 if double else np.float32
    deviation = float(rounded(math.sqrt(2 / 3) * (dim + 1)))
    return [float(rounded(1 / math.sqrt((i + 2) * (i + 1)) * deviation)) for i in range(dim)]


def _elevated(
    low: Sequence[float], high: Sequence[float], scale: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Least and greatest of each elevated coordinate, (d + 1,) each, of features in [low, high].

    Coordinate j is the sum of the scaled features j.. less j times feature j - 1.
    """
    least, most = [0.0], [0.0]
    tail_low = tail_high = 0.0
    for j in range(len(scale), 0, -1):
        scaled_low, scaled_high = low[j - 1] * scale[j - 1], high[j - 1] * scale[j - 1]
        least[0] -= j * scaled_high
        most[0] -= j * scaled_low
        tail_low += scaled_low
        tail_high += scaled_high
        least.insert(0, tail_low)
        most.insert(0, tail_high)
    return least, most


def _reach(least: Sequence[float], most: Sequence[float]) -> float:
    """The largest of all, whatever its sign."""
    return max(*(-x for x in least), *most)
