"""Windows over an image that is too large to be worked on whole, and how they are blended."""

import math

import numpy as np

from wsss.checks import check_share

__all__ = ["window_starts", "window_weights"]


def window_starts(length: int, side: int, overlap: float) -> list[int]:
    """Where windows begin; the last one ends with the border.

    Args:
        length: cells of the image along one axis.
        side: cells of a window, at most `length`.
        overlap: share of a window that the next one covers again, in [0, 1).

    Raises:
        ValueError: the overlap leaves its range.

    Example:
        >>> window_starts(10, 4, 0.5)
        [0, 2, 4, 6]
        >>> window_starts(9, 4, 0.5)
        [0, 2, 4, 5]
    """
    check_share("overlap", overlap)
    step = max(1, math.floor(side * (1 - overlap)))
    return [*range(0, length - side, step), length - side]


def window_weights(height: int, width: int) -> np.ndarray:
    """(height, width) float32 Hann weights at the centres of cells: above 0, highest in the middle.

    Divided by their sum where windows overlap, they leave no seam.

    Example:
        >>> window_weights(1, 4).round(3)
        array([[0.146, 0.854, 0.854, 0.146]], dtype=float32)
    """
    down, along = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width))
    weights: np.ndarray = np.outer(down, along).astype(np.float32)
    return weights
