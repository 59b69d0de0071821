"""Ground-truth masks as evaluation reads them, and what is wrong with those that do not fit."""

from pathlib import Path

import numpy as np

from wsss.artifacts import IGNORE_INDEX, read_label_png
from wsss.checks import full_key

__all__ = ["listing", "read_ground_truth", "value_counts", "wrong_ids", "wrong_size"]

_BLOCK = 2**20  # pixels that are counted at once, of 8 bytes each


def read_ground_truth(path: Path, size: tuple[int, int], num_fg_classes: int) -> np.ndarray:
    """Read a mask drawn by annotators.

    Args:
        path: a palette or grey PNG of class ids.
        size: (height, width) of its image in pixels.
        num_fg_classes: K; the mask holds 0 (background), 1..K and 255 (ignored).

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: not an image of ids, another size, or a value that is no class.
    """
    mask = read_label_png(path)
    wrong = wrong_size(mask, size) or wrong_ids(list(value_counts(mask)), num_fg_classes)
    if wrong:
        raise ValueError(f"{path} {wrong}")
    return mask


def value_counts(values: np.ndarray) -> dict[int, int]:
    """How many pixels each value has that is there."""
    if values.dtype != np.uint8:
        present, pixels = np.unique(values, return_counts=True)
        return dict(zip(present.tolist(), pixels.tolist(), strict=True))
    counts = np.zeros(256, np.int64)
    flat = values.ravel()
    for start in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[start : start + _BLOCK], minlength=256)
    return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}


def wrong_size(mask: np.ndarray, size: tuple[int, int]) -> str | None:
    if mask.shape == tuple(size):
        return None
    height, width = mask.shape
    found = (
        f"has {height} x {width} pixels (height x width), but its image has {size[0]} x {size[1]}; "
    )
    if (width, height) == tuple(size):
        return found + "it lies on its side: turn it by 90 degrees, or draw it again"
    if abs(height * size[1] - width * size[0]) <= max(height, width, *size):
        return found + (
            "a mask must have the size of its image: draw it again at that size, or resize it "
            "without interpolation"
        )
    return found + (
        "their shapes differ, so that one of them was cut, or it is the mask of another image: "
        "draw it again on this one"
    )


def wrong_ids(
    present: list[int], num_fg_classes: int, *, has_background: bool = True
) -> str | None:
    """What is wrong with the values of a mask.

    Args:
        present: those that it has.
        num_fg_classes: K.
        has_background: whether it may hold 0.
    """
    if not has_background and 0 in present:
        return (
            "holds 0, the background, which data without one do not have "
            f"({full_key('dataset.background')} is false): say in mask_values what 0 means, a "
            f"class or {IGNORE_INDEX}, or set it to true"
        )
    unknown = [
        value for value in present if num_fg_classes < value < IGNORE_INDEX or value > IGNORE_INDEX
    ]
    if not unknown:
        return None
    return (
        f"holds {listing([*map(str, unknown)], 'value')}; a mask holds 0 (background), "
        f"1..{num_fg_classes} (the classes) and {IGNORE_INDEX} (ignored): map other values to one "
        "of these, or name the missing classes in the data set's settings"
    )


def listing(values: list[str], what: str) -> str:
    shown = ", ".join(values[:8])
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    return f"the {what}{'s' if values[1:] else ''} {shown}{more}"
