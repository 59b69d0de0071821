"""Results as pictures: cells side by side below their titles, and what the colours mean."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from wsss.artifacts import palette
from wsss.report.lettering import fitting, font

__all__ = ["CELL", "cells_of", "png_bytes", "shown_size"]

# all in pixels
CELL = (300, 400)  # height, width: what a picture just fits into
GAP, HEAD, LINE, SWATCH = 6, 24, 22, 13
INK, FAINT = (32, 32, 32), (120, 120, 120)
PER_ROW = 4


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) in which an image is drawn: of its shape, as large as a cell admits.

    Example:
        >>> shown_size((600, 600)), shown_size((30, 80))
        ((300, 300), (150, 400))
    """
    scale = min(CELL[0] / size[0], CELL[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def cells_of(
    cells: Sequence[tuple[str, np.ndarray]], classes: Sequence[tuple[int, str]]
) -> Image.Image:
    """Lay pictures of one size out in rows, with a legend below.

    Args:
        cells: the title of each, and (H, W, 3) uint8.
        classes: what the legend names, as class ids and names.
    """
    height, width = cells[0][1].shape[:2]
    columns = min(len(cells), PER_ROW)
    total = GAP + columns * (width + GAP)
    legend = _legend(classes, total)
    rows = -(-len(cells) // columns)
    bottom = rows * (HEAD + height + GAP)
    canvas = Image.new("RGB", (total, bottom + len(legend) * LINE + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for at, (title, pixels) in enumerate(cells):
        row, column = divmod(at, columns)
        left, top = GAP + column * (width + GAP), row * (HEAD + height + GAP)
        draw.text((left, top + 5), fitting(title, width, 13), INK, font(13))
        canvas.paste(Image.fromarray(pixels), (left, top + HEAD))
    colours = palette()
    for line, entries in enumerate(legend):
        y = bottom + line * LINE
        for x, class_id, name in entries:
            box = (x, y + 2, x + SWATCH, y + 2 + SWATCH)
            draw.rectangle(box, tuple(colours[class_id].tolist()), FAINT)
            draw.text((x + SWATCH + 6, y), name, INK, font(12))
    return canvas


def png_bytes(picture: Image.Image) -> bytes:
    """The bytes of its PNG."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _legend(classes: Sequence[tuple[int, str]], width: int) -> list[list[tuple[int, int, str]]]:
    """Entries broken into lines; each gets its x."""
    lines: list[list[tuple[int, int, str]]] = [[]]
    x = GAP
    for class_id, name in classes:
        name = fitting(name, width - 2 * GAP - SWATCH - 6, 12)
        needed = SWATCH + 6 + int(font(12).getlength(name)) + 16
        if lines[-1] and x + needed > width:
            lines.append([])
            x = GAP
        lines[-1].append((x, class_id, name))
        x += needed
    return [line for line in lines if line]
