"""What is wrong with results, as a person and a program can read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

__all__ = ["SEVERITIES", "Change", "Finding", "Severity", "Shown", "falling"]

Severity: TypeAlias = Literal["fault", "warning"]

SEVERITIES: tuple[Severity, ...] = ("fault", "warning")
"""The worst first: results that mean nothing, and results that are worse than they need be."""


@dataclass(frozen=True)
class Change:
    """A setting to change.

    Attributes:
        key: as in params.yaml, such as "train_classifier.epochs".
        how: in which direction, or "change" where that is for a person to choose.
    """

    key: str
    how: Literal["raise", "lower", "change"]


@dataclass(frozen=True)
class Shown:
    """Where the pictures of a finding come from.

    Attributes:
        kind: scores (.npz), mask (.png), or nothing but the image.
        folder: of files that are named after the images.
    """

    kind: Literal["scores", "mask", "image"]
    folder: Path = Path()


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with results.

    Attributes:
        name: of its kind, such as "classes_at_chance".
        severity: how bad it is.
        about: the stage that made it, such as "refine_cams@crf".
        text: what is wrong, with its numbers, and what mends it.
        changes: the settings to change.
        numbers: those of the text, by name.
        images: names of images that show it, the clearest first.
        shown: what pictures of them show.
        needs_truth: whether it was found with masks of annotators, as evaluation reports it.
    """

    name: str
    severity: Severity
    about: str
    text: str
    changes: tuple[Change, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    shown: Shown = Shown("image")
    needs_truth: bool = False

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "severity": self.severity,
            "about": self.about,
            "text": self.text,
            "changes": [{"key": change.key, "how": change.how} for change in self.changes],
            "numbers": dict(self.numbers),
            "images": list(self.images),
            "needs_truth": self.needs_truth,
        }


def falling(scores: Mapping[str, float]) -> tuple[str, ...]:
    """Names by what they score, the highest first; of equal ones in their own order.

    Example:
        >>> falling({"b": 1, "c": 2, "a": 1})
        ('c', 'a', 'b')
    """
    return tuple(sorted(scores, key=lambda name: (-scores[name], name)))
