"""Findings about a data set: all are gathered, where a stage would stop at the first."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from wsss.checks import printable

__all__ = ["LEVELS", "Finding", "Findings", "Level"]

Level: TypeAlias = Literal["error", "warning", "remark"]

LEVELS: tuple[Level, ...] = ("error", "warning", "remark")
"""The worst first: what stops prepare_data, what makes results bad, what is good to know."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or good to know, and what mends it.

    Attributes:
        level: how bad it is.
        about: what it is about, such as "masks".
        text: what was found, and the setting or the action that mends it; may have several lines.
    """

    level: Level
    about: str
    text: str


class Findings:
    """Gathers findings; what is said twice is kept once."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def add(self, level: Level, about: str, texts: Iterable[str]) -> None:
        """Take texts of one level about one thing."""
        for text in map(printable, texts):
            self._found.setdefault(text, Finding(level, about, text))

    @contextmanager
    def catching(self, about: str, level: Level = "error") -> Iterator[None]:
        """Take what is raised as ValueError within the block for a finding, and go on behind it."""
        try:
            yield
        except ValueError as error:
            self.add(level, about, [str(error)])

    def ranked(self) -> tuple[Finding, ...]:
        """All of them, the worst first, and of one level as they were found.

        Example:
            >>> found = Findings()
            >>> found.add("remark", "sizes", ["small"])
            >>> with found.catching("tags"):
            ...     raise ValueError("no tags")
            >>> [finding.text for finding in found.ranked()]
            ['no tags', 'small']
        """
        return tuple(sorted(self._found.values(), key=lambda item: LEVELS.index(item.level)))
