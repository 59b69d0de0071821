"""How many pixels of each class whatever made a mask expects in it, kept in the mask's own file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from wsss.artifacts.image import open_image
from wsss.checks import check_shape

__all__ = ["EXPECTED_KEY", "ExpectedPixels", "read_expected"]

EXPECTED_KEY = "wsss.expected"  # of the text in the PNG


@dataclass(frozen=True)
class ExpectedPixels:
    """Probabilities of a mask's pixels, summed per class; pixels that it ignores are left out.

    They stand in for the ground truth of images that nobody has looked at (`wsss.audit`).

    Attributes:
        shown: by class id, 0 among them, the sum of the probability of the class over all pixels:
            how many are expected to show it. Whole pixels; classes with none are left out.
        correct: likewise over the pixels that the mask gives to the class: how many of these are
            expected to be right.
    """

    shown: Mapping[int, int]
    correct: Mapping[int, int]

    @classmethod
    def of(cls, shown: np.ndarray, correct: np.ndarray) -> Self:
        """From sums of probabilities.

        Args:
            shown: (K + 1,) pixels, in any dtype; rounded to whole ones.
            correct: (K + 1,) likewise.

        Example:
            >>> ExpectedPixels.of(np.array([5.6, 0.2, 4.2]), np.array([5.1, 0, 3.7]))
            ExpectedPixels(shown={0: 6, 2: 4}, correct={0: 5, 2: 4})
        """
        check_shape("correct", correct.shape, shown.shape)
        return cls(_whole(shown), _whole(correct))

    def text(self) -> str:
        """JSON, for the file."""
        return json.dumps({"shown": self.shown, "correct": self.correct}, separators=(",", ":"))

    def arrays(self, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
        """(num_classes,) float64 each: `shown` and `correct`; classes beyond are left out."""
        found = np.zeros((2, num_classes))
        for row, pixels in zip(found, (self.shown, self.correct), strict=True):
            for class_id, count in pixels.items():
                if class_id < num_classes:
                    row[class_id] = count
        return found[0], found[1]


def read_expected(path: Path) -> ExpectedPixels | None:
    """What the maker of a mask expects in it; None of a mask that does not say it.

    Masks that people drew, and those of a maker without probabilities, do not.

    Args:
        path: a label PNG, also one in a shard.

    Raises:
        ValueError: the file is no image, or what it says cannot be read.
    """
    with open_image(path) as image:
        text = image.info.get(EXPECTED_KEY)
    if text is None:
        return None
    try:
        said = json.loads(text)
        shown, correct = (
            {int(class_id): int(count) for class_id, count in said[key].items()}
            for key in ("shown", "correct")
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not say what is expected in it ({error!r}); rerun the stage that made it"
        ) from None
    return ExpectedPixels(shown, correct)


def _whole(pixels: np.ndarray) -> dict[int, int]:
    rounded = np.rint(pixels).astype(np.int64)
    return {int(at): int(rounded[at]) for at in np.flatnonzero(rounded > 0)}
