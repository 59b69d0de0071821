"""What one look at the machine gave."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["LEVELS", "Check", "Level", "fault", "ok", "ok_of_all", "warning"]

Level: TypeAlias = Literal["ok", "warning", "fault"]

LEVELS: tuple[Level, ...] = ("fault", "warning", "ok")
"""The worst first: what does not work, what works badly or soon will not, what is as it should
be."""


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, and what mends it.

    Attributes:
        level: how bad it is.
        about: what it is about, such as "python".
        text: how it is, with its numbers.
        fix: a command, a setting or an action that mends it; "" where nothing has to be mended.
    """

    level: Level
    about: str
    text: str
    fix: str = ""

    def line(self) -> str:
        """All of it in one line, but for the level.

        Example:
            >>> warning("memory", "2 GiB are free", "close other programs").line()
            'memory: 2 GiB are free; close other programs'
        """
        text = " ".join(self.text.split())
        return f"{self.about}: {text}" + (f"; {self.fix}" if self.fix else "")


def ok(about: str, text: str) -> Check:
    """It is as it should be."""
    return Check("ok", about, text)


def warning(about: str, text: str, fix: str) -> Check:
    """It works badly, or soon will not."""
    return Check("warning", about, text, fix)


def fault(about: str, text: str, fix: str) -> Check:
    """It does not work."""
    return Check("fault", about, text, fix)


def ok_of_all(checks: Iterable[Check]) -> bool:
    """Whether none is a fault.

    Example:
        >>> ok_of_all([ok("git", "2.39"), warning("memory", "2 GiB", "close other programs")])
        True
    """
    return all(check.level != "fault" for check in checks)
