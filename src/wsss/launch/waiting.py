"""What is shown while tasks run elsewhere: a bar on a terminal, a line a minute in a log."""

import json
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from wsss import progress
from wsss.progress import duration

__all__ = ["Waiting"]

log = logging.getLogger(__name__)


class Waiting:
    """Shows how far tasks are, of what they note in files of their own.

    Args:
        title: what is done.
        files: where each task notes how far it is; see `wsss.progress.track`.
    """

    def __init__(self, title: str, files: Sequence[Path]) -> None:
        self._title, self._files = title, files
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[more]}"),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._bar = self._progress.add_task(title, total=None, more="")
        self._shown = self._started = time.monotonic()
        self._at_start: int | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, running: Collection[Path], states: Mapping[str, int]) -> None:
        """Show how far all are.

        Args:
            running: the files of tasks that are not done.
            states: how many tasks are in which state, such as {"running": 3}.
        """
        now = time.monotonic()
        if self._progress.disable and now - self._shown < progress.EVERY:
            return
        self._shown = now
        known = {file: note for file in self._files if (note := _read(file))}
        done, total = _sums(self._files, known)
        if self._at_start is None and known:  # of tasks that ran before there is no time to know
            self._at_start, self._started = done, now
        seconds = now - self._started
        rate = (done - (self._at_start or 0)) / seconds if seconds > 0 else 0.0
        left = f"{duration((total - done) / rate)} left" if rate > 0 and total > done else ""
        at = [known[file] for file in self._files if file in running and file in known]
        what = str(at[0]["what"]) if len(self._files) == 1 and at else ""
        parts = [f"{count} {state}" for state, count in states.items() if count]
        more = ", ".join(filter(None, [what, f"{rate:.1f}/s" if rate > 0 else "", left, *parts]))
        if self._progress.disable:
            log.info("%s: %d of %s done  %s", self._title, done, total or "?", more)
        else:
            self._progress.update(self._bar, completed=done, total=total or None, more=more)


def _sums(files: Sequence[Path], known: Mapping[Path, Mapping[str, Any]]) -> tuple[int, int]:
    """How much is done, and how much there is: of tasks that have not begun, as much as others."""
    done = sum(int(note["done"]) for note in known.values())
    total = sum(int(note["total"]) for note in known.values())
    waiting = len(files) - len(known)
    return done, total + (waiting * total // len(known) if known else 0)


def _read(file: Path) -> dict[str, Any]:
    try:
        note = json.loads(file.read_text(encoding="utf-8"))
        return note if {"done", "total", "what"} <= set(note) else {}
    except (OSError, ValueError, TypeError):  # it has not begun
        return {}
