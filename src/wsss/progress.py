"""What is shown of long work: a bar on a terminal, and a line a minute elsewhere."""

import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["EVERY", "duration", "one_bar", "show_log", "track"]

log = logging.getLogger(__name__)

Item = TypeVar("Item")

EVERY = 60.0
"""Seconds between two lines, off a terminal."""


class _Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


def show_log(level: int = logging.INFO) -> None:
    """Print what the program logs, plainly and to stderr; of libraries warnings alone.

    Lines are wrapped on a terminal, and nowhere else.

    Args:
        level: from which on the program's own are printed.
    """
    console = Console(stderr=True)
    handler: logging.Handler = logging.StreamHandler()
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    for own in ("wsss", "__main__"):
        logging.getLogger(own).setLevel(level)
    for talkative in ("lightning_fabric", "mlflow"):  # which set a level of their own
        logging.getLogger(talkative).setLevel(logging.WARNING)
    # Lightning, on a machine with Slurm, of what runs outside of a job
    warnings.filterwarnings("ignore", message="The `srun` command is available")


def track(
    items: Iterable[Item],
    description: str,
    total: int | None = None,
    size: int | Callable[[Item], int] = 1,
    *,
    stays: bool = True,
) -> Iterator[Item]:
    """Yield `items` beside a progress bar with rate and time left; off a terminal a line a minute.

    A task notes how far it is in a file, which the process that waits for it reads. Within
    `one_bar` that one goes on.

    Args:
        items: what is worked through.
        description: what is being done, such as "CAMs".
        total: how many units there are; None asks len(items).
        size: units an item stands for, such as the images of a batch; or what tells them.
        stays: whether the bar is seen when all is done.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items) * (1 if callable(size) else size)  # type: ignore[arg-type]
    with nullcontext(_shared[-1]) if _shared else _bar(description, total, stays) as bar:
        for item in items:
            yield item
            bar.advance(size(item) if callable(size) else size)


@contextmanager
def one_bar(description: str, total: int) -> Iterator["_Bar"]:
    """Let each `track` within go on with one bar, as of work that is done part by part.

    Args:
        description: what is being done.
        total: units of all parts; `_Bar.expect` tells of what proves to be done already.
    """
    with _bar(description, total, stays=True) as bar:
        _shared.append(bar)
        try:
            yield bar
        finally:
            _shared.remove(bar)


def duration(seconds: float) -> str:
    """A time in words.

    Example:
        >>> duration(7500), duration(59), duration(61)
        ('2 h 5 min', '59 s', '1 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, rest = divmod(int(seconds) // 60, 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"


@contextmanager
def _bar(description: str, total: int | None, stays: bool) -> Iterator["_Bar"]:
    """A bar on a terminal, a line a minute elsewhere, and what a task notes; see `track`."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    shown = console.is_terminal
    with (
        Progress(*columns, console=console, disable=not shown, transient=not stays) as progress,
        _Lines(description, None if shown else total) as lines,
    ):
        _note.begin(description, total or 0)
        yield _Bar(progress, progress.add_task(description, total=total), lines, total)
        _note.write()


@dataclass
class _Bar:
    """How far work is.

    Attributes:
        total: units; None where nobody knows.
        done: units.
    """

    _progress: Progress
    _task: TaskID
    _lines: "_Lines"
    total: int | None
    done: int = 0

    def advance(self, units: int) -> None:
        """Say that further units are done."""
        self.done += units
        self._progress.advance(self._task, units)
        self._lines.done = self.done
        _note.advance(units)

    def expect(self, total: int) -> None:
        """Say that there are `total` units, and not as many as was thought."""
        _note.expect(total - (self.total or 0))
        self.total = total
        self._progress.update(self._task, total=total)
        self._lines.expect(total)


_shared: list[_Bar] = []
"""Bars that further work goes on with; the last one counts."""


class _Lines:
    """Logs a line a minute, from a thread, since one item may take longer.

    Args:
        what: is done.
        total: units; None logs nothing.
    """

    def __init__(self, what: str, total: int | None) -> None:
        self.done = 0
        self._what, self._total = what, total
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def expect(self, total: int) -> None:
        """Let it be so many units, unless nothing is logged."""
        if self._total is not None:
            self._total = total

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._total is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(EVERY):
            total = self._total or 0
            rate = self.done / (time.monotonic() - self._started)
            parts = [f"{self.done} of {total}"]
            if rate > 0:
                parts += [f"{rate:.1f}/s", f"{duration(max(total - self.done, 0) / rate)} left"]
            log.info("%s: %s", self._what, ", ".join(parts))


class _Note:
    """How far a task is, in the file that WSSS_PROGRESS names; of several ranks, the first."""

    def __init__(self) -> None:
        self._what, self._done, self._total = "", 0, 0
        self._written = 0.0

    def begin(self, what: str, total: int) -> None:
        """Note that further work begins."""
        self._what = what
        self._total += total
        self.write()

    def advance(self, size: int) -> None:
        """Note what is done, once a second."""
        self._done += size
        if time.monotonic() - self._written > 1:
            self.write()

    def expect(self, further: int) -> None:
        """Note that there are further units, or fewer."""
        self._total += further

    def write(self) -> None:
        """Write it down."""
        name = os.environ.get("WSSS_PROGRESS")
        if not name or os.environ.get("RANK", "0") != "0":
            return
        self._written = time.monotonic()
        path = Path(name)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        note = {"what": self._what, "done": min(self._done, self._total), "total": self._total}
        try:
            temporary.write_text(json.dumps(note))
            os.replace(temporary, path)
        except OSError:  # it only shows what others can do without
            temporary.unlink(missing_ok=True)


_note = _Note()
