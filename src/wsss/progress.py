"""What a terminal shows of long work: log lines, and one kind of progress bar."""

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["show_log", "track"]

Item = TypeVar("Item")


class _Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


def show_log() -> None:
    """Print what the program logs, plainly and to stderr; of noisy libraries warnings alone."""
    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=console, show_path=False, show_time=False, show_level=False)],
    )
    for noisy in ("alembic", "mlflow", "timm", "httpx", "lightning_fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def track(
    items: Iterable[Item], description: str, total: int | None = None, size: int = 1
) -> Iterator[Item]:
    """Yield `items` beside a progress bar with rate and time left; silent off a terminal.

    Args:
        items: what is worked through.
        description: what is being done, such as "CAMs".
        total: how many units there are; None asks len(items).
        size: units an item stands for, such as the images of a batch.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items) * size  # type: ignore[arg-type]
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.advance(task, size)
