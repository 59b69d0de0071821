"""One progress bar for all long work: rate and time left on a terminal, silence elsewhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
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

__all__ = ["track"]

Item = TypeVar("Item")


class _Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


def track(
    items: Iterable[Item], description: str, total: int | None = None, size: int = 1
) -> Iterator[Item]:
    """Yield `items` beside a progress bar.

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
