"""Charts as SVG, in the colours of the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wsss.report.frame import escape

__all__ = ["Line", "bar_chart", "line_chart"]

WIDTH, HEIGHT = 400, 240
LEFT, TOP, RIGHT, BOTTOM = 46, 12, 12, 30  # margins
COLOURS = 6
"""Colours that pages have, `--c1` to `--c6`; further lines are dashed."""


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: what the key says.
        points: x and y, ascending in x.
        mark: where on it a ring stands, such as the value that was chosen; None of none.
    """

    name: str
    points: Sequence[tuple[float, float]]
    mark: tuple[float, float] | None = None


def line_chart(title: str, lines: Sequence[Line], *, x: str, unit: bool = False) -> str:
    """Lines over a common axis, with their key, and the ends of each as text.

    Args:
        title: says what is drawn.
        lines: those without points are left out.
        x: what the horizontal axis is.
        unit: whether both axes go from 0 to 1.

    Returns:
        A `<figure>`; "" where there is nothing to draw.
    """
    shown = [line for line in lines if line.points]
    if not shown:
        return ""
    xs = [point[0] for line in shown for point in line.points]
    ys = [point[1] for line in shown for point in line.points]
    x_range = (0.0, 1.0) if unit else (min(xs), max(xs))
    y_range = (0.0, 1.0) if unit else (min(0.0, *ys), max(ys))
    if x_range[0] == x_range[1]:
        x_range = (x_range[0] - 0.5, x_range[1] + 0.5)
    if y_range[0] == y_range[1]:
        y_range = (y_range[0], y_range[0] + 1)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - x_range[0]) / (x_range[1] - x_range[0])
        up = (point[1] - y_range[0]) / (y_range[1] - y_range[0])
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    parts = []
    for value in _ticks(*y_range):
        _, at = place((x_range[0], value))
        parts.append(f'<line class="grid-line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" '
                     f'y2="{at:.1f}"/><text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">'
                     f"{value:g}</text>")  # fmt: skip
    for value in _ticks(*x_range, whole=not unit):
        at, _ = place((value, y_range[0]))
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{value:g}</text>')
    parts.append(
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM - 6}" text-anchor="end">{escape(x)}</text>'
    )
    key = []
    for at, line in enumerate(shown):
        colour = f"var(--c{at % COLOURS + 1})"
        dash = ' stroke-dasharray="6 3"' if at >= COLOURS else ""
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in map(place, line.points))
        parts.append(f'<polyline points="{path}" fill="none" style="stroke:{colour}" '
                     f'stroke-width="2.2" stroke-linejoin="round"{dash}/>')  # fmt: skip
        if len(line.points) == 1 or line.mark:
            px, py = place(line.mark or line.points[0])
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="5" style="stroke:{colour};'
                         'fill:var(--card)" stroke-width="2.5"/>')  # fmt: skip
        said = f" ({line.mark[1]:.3f} at {line.mark[0]:g})" if line.mark else ""
        key.append(f'<li style="--k:{colour}">{escape(line.name)}{said}</li>')
    spoken = f"{title}: " + "; ".join(
        f"{line.name} goes from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}"
        for line in shown
    )
    return (
        f'<figure class="card"><figcaption>{escape(title)}</figcaption><svg role="img" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{escape(spoken)}">{"".join(parts)}</svg>'
        f'<ul class="key">{"".join(key)}</ul></figure>'
    )


def bar_chart(title: str, bars: Sequence[tuple[str, float, float | None]]) -> str:
    """Bars of values in [0, 1], below one another, with their spread.

    Args:
        title: says what is drawn.
        bars: name, value, and half the width of its spread, or None.

    Returns:
        A `<figure>`; "" without bars.
    """
    if not bars:
        return ""
    row, left, right = 34, 4, 104
    height = row * len(bars) + 6
    width = WIDTH - left - right
    parts = []
    for at, (name, value, spread) in enumerate(bars):
        y = at * row + 18
        end = left + width * min(1.0, max(0.0, value))
        parts.append(
            f'<text x="{left}" y="{y - 5}">{escape(_shortened(name))}</text>'
            f'<rect x="{left}" y="{y}" width="{width}" height="10" rx="5" '
            'style="fill:var(--wash)"/>'
            f'<rect x="{left}" y="{y}" width="{max(1.0, end - left):.1f}" height="10" rx="5" '
            'style="fill:var(--accent)"/>'
        )
        if spread:
            low, high = end - width * spread, end + width * spread
            parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 5}" y2="{y + 5}" '
                         'style="stroke:var(--ink)" stroke-width="2"/>')  # fmt: skip
        text = f"{value:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
        parts.append(f'<text x="{left + width + 8}" y="{y + 9}">{text}</text>')
    spoken = f"{title}: " + "; ".join(f"{name} {value:.3f}" for name, value, _ in bars)
    return (
        f'<figure class="card"><figcaption>{escape(title)}</figcaption><svg role="img" '
        f'viewBox="0 0 {WIDTH} {height}" aria-label="{escape(spoken)}">{"".join(parts)}</svg>'
        "</figure>"
    )


def _shortened(text: str, most: int = 64) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round values between two, four to eight of them where whole numbers allow it.

    Example:
        >>> _ticks(0, 1)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        >>> _ticks(0, 2, whole=True)
        [0.0, 1.0, 2.0]
    """
    rough = (high - low) / 5
    base = 10 ** math.floor(math.log10(rough))
    step = next(base * factor for factor in (1, 2, 5, 10) if base * factor >= rough * 0.999)
    if whole:
        step = max(1.0, step)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) + 0.0 for number in range(first, last + 1)]
