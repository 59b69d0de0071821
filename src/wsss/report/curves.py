"""curve.png: scores over thresholds, one line per column of a table."""

import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from wsss.artifacts import atomic_path
from wsss.report.lettering import fitting, font
from wsss.report.overlays import COLOURS

__all__ = ["draw_curve"]

# all in pixels
SIZE = (720, 440)  # width, height
PLOT = (52, 34, 700, 400)  # left, top, right, bottom
SCALE = 2  # drawn larger by this, for smooth lines
LINES = (1, 2, 4, 3, 5, 6)  # places in the VOC palette
INK, FAINT, GRID = (32, 32, 32), (120, 120, 120), (225, 225, 225)


def draw_curve(
    out: Path, table: Path, x: str, columns: Sequence[str], mark: float | None = None
) -> None:
    """Draw columns of a CSV file, all values in [0, 1]; the same table gives the same bytes.

    Args:
        out: the PNG to write, atomically.
        table: with a line of headings.
        x: the column of the horizontal axis.
        columns: the lines; those that the table does not have are left out.
        mark: where to draw a vertical line, such as the threshold that was chosen.
    """
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown = [column for column in columns if rows and column in rows[0]]
    image = Image.new("RGB", (SIZE[0] * SCALE, SIZE[1] * SCALE), "white")
    draw = ImageDraw.Draw(image)
    for tick in range(11):
        value, text = tick / 10, f"{tick / 10:.1f}" if tick % 2 == 0 else ""
        draw.line(_line(value, 0, value, 1), GRID, SCALE)
        draw.line(_line(0, value, 1, value), GRID, SCALE)
        draw.text(_place(value, -0.02), text, FAINT, font(12 * SCALE), anchor="ma")
        draw.text(_place(-0.01, value), text, FAINT, font(12 * SCALE), anchor="rm")
    if mark is not None:
        draw.line(_line(mark, 0, mark, 1), FAINT, SCALE)
    left = PLOT[0] * SCALE
    for column, colour_of in zip(shown, LINES, strict=False):
        colour = tuple(COLOURS[colour_of].tolist())
        for piece in _pieces(rows, x, column):
            draw.line(piece, colour, 2 * SCALE, joint="curve")
        text = fitting(column.replace("_", " "), 180 * SCALE, 13 * SCALE)
        draw.line((left, 18 * SCALE, left + 18 * SCALE, 18 * SCALE), colour, 3 * SCALE)
        draw.text((left + 24 * SCALE, 9 * SCALE), text, INK, font(13 * SCALE))
        left += round(font(13 * SCALE).getlength(text)) + 48 * SCALE
    draw.text((PLOT[2] * SCALE, 418 * SCALE), x, INK, font(13 * SCALE), anchor="ra")
    with atomic_path(out) as temporary:
        image.resize(SIZE, Image.Resampling.LANCZOS).save(temporary, format="PNG")


def _pieces(rows: Sequence[dict[str, str]], x: str, column: str) -> list[list[tuple[float, float]]]:
    """The points of a line, broken where values are missing."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for row in rows:
        if row[column]:
            pieces[-1].append(_place(float(row[x]), float(row[column])))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if len(piece) > 1]


def _place(x: float, y: float) -> tuple[float, float]:
    left, top, right, bottom = PLOT
    return SCALE * (left + x * (right - left)), SCALE * (bottom - y * (bottom - top))


def _line(x0: float, y0: float, x1: float, y1: float) -> tuple[float, ...]:
    return (*_place(x0, y0), *_place(x1, y1))
