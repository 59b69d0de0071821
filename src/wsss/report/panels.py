"""panel.png: the same few images in every run, from the input over CAMs to the ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wsss.artifacts import (
    IGNORE_INDEX,
    Sample,
    ScoreMap,
    atomic_path,
    check_label_map,
    palette,
    read_image,
    read_label_png,
    read_score_map,
)
from wsss.checks import check_image, check_shape
from wsss.evaluate.ground_truth import read_ground_truth

__all__ = [
    "Column",
    "choose_samples",
    "draw_panel",
    "overlay_mask",
    "overlay_scores",
]

# all in pixels
CELL = (168, 216)  # height, width
DRAWN = (672, 864)  # larger images are made smaller before anything is laid over them
GAP = 6
HEAD = 30
CAPTION = 24
LINE = 24  # of the legend
SWATCH = 14
INK, FAINT = (32, 32, 32), (120, 120, 120)
_COLOURS = palette()


@dataclass(frozen=True)
class Column:
    """One column of a panel.

    Attributes:
        title: what stands above it.
        kind: scores (.npz), mask (.png), or ground_truth, whose outline all columns show.
        folder: where the files are, named after the samples (ground truth: as the manifest
            says). A file that is missing leaves its cell empty.
        threshold: of scores; given one, the classes above it are shown instead, as a mask.
    """

    title: str
    kind: Literal["scores", "mask", "ground_truth"]
    folder: Path
    threshold: float | None = None

    def file(self, sample: Sample) -> Path | None:
        """The sample's file, None when it is not there."""
        name = f"{sample.name}{'.npz' if self.kind == 'scores' else '.png'}"
        if self.kind == "ground_truth":
            if sample.mask is None:
                return None
            name = sample.mask
        path = self.folder / name
        return path if path.is_file() else None


def choose_samples(samples: Sequence[Sample], number: int) -> list[Sample]:
    """Pick images for a panel by their tags alone, so that every run shows the same ones.

    Each next image is the one that adds most classes not seen yet, then most tags not seen
    twice, and so on; the first by order on ties. The result keeps the given order.
    """
    seen: dict[int, int] = {}
    left = list(range(len(samples)))
    chosen: list[int] = []
    while left and len(chosen) < number:
        gain = [sum(2.0 ** (-8 * seen.get(one, 0)) for one in samples[at].class_ids) for at in left]
        best = left.pop(int(np.argmax(gain)))
        chosen.append(best)
        for one in samples[best].class_ids:
            seen[one] = seen.get(one, 0) + 1
    return [samples[at] for at in sorted(chosen)]


def draw_panel(
    out: Path,
    images: Path,
    samples: Sequence[Sample],
    columns: Sequence[Column],
    class_names: Sequence[str],
) -> None:
    """Draw samples as rows, and columns beside the images; the same input gives the same bytes.

    A column none of whose files exists is left out. With a ground truth column, the
    outline of the truth is drawn in white over every column but the images.

    Args:
        out: the PNG to write, atomically.
        images: the folder of prepared images.
        samples: one row each.
        columns: left to right.
        class_names: K names, without the background.
    """
    width = CELL[1]
    shown = [one for one in columns if any(one.file(sample) for sample in samples)]
    titles = ["input", *(column.title for column in shown)]
    total_width = GAP + max(len(titles), 3) * (width + GAP)
    ids = sorted({class_id for sample in samples for class_id in sample.class_ids})
    legend = _legend(
        [*((one, class_names[one - 1]) for one in ids), (IGNORE_INDEX, "ignored")], total_width
    )
    rows = [_cells(images, sample, shown, len(class_names)) for sample in samples]
    heights = [max(cell.height for cell in cells if cell is not None) for cells in rows]
    bottom = HEAD + sum(heights) + len(rows) * CAPTION
    canvas = Image.new("RGB", (total_width, bottom + len(legend) * LINE + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for at, title in enumerate(titles):
        draw.text((GAP + at * (width + GAP), 7), _fitting(title, width, 15), INK, _font(15))
    top = HEAD
    for sample, cells, height in zip(samples, rows, heights, strict=True):
        for at, cell in enumerate(cells):
            if cell is not None:
                canvas.paste(cell, (GAP + at * (width + GAP) + (width - cell.width) // 2, top))
        tags = ", ".join(class_names[one - 1] for one in sample.class_ids) or "no tag"
        caption = _fitting(f"{sample.name}  ({tags})", total_width - 2 * GAP, 11)
        draw.text((GAP, top + height + 2), caption, FAINT, _font(11))
        top += height + CAPTION
    for line, entries in enumerate(legend):
        y = bottom + line * LINE
        for x, class_id, name in entries:
            draw.rectangle(
                (x, y + 2, x + SWATCH, y + 2 + SWATCH), tuple(_COLOURS[class_id].tolist()), FAINT
            )
            draw.text((x + SWATCH + 6, y), name, INK, _font(13))
    with atomic_path(out) as temporary:
        canvas.save(temporary, format="PNG", compress_level=6)


def _cells(
    images: Path, sample: Sample, columns: Sequence[Column], num_fg_classes: int
) -> list[Image.Image | None]:
    """The image, then what each column shows of it; None where there is no file."""
    image = _drawn(read_image(images / sample.image), Image.Resampling.LANCZOS)
    pictures: list[np.ndarray | None] = [image]
    outline = None
    for column in columns:
        path = column.file(sample)
        if path is None:
            pictures.append(None)
        elif column.kind == "scores":
            score_map = replace(read_score_map(path), size=image.shape[:2])
            if column.threshold is None:
                pictures.append(overlay_scores(image, score_map))
            else:
                pictures.append(overlay_mask(image, _above(score_map, column.threshold)))
        else:
            if column.kind == "mask":
                mask = read_label_png(path)
            else:
                mask = read_ground_truth(path, sample.size, num_fg_classes)
                outline = _outline(np.asarray(_fitted(mask, Image.Resampling.NEAREST)))
            pictures.append(overlay_mask(image, _drawn(mask, Image.Resampling.NEAREST)))
    cells: list[Image.Image | None] = []
    for at, picture in enumerate(pictures):
        cell = None if picture is None else _fitted(picture, Image.Resampling.LANCZOS)
        if cell is not None and at > 0 and outline is not None:
            pixels = np.array(cell)
            pixels[outline] = 255
            cell = Image.fromarray(pixels)
        cells.append(cell)
    return cells


def _above(score_map: ScoreMap, threshold: float) -> np.ndarray:
    """(H, W) uint8: the class with the highest score where that exceeds the threshold, else 0."""
    if not len(score_map.class_ids):
        return np.zeros(score_map.size, np.uint8)
    scores = score_map.full_scores()
    winner = score_map.class_ids[scores.argmax(axis=0)]
    mask: np.ndarray = np.where(scores.max(axis=0) > threshold, winner, 0)
    return mask


def _fitted(
    picture: np.ndarray, resample: Image.Resampling, into: tuple[int, int] = CELL
) -> Image.Image:
    """Resize a picture so that it just fits into (height, width)."""
    height, width = picture.shape[:2]
    scale = min(into[0] / height, into[1] / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(picture).resize(size, resample)


def _drawn(picture: np.ndarray, resample: Image.Resampling) -> np.ndarray:
    """A picture at the size in which it is drawn on."""
    if picture.shape[0] <= DRAWN[0] and picture.shape[1] <= DRAWN[1]:
        return picture
    return np.asarray(_fitted(picture, resample, DRAWN))


def _outline(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: foreground pixels beside another class; ignored counts as background."""
    padded = np.pad(np.where(mask == IGNORE_INDEX, 0, mask), 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    outline: np.ndarray = (centre > 0) & np.any([side != centre for side in sides], axis=0)
    return outline


def overlay_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Lay the VOC colours over an image, whose own colour is faded.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 0 background, 1..K, 255 ignored (shown nearly white).

    Returns:
        (H, W, 3) uint8 RGB.
    """
    check_image("image", image)
    check_shape("mask", mask.shape, image.shape[:2])
    check_label_map("mask", mask)
    opacity = np.where(mask == 0, 0, 0.65)[..., None]
    return _rounded(_faded(image) * (1 - opacity) + _COLOURS[mask] * opacity)


def overlay_scores(image: np.ndarray, score_map: ScoreMap) -> np.ndarray:
    """Lay each pixel's best score over an image, as that much of its class's VOC colour.

    Args:
        image: (H, W, 3) uint8 RGB.
        score_map: of the same image.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    check_image("image", image)
    if not len(score_map.class_ids):
        return _rounded(_faded(image))
    check_shape("score map", score_map.size, image.shape[:2])
    scores = score_map.full_scores()
    best = scores.max(axis=0)[..., None]
    colour = _COLOURS[score_map.class_ids[scores.argmax(axis=0)]]
    return _rounded(_faded(image) * (1 - 0.85 * best) + colour * 0.85 * best)


def _faded(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32: most of the colour taken out, so that what lies over it stands out."""
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
    faded: np.ndarray = 0.3 * image + 0.7 * grey[..., None]
    return faded


def _rounded(values: np.ndarray) -> np.ndarray:
    pixels: np.ndarray = np.rint(values).astype(np.uint8)
    return pixels


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path

    # this font has Latin, Greek and Cyrillic letters
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def _fitting(text: str, width: int, size: int) -> str:
    """Shorten a text from its end until it fits."""
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _legend(entries: Sequence[tuple[int, str]], width: int) -> list[list[tuple[int, int, str]]]:
    """Break legend entries into lines; each entry gets its x."""
    lines: list[list[tuple[int, int, str]]] = [[]]
    x = GAP
    for class_id, name in entries:
        name = _fitting(name, width - 2 * GAP - SWATCH - 6, 13)
        needed = SWATCH + 6 + int(_font(13).getlength(name)) + 18
        if lines[-1] and x + needed > width:
            lines.append([])
            x = GAP
        lines[-1].append((x, class_id, name))
        x += needed
    return lines
