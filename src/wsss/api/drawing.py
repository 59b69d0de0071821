"""Results as pictures: cells side by side below their titles, and what the colours mean."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from wsss.report.legend import INK, Legend
from wsss.report.lettering import fitting, font

__all__ = ["CELL", "cells_of", "png_bytes", "shown_size"]

# all in pixels
CELL = (300, 400)  # height, width: what a picture just fits into
GAP, HEAD = 6, 24
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
    legend = Legend(classes, total)
    rows = -(-len(cells) // columns)
    bottom = rows * (HEAD + height + GAP)
    canvas = Image.new("RGB", (total, bottom + legend.height + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for at, (title, pixels) in enumerate(cells):
        row, column = divmod(at, columns)
        left, top = GAP + column * (width + GAP), row * (HEAD + height + GAP)
        draw.text((left, top + 5), fitting(title, width, 13), INK, font(13))
        canvas.paste(Image.fromarray(pixels), (left, top + HEAD))
    legend.draw(draw, bottom)
    return canvas


def png_bytes(picture: Image.Image) -> bytes:
    """The bytes of its PNG."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()
