"""A contact sheet: rows of small images, each row below its title."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from wsss.artifacts import atomic_path
from wsss.report.lettering import fitting, font

__all__ = ["COLUMNS", "draw_contact_sheet", "thumbnail"]

COLUMNS = 8
"""Images of a row."""

# all in pixels
CELL = (112, 144)  # height, width
GAP = 6
HEAD = 26
INK, EDGE = (32, 32, 32), (225, 225, 225)


def thumbnail(image: Image.Image) -> Image.Image:
    """A picture of at most the size of a cell, its sides in proportion, as RGB."""
    scale = min(CELL[0] / image.height, CELL[1] / image.width)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def draw_contact_sheet(out: Path, rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> None:
    """Write rows of pictures as one PNG, atomically; the same input gives the same bytes.

    Args:
        out: the PNG.
        rows: the title of each, and its pictures as `thumbnail` gives them, at most `COLUMNS`.
    """
    width = GAP + COLUMNS * (CELL[1] + GAP)
    canvas = Image.new("RGB", (width, GAP + max(1, len(rows)) * (HEAD + CELL[0] + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for at, (title, pictures) in enumerate(rows):
        top = GAP + at * (HEAD + CELL[0] + GAP)
        draw.line((GAP, top, width - GAP, top), EDGE)
        draw.text((GAP, top + 4), fitting(title, width - 2 * GAP, 14), INK, font(14))
        for column, picture in enumerate(pictures[:COLUMNS]):
            left = GAP + column * (CELL[1] + GAP) + (CELL[1] - picture.width) // 2
            canvas.paste(picture, (left, top + HEAD + (CELL[0] - picture.height) // 2))
    with atomic_path(out) as temporary:
        canvas.save(temporary, format="PNG", compress_level=6)
