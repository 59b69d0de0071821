"""Text in pictures."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

__all__ = ["fitting", "font"]


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Load a font that has Latin, Greek and Cyrillic letters; `size` in pixels."""
    found = find_spec("matplotlib")  # brings the font; importing it would take longer than drawing
    if found is None or found.origin is None:
        raise ModuleNotFoundError("no font: install matplotlib", name="matplotlib")
    file = Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(str(file), size)


def fitting(text: str, width: float, size: int) -> str:
    """Shorten a text from its end until it is at most `width` pixels wide."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
