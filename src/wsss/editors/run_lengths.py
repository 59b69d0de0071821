"""Masks as run lengths, as annotation tools read them: those of COCO, CVAT and Label Studio."""

from collections.abc import Sequence

import numpy as np

__all__ = ["packed_bytes", "packed_text", "run_lengths"]

_MOST = 16  # bits that a length of Label Studio's may have


def run_lengths(inside: np.ndarray) -> list[int]:
    """The lengths of runs outside and inside of a region in turn.

    Args:
        inside: (N,) bool, pixels one after another.

    Returns:
        Whole numbers, of which the first is outside, and may be 0; their sum is N.

    Example:
        >>> run_lengths(np.array([True, True, False]))
        [0, 2, 1]
    """
    changes = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    ends = np.concatenate([[0], changes, [len(inside)]])
    lengths: list[int] = np.diff(ends).tolist()
    return [0, *lengths] if len(inside) and inside[0] else lengths


def packed_text(counts: Sequence[int]) -> str:
    """Run lengths as COCO's compressed text.

    From the fourth on, the difference to the length two before is written, in groups of 5 bits from
    the lowest on; the sixth bit of a group says that more follow, and the highest bit of the last
    one is the sign.

    Example:
        >>> packed_text([1, 5, 2])
        '152'
    """
    letters = []
    for at, count in enumerate(counts):
        value = count - counts[at - 2] if at > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr(48 + bits + (32 if more else 0)))
    return "".join(letters)


def packed_bytes(inside: np.ndarray) -> list[int]:
    """A region as Label Studio's brush has it: red, green, blue and alpha of each pixel, packed.

    The bits are: 32 for the number of values, 5 for the bits of a value, less one, 4 times 4 for
    the bits that lengths may have, less one, and then for each run a bit that is set where one
    value is repeated, 2 that choose among the lengths' bits, the length less one, and the value.

    Args:
        inside: (N,) bool, pixels one after another.

    Returns:
        Bytes.

    References:
        The format is that of the package rle-pack of thi.ng/umbrella.
    """
    sizes = (3, 8, 12, _MOST)
    parts = [f"{4 * len(inside):032b}{7:05b}", *(f"{size - 1:04b}" for size in sizes)]
    is_inside = False
    for count in run_lengths(inside):
        left, value = 4 * count, "11111111" if is_inside else "00000000"
        while left:
            length = min(left, 2**_MOST)
            at = next(at for at, size in enumerate(sizes) if length <= 2**size)
            parts.append(f"1{at:02b}{length - 1:0{sizes[at]}b}{value}")
            left -= length
        is_inside = not is_inside
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    found: list[int] = np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tolist()
    return found
