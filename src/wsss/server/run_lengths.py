"""Masks of classes as run lengths, as COCO writes them: a few hundred bytes of text."""

from typing import Any

import numpy as np

__all__ = ["coco_rle", "packed_counts"]


def coco_rle(region: np.ndarray) -> dict[str, Any]:
    """A region as pycocotools and COCO's files have it.

    Args:
        region: (H, W) bool.

    Returns:
        "size", [H, W], and "counts", the compressed run lengths of its pixels column by column.

    Example:
        >>> coco_rle(np.array([[False, True], [False, True]]))
        {'size': [2, 2], 'counts': '22'}
    """
    pixels = region.ravel(order="F")
    ends = np.flatnonzero(np.diff(pixels)) + 1
    counts = np.diff(ends, prepend=0, append=pixels.size).tolist()
    if pixels.size and pixels[0]:  # the first run is outside
        counts.insert(0, 0)
    return {"size": [int(side) for side in region.shape], "counts": packed_counts(counts)}


def packed_counts(counts: list[int]) -> str:
    """Run lengths as COCO's compressed text; see `wsss.data.coco`, which reads it.

    From the fourth number on, the difference to the one two before is written, in groups of 5
    bits, the lowest first, as the characters from code 48 on; a sixth bit says that more follow.

    Example:
        >>> packed_counts([1, 5, 2])
        '152'
    """
    letters = []
    for at, count in enumerate(counts):
        value = count - counts[at - 2] if at > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            # the rest is the sign, which the highest bit of the last group has to be
            is_last = value == (-1 if bits & 16 else 0)
            letters.append(chr(48 + bits + (0 if is_last else 32)))
            if is_last:
                break
    return "".join(letters)
