"""Names of runs that say what is different about them."""

import re
from collections.abc import Iterable, Mapping

__all__ = ["changed_settings", "short_name", "without_repeats"]

LONGEST = 80
"""Characters of a name."""


def changed_settings(
    settings: Mapping[str, str], others: Mapping[str, str], *, added: bool = True
) -> dict[str, str]:
    """Find the settings whose values are not those of others.

    Args:
        settings: by dotted key, as `flatten` gives them.
        others: what they are compared with.
        added: whether a setting that the others do not have counts.

    Returns:
        By dotted key.
    """
    return {
        key: value
        for key, value in settings.items()
        if (key in others or added) and others.get(key) != value
    }


def short_name(changes: Mapping[str, str]) -> str:
    """Name settings by as little of their keys as tells them apart.

    Example:
        >>> short_name({"refine.chains.crf.0.sigma_rgb": "13"})
        'sigma_rgb=13'
        >>> short_name({"train_classifier.method.name": "puzzle", "a.epochs": "3", "b.epochs": "4"})
        'method=puzzle, a.epochs=3, b.epochs=4'
    """
    parts = {key: _words(key) for key in changes}
    texts = [f"{_shortest(key, parts)}={_value(value)}" for key, value in changes.items()]
    for kept in range(len(texts), 0, -1):
        left = [f"+{len(texts) - kept}"] if kept < len(texts) else []
        name = ", ".join([*texts[:kept], *left])
        if len(name) <= LONGEST:
            return name
    return texts[0][:LONGEST] if texts else ""


def without_repeats(name: str, taken: Iterable[str]) -> str:
    """Number a name that another run has.

    Example:
        >>> without_repeats("lr=1", ["lr=1", "lr=1 #2"])
        'lr=1 #3'
    """
    known, number, found = set(taken), 1, name
    while found in known:
        number += 1
        found = f"{name} #{number}"
    return found


def _words(key: str) -> tuple[str, ...]:
    """The parts of a key that tell a reader something."""
    words = [word for word in key.split(".") if not word.isdigit()]
    if len(words) > 1 and words[-1] == "name":
        del words[-1]
    return tuple(words)


def _shortest(key: str, parts: Mapping[str, tuple[str, ...]]) -> str:
    own = parts[key]
    for length in range(1, len(own) + 1):
        tail = own[-length:]
        if not any(other[-length:] == tail for name, other in parts.items() if name != key):
            return ".".join(tail)
    return key


def _value(text: str) -> str:
    text = re.sub(r"^(-?\d+)\.0$", r"\1", text)
    return text if len(text) <= 24 else text[:23] + "…"
