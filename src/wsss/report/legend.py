"""What the colours of a picture mean."""

from collections.abc import Sequence

from PIL import ImageDraw

from wsss.report.lettering import fitting, font
from wsss.report.overlays import COLOURS

__all__ = ["Legend"]

# all in pixels
GAP, LINE, SWATCH, TEXT = 6, 24, 14, 13
BESIDE = 6  # from a swatch to its name
APART = 18  # from a name to the next swatch
INK, FAINT = (32, 32, 32), (120, 120, 120)


class Legend:
    """Swatches and names of classes, in lines.

    Args:
        classes: ids and names.
        width: pixels that there are.

    Attributes:
        height: pixels that it takes.
    """

    def __init__(self, classes: Sequence[tuple[int, str]], width: int) -> None:
        self._lines: list[list[tuple[int, int, str]]] = []
        x = width
        for class_id, name in classes:
            name = fitting(name, width - 2 * GAP - SWATCH - BESIDE, TEXT)
            needed = SWATCH + BESIDE + int(font(TEXT).getlength(name)) + APART
            if x + needed > width:
                self._lines.append([])
                x = GAP
            self._lines[-1].append((x, class_id, name))
            x += needed
        self.height = len(self._lines) * LINE

    def draw(self, draw: ImageDraw.ImageDraw, top: int) -> None:
        """Draw it from a row of pixels on."""
        for line, entries in enumerate(self._lines):
            y = top + line * LINE
            for x, class_id, name in entries:
                box = (x, y + 2, x + SWATCH, y + 2 + SWATCH)
                draw.rectangle(box, tuple(COLOURS[class_id].tolist()), FAINT)
                draw.text((x + SWATCH + BESIDE, y), name, INK, font(TEXT))
