"""One wording for bad input: every message names the value, the rule and the way out."""

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = [
    "ConfigError",
    "DivergedError",
    "check_dtype",
    "check_image",
    "check_range",
    "check_shape",
    "check_share",
    "check_values",
    "did_you_mean",
    "full_key",
    "naming",
    "printable",
]


class ConfigError(ValueError):
    """A settings file or an override that does not fit; the text is meant for the user."""


class DivergedError(ValueError):
    """A training whose numbers are not finite any more; the text says where, and what to lower."""


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
    """Suggest the closest known word, or list the known ones, of very many the first.

    Example:
        >>> did_you_mean("sigma_yx", ["sigma_xy", "sigma_rgb"])
        "did you mean 'sigma_xy'?"
        >>> did_you_mean("zzz", ["b", "a"])
        'known: a, b'
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    more = f" and {len(names) - 40} more" if len(names) > 40 else ""
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names[:40])}{more}"


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


def check_dtype(name: str, dtype: object, *wanted: str) -> None:
    """Raise ValueError unless an array's or a tensor's dtype has one of the names.

    Example:
        >>> check_dtype("mask", "int64", "uint8")
        Traceback (most recent call last):
        ...
        ValueError: mask must be uint8, but is int64
    """
    found = str(dtype).removeprefix("torch.")
    if found not in wanted:
        raise ValueError(f"{name} must be {' or '.join(wanted)}, but is {found}")


def check_values(name: str, values: Any, low: float, high: float) -> None:
    """Raise ValueError unless all of an array or a tensor lies in [low, high]; NaN never does.

    Example:
        >>> import numpy as np
        >>> check_values("scores", np.array([0.5, 2.0]), 0, 1)
        Traceback (most recent call last):
        ...
        ValueError: scores must lie in [0, 1], but span [0.5, 2]
    """
    if 0 in values.shape:
        return
    least, most = float(values.min()), float(values.max())
    if not low <= least <= most <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], but span [{least:g}, {most:g}]")


def check_image(name: str, image: Any) -> None:
    """Raise ValueError unless an array is an 8-bit RGB image, (H, W, 3) uint8.

    Example:
        >>> import numpy as np
        >>> check_image("image", np.zeros((4, 4, 3), np.float32))
        Traceback (most recent call last):
        ...
        ValueError: image must be uint8, but is float32
    """
    check_shape(name, image.shape, ("H", "W", 3))
    check_dtype(name, image.dtype, "uint8")


def check_share(name: str, value: float, *, zero: bool = True) -> None:
    """Raise ValueError unless 0 <= value < 1; with `zero` False, unless 0 < value <= 1.

    Example:
        >>> check_share("overlap", 1.0)
        Traceback (most recent call last):
        ...
        ValueError: overlap must lie in [0, 1), but is 1.0
    """
    fits, rule = (0 <= value < 1, "[0, 1)") if zero else (0 < value <= 1, "(0, 1]")
    if not fits:
        raise ValueError(f"{name} must lie in {rule}, but is {value}")


def printable(text: str) -> str:
    """A text that any file and terminal takes: bytes that are no UTF-8 are written as such.

    Example:
        >>> printable(os.fsdecode(b"k\\xe4tzchen"))
        'k\\\\xe4tzchen'
    """
    return os.fsencode(text).decode("utf-8", "backslashreplace")
