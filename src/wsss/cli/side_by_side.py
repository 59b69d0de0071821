"""Metrics as rows, and what is compared as columns; the other way round where that fits better."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["best_columns", "markdown", "print_side_by_side"]

_HIGH = {"iou", "dice", "accuracy", "precision", "recall", "f1", "map", "coverage"}
_OF_CLASS = re.compile(r"(?<=[/_]iou)/|(?<=_share)/|(?<=precision)/|(?<=recall)/")
"""What stands between the name of a metric and that of a class, which may have any words."""
_LOW = {"loss", "fp", "fn", "error", "skipped", "alarms"}

Rows = Mapping[str, Sequence[float | None]]


def best_columns(key: str, values: Sequence[float | None]) -> set[int]:
    """The columns with the best value; none where all are equal or no order is known.

    Example:
        >>> best_columns("evaluate_cams/val/mean_iou", [0.4, None, 0.5])
        {2}
        >>> best_columns("evaluate_cams/threshold", [0.4, 0.5])
        set()
        >>> best_columns("evaluate_cams/val/iou/metal_loss", [0.4, 0.5])  # a class
        {1}
    """
    words = set(re.split(r"[/_.\- ]", _OF_CLASS.split(key)[0]))
    held = [value for value in values if value is not None]
    if len(set(held)) < 2 or "threshold" in words or not words & (_HIGH | _LOW):
        return set()
    best = min(held) if words & _LOW else max(held)
    return {index for index, value in enumerate(values) if value == best}


def markdown(columns: Sequence[str], rows: Rows) -> str:
    """Write a table in Markdown, the best of each row in bold."""
    lines = [["metric", *columns], ["---", *("---:" for _ in columns)]]
    for key, values in rows.items():
        best = best_columns(key, values)
        cells = [_text(value) for value in values]
        lines.append([key, *(f"**{c}**" if i in best else c for i, c in enumerate(cells))])
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def print_side_by_side(columns: Sequence[str], rows: Rows) -> None:
    """Print a table that fits the terminal with headings whole, the best of each row in bold.

    Where the columns do not fit, metrics become columns; where neither does, there are several
    tables.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal and console.width < _WIDE:
        console.width = _WIDE  # a file or a pipe has no width to keep to
    whole = _table(columns, rows)
    turned = _turned(columns, rows)
    if _width(whole, console) <= console.width:
        console.print(whole)
    elif _width(turned, console) <= console.width:
        console.print(turned)
    else:
        for at, part in enumerate(_parts(columns, rows, console)):
            if at:
                console.print()
            console.print(part)


_WIDE = 200


def _parts(columns: Sequence[str], rows: Rows, console: "Console") -> "Iterator[Table]":
    """Tables of as many columns as fit, at least one each."""
    start = 0
    while start < len(columns):
        stop = start + 1
        part = _some(columns, rows, start, stop)
        while stop < len(columns):
            wider = _some(columns, rows, start, stop + 1)
            if _width(wider, console) > console.width:
                break
            part, stop = wider, stop + 1
        yield part
        start = stop


def _some(columns: Sequence[str], rows: Rows, start: int, stop: int) -> "Table":
    best = {key: best_columns(key, values) for key, values in rows.items()}
    return _table(
        columns[start:stop],
        {key: values[start:stop] for key, values in rows.items()},
        {key: {at - start for at in found} for key, found in best.items()},
    )


def _width(table: "Table", console: "Console") -> int:
    """The least width at which no word is broken."""
    return table.__rich_measure__(console, console.options.update(max_width=10_000)).minimum


def _table(
    columns: Sequence[str], rows: Rows, best: Mapping[str, set[int]] | None = None
) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("metric", overflow="fold")
    for heading in columns:
        table.add_column(Text(heading), justify="right", overflow="fold")
    for key, values in rows.items():
        marked = best_columns(key, values) if best is None else best[key]
        table.add_row(Text(key), *(_cell(value, at in marked) for at, value in enumerate(values)))
    return table


def _turned(columns: Sequence[str], rows: Rows) -> "Table":
    """The same with a line for each of what is compared."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    for key in rows:  # a heading may be broken at its slashes
        table.add_column(Text(key.replace("/", "/ ")), justify="right", overflow="fold")
    best = [best_columns(key, values) for key, values in rows.items()]
    for at, heading in enumerate(columns):
        cells = [
            _cell(values[at], at in marked)
            for values, marked in zip(rows.values(), best, strict=True)
        ]
        table.add_row(Text(heading), *cells)
    return table


def _cell(value: float | None, is_best: bool) -> "Text":
    from rich.text import Text

    return Text(_text(value), style="bold green" if is_best else "")


def _text(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
