"""Ground-truth masks: the one place that decodes them, and refuses those that do not fit."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wsss.artifacts import IGNORE_INDEX, read_label_png, write_label_png
from wsss.checks import check_range

__all__ = ["check_mask", "map_mask_values", "read_ground_truth"]


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
    if mask.shape != tuple(size):
        raise ValueError(
            f"{path} has {mask.shape[0]} x {mask.shape[1]} pixels (height x width), but its "
            f"image has {size[0]} x {size[1]}; a mask must have the size of its image: draw it "
            "again at that size, or resize it without interpolation"
        )
    blocks = np.array_split(mask.ravel(), 1 + mask.size // 2**20)  # 8 bytes a pixel while counted
    present = np.flatnonzero(sum(np.bincount(block, minlength=256) for block in blocks))
    unknown = [value for value in present.tolist() if num_fg_classes < value < IGNORE_INDEX]
    if unknown:
        raise ValueError(
            f"{path} holds {_listing(unknown)}; a mask holds 0 (background), 1..{num_fg_classes} "
            f"(the classes) and {IGNORE_INDEX} (ignored): map other values to one of these, or "
            "name the missing classes in the data set's settings"
        )
    return mask


def check_mask(path: Path, size: tuple[int, int], num_fg_classes: int) -> str | None:
    """What `read_ground_truth` would say is wrong with a mask; None when it fits."""
    try:
        read_ground_truth(path, size, num_fg_classes)
    except ValueError as error:
        return str(error)
    return None


def map_mask_values(source: Path, target: Path, values: Mapping[int, int]) -> None:
    """Write a mask with other values, such as {0: 0, 255: 1} for one in black and white.

    Args:
        source: a palette or grey PNG.
        target: the palette PNG to write.
        values: what each value, in 0..255, becomes, which lies there too.

    Raises:
        ValueError: the source is not an image of values, or has one that `values` has not, or
            that has a value outside of its range.
    """
    for value in (*values, *values.values()):
        check_range("values", value, 0, 255)
    mask = read_label_png(source)
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
    unknown = [value for value in present if value not in values]
    if unknown:
        raise ValueError(
            f"{source} holds {_listing(unknown)}, but masks of this data set hold only "
            f"{', '.join(map(str, sorted(values)))}"
        )
    table = np.zeros(256, np.uint8)
    table[list(values)] = list(values.values())
    write_label_png(target, table[mask])


def _listing(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:8]))
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    return f"the value{'s' if values[1:] else ''} {shown}{more}"
