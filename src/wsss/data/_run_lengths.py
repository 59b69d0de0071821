"""Masks as run lengths: COCO's lists and texts, CVAT's lists, Label Studio's packed bits."""

from collections.abc import Sequence

import numpy as np

__all__ = ["filled_runs", "packed_alpha", "unpacked_counts"]


def filled_runs(counts: Sequence[int], total: int) -> np.ndarray:
    """Pixels one after another, from the lengths of runs outside and inside of a region in turn.

    Args:
        counts: whole numbers of pixels, of which the first is outside; at least one.
        total: how many pixels there are.

    Returns:
        (total,) bool.

    Raises:
        ValueError: a length is negative, or they do not add up.

    Example:
        >>> filled_runs([1, 2, 1], 4).tolist()
        [False, True, True, False]
    """
    lengths = np.asarray(counts, np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or int(lengths.sum()) != total:
        raise ValueError(
            f"its run lengths add up to {int(lengths.sum())} pixels, but its size has {total}; "
            "export it again"
        )
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def unpacked_counts(text: str) -> list[int]:
    """The run lengths in COCO's compressed text.

    A number is written in groups of 5 bits, the lowest first, as the characters from code 48 on; a
    sixth bit says that more follow, and the highest bit of the last group is its sign. From the
    fourth number on, it is the difference to the one two before.

    Raises:
        ValueError: a character is none of these, or the text breaks off.

    Example:
        >>> unpacked_counts("152")
        [1, 5, 2]
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"its run lengths hold '{letter}', which is none of COCO's letters")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its run lengths break off; export it again")
    return counts


def packed_alpha(data: Sequence[int], total: int) -> np.ndarray:
    """The alpha channel in Label Studio's packed pixels.

    The bytes are a stream of bits: 32 say how many values there are, 5 how many bits a value has,
    less one, and 4 times 4 how many bits lengths may have, less one. Then runs follow: a bit that
    is set where one value is repeated, 2 that choose among the lengths' bits, the length less
    one, and the value, or as many values.

    Args:
        data: bytes.
        total: how many pixels of red, green, blue and alpha there must be.

    Returns:
        (total,) uint8, 0..255.

    Raises:
        ValueError: the bytes are of another number of pixels, or break off.

    References:
        The format is that of the package rle-pack of thi.ng/umbrella.
    """
    try:
        bits = np.unpackbits(np.asarray(data, np.uint8))
    except (OverflowError, TypeError, ValueError):
        raise ValueError("its run lengths are no list of bytes; export it again") from None
    text = bits.astype("S1").tobytes().decode()
    at = 0

    def read(size: int) -> int:
        nonlocal at
        at += size
        if at > len(text):
            raise ValueError("its run lengths break off; export it again")
        return int(text[at - size : at], 2)

    count, width = read(32), read(5) + 1
    if count != 4 * total or width != 8:
        raise ValueError(
            f"its run lengths are of {count} values of {width} bits, but its size of {total} "
            f"pixels has {4 * total} of 8; export it again"
        )
    sizes = [read(4) + 1 for _ in range(4)]
    values = np.empty(count, np.uint8)
    done = 0
    while done < count:
        is_run = read(1)
        end = done + read(sizes[read(2)]) + 1
        if end > count:
            raise ValueError("its run lengths hold too many pixels; export it again")
        if is_run:
            values[done:end] = read(8)
        else:
            start = at
            at += 8 * (end - done)
            if at > len(text):
                raise ValueError("its run lengths break off; export it again")
            values[done:end] = np.packbits(bits[start:at])
        done = end
    return values[3::4]
