"""Pictures of the page: maps class by class, and masks."""

from PIL import Image

from wsss.api import Maps, Mask
from wsss.api.drawing import cells_of

__all__ = ["draw_maps", "draw_mask"]


def draw_maps(maps: Maps) -> Image.Image:
    """The image, and the map of each class over it."""
    return cells_of(maps.cells(), [])


def draw_mask(mask: Mask) -> Image.Image:
    """The mask over its image, and below it what the colours mean."""
    shares = mask.shares
    legend = [(number, f"{name} {shares[name]:.0%}") for number, name in mask.legend()]
    title = "" if mask.threshold is None else f"above {mask.threshold:g}"
    _, (_, over) = mask.cells()
    return cells_of([(title, over)], legend)
