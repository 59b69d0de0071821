"""One wording for bad input: every message names the value, the rule and the way out."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["check_range", "check_shape", "did_you_mean", "full_key", "naming"]

_SECTION: ContextVar[str] = ContextVar("section", default="")


@contextmanager
def naming(section: str) -> Iterator[None]:
    """Let `full_key` name settings below a section of params.yaml, within a `with` block.

    Who calls the library knows where its settings stand, and the library does not. Sections nest.

    Example:
        >>> with naming("refine.chains.crf"), naming("0"):
        ...     full_key("sigma_xy")
        'refine.chains.crf.0.sigma_xy'
    """
    token = _SECTION.set(full_key(section))
    try:
        yield
    finally:
        _SECTION.reset(token)


def full_key(key: str) -> str:
    """The dotted key of a setting as its user knows it; without `naming`, as it is given."""
    return ".".join(filter(None, (_SECTION.get(), key)))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the closest known word, or list the known ones.

    Example:
        >>> did_you_mean("sigma_yx", ["sigma_xy", "sigma_rgb"])
        "did you mean 'sigma_xy'?"
        >>> did_you_mean("zzz", ["b", "a"])
        'known: a, b'
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high (NaN never passes).

    Example:
        >>> check_range("fg_threshold", 1.5, 0, 1)
        Traceback (most recent call last):
        ...
        ValueError: fg_threshold must lie in [0, 1], but is 1.5
    """
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], but is {value}")


def check_shape(name: str, shape: Sequence[int], rule: Sequence[int | str]) -> None:
    """Raise ValueError unless `shape` fits `rule`, in which a string stands for any size.

    Example:
        >>> check_shape("image", (4, 4), ("H", "W", 3))
        Traceback (most recent call last):
        ...
        ValueError: image must have shape (H, W, 3), but has (4, 4)
    """
    fits = len(shape) == len(rule) and all(
        isinstance(want, str) or have == want for have, want in zip(shape, rule, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(want) for want in rule)
        raise ValueError(f"{name} must have shape ({wanted}), but has {tuple(shape)}")
