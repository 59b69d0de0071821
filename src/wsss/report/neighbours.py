"""neighbours.png: proposals beside the regions of training images that gave them their class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from wsss.artifacts import atomic_path
from wsss.report.lettering import fitting, font
from wsss.segment.retrieval.evidence import Evidence

__all__ = ["draw_neighbours"]

# all in pixels
SIDE = 80  # of a picture
GAP = 6
CAPTION = 28  # two lines
INK, FAINT, AGREES = (32, 32, 32), (120, 120, 120), (0, 128, 0)


def draw_neighbours(out: Path, rows: Sequence[Evidence]) -> None:
    """Draw a row for each proposal: it, then its neighbours from the most similar.

    Below each stand its class and its score or similarity, in green where a neighbour's class is
    the one that won. The same input gives the same bytes.

    Args:
        out: the PNG to write, atomically.
        rows: proposals; without any, the picture says so.
    """
    most = max((len(row.neighbours) for row in rows), default=3)
    step = SIDE + GAP
    size = (GAP + (most + 2) * step, GAP + max(len(rows), 1) * (step + CAPTION))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    if not rows:
        draw.text((GAP, GAP), "no proposal took a class", FAINT, font(13))
    for number, row in enumerate(rows):
        top = GAP + number * (step + CAPTION)
        _cell(canvas, (GAP, top), row.picture, (row.class_name, f"{row.score:.2f}"), INK)
        draw.text((GAP + step, top), fitting(row.image, SIDE, 11), FAINT, font(11))
        for at, found in enumerate(row.neighbours):
            colour = AGREES if found.class_name == row.class_name else INK
            lines = found.class_name, f"{found.similarity:.2f}"
            _cell(canvas, (GAP + (at + 2) * step, top), found.picture, lines, colour)
    with atomic_path(out) as temporary:
        canvas.save(temporary, format="PNG", compress_level=6)


def _cell(
    canvas: Image.Image,
    corner: tuple[int, int],
    picture: np.ndarray,
    lines: tuple[str, str],
    colour: tuple[int, int, int],
) -> None:
    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    canvas.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), corner)
    draw, (x, y) = ImageDraw.Draw(canvas), corner
    for line, text in enumerate(lines):
        draw.text((x, y + SIDE + 13 * line), fitting(text, SIDE, 11), colour, font(11))
