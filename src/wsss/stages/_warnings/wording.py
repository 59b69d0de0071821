"""How stages word what is bad about a result, so that it looks alike in all of them."""

from collections.abc import Mapping, Sequence

__all__ = ["SHOWN", "counted", "quoted", "share_of"]

SHOWN = 6  # classes that are named; of more the worst


def share_of(part: int, whole: int) -> str:
    """Word a part of a number.

    Example:
        >>> share_of(187, 283)
        '187 of 283 (66 %)'
    """
    return f"{part} of {whole} ({100 * part / whole:.0f} %)"


def quoted(names: Sequence[str]) -> str:
    """Name classes, as many as a reader takes in.

    Example:
        >>> quoted(["cat", "dog"])
        "'cat', 'dog'"
        >>> quoted([str(number) for number in range(20)])
        "'0', '1', '2', '3', '4', '5' and 14 more"
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + more


def counted(counts: Mapping[str, tuple[int, int]]) -> str:
    """Name classes with how many of their images are bad, the most first.

    Args:
        counts: by class, bad images and all images.

    Example:
        >>> counted({"cat": (1, 1), "dog": (9, 12)})
        "'dog' 9 of 12, 'cat' 1 of 1"
    """
    worst = sorted(counts, key=lambda name: (-counts[name][0], name))
    more = f" and {len(worst) - SHOWN} more classes" if len(worst) > SHOWN else ""
    shown = (f"'{name}' {counts[name][0]} of {counts[name][1]}" for name in worst[:SHOWN])
    return ", ".join(shown) + more
