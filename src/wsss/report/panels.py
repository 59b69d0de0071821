"""panel.png: the same few images in every run, from the input over CAMs to the ground truth."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from wsss.artifacts import IGNORE_INDEX, Sample, atomic_path
from wsss.report.cells import CELL, PanelColumn, row_cells
from wsss.report.lettering import fitting, font
from wsss.report.overlays import COLOURS

__all__ = ["draw_panel", "save_cells"]

# all in pixels
GAP = 6
HEAD = 30
CAPTION = 24
LINE = 24  # of the legend
SWATCH = 14
INK, FAINT = (32, 32, 32), (120, 120, 120)


def draw_panel(
    out: Path,
    images: Path,
    samples: Sequence[Sample],
    columns: Sequence[PanelColumn],
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
    shown = [column for column in columns if any(column.file(sample) for sample in samples)]
    titles = ["input", *(column.title for column in shown)]
    total_width = GAP + max(len(titles), 3) * (width + GAP)
    ids = sorted({class_id for sample in samples for class_id in sample.class_ids})
    legend = _legend(
        [*((class_id, class_names[class_id - 1]) for class_id in ids), (IGNORE_INDEX, "ignored")],
        total_width,
    )
    rows = [row_cells(images, sample, shown, len(class_names)) for sample in samples]
    heights = [max(cell.height for cell in cells if cell is not None) for cells in rows]
    bottom = HEAD + sum(heights) + len(rows) * CAPTION
    canvas = Image.new("RGB", (total_width, bottom + len(legend) * LINE + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for at, title in enumerate(titles):
        draw.text((GAP + at * (width + GAP), 7), fitting(title, width, 15), INK, font(15))
    top = HEAD
    for sample, cells, height in zip(samples, rows, heights, strict=True):
        for at, cell in enumerate(cells):
            if cell is not None:
                canvas.paste(cell, (GAP + at * (width + GAP) + (width - cell.width) // 2, top))
        tags = ", ".join(class_names[class_id - 1] for class_id in sample.class_ids) or "no tag"
        caption = fitting(f"{sample.name}  ({tags})", total_width - 2 * GAP, 11)
        draw.text((GAP, top + height + 2), caption, FAINT, font(11))
        top += height + CAPTION
    for line, entries in enumerate(legend):
        y = bottom + line * LINE
        for x, class_id, name in entries:
            draw.rectangle(
                (x, y + 2, x + SWATCH, y + 2 + SWATCH), tuple(COLOURS[class_id].tolist()), FAINT
            )
            draw.text((x + SWATCH + 6, y), name, INK, font(13))
    with atomic_path(out) as temporary:
        canvas.save(temporary, format="PNG", compress_level=6)


def save_cells(
    folder: Path,
    images: Path,
    samples: Sequence[Sample],
    columns: Sequence[PanelColumn],
    num_fg_classes: int,
) -> dict[str, list[str | Path]]:
    """Write what a panel shows as single pictures, for a table of them.

    Args:
        folder: where to write them, as <row>_<column>.png.
        images: the folder of prepared images.
        samples: one row each.
        columns: those none of whose files exists are left out.
        num_fg_classes: K.

    Returns:
        The names of the images as "image", their pictures as "input", and the pictures of each
        column by its title, without what stands behind a colon. A missing one is white.
    """
    shown = [column for column in columns if any(column.file(sample) for sample in samples)]
    titles = ["input", *(column.title.partition(":")[0] for column in shown)]
    table: dict[str, list[str | Path]] = {"image": [sample.name for sample in samples]}
    for row, sample in enumerate(samples):
        cells = row_cells(images, sample, shown, num_fg_classes)
        for at, (title, cell) in enumerate(zip(titles, cells, strict=True)):
            file = folder / f"{row}_{at}.png"
            (cell or Image.new("RGB", CELL[::-1], "white")).save(file)
            table.setdefault(title, []).append(file)
    return table


def _legend(entries: Sequence[tuple[int, str]], width: int) -> list[list[tuple[int, int, str]]]:
    """Break legend entries into lines; each entry gets its x."""
    lines: list[list[tuple[int, int, str]]] = [[]]
    x = GAP
    for class_id, name in entries:
        name = fitting(name, width - 2 * GAP - SWATCH - 6, 13)
        needed = SWATCH + 6 + int(font(13).getlength(name)) + 18
        if lines[-1] and x + needed > width:
            lines.append([])
            x = GAP
        lines[-1].append((x, class_id, name))
        x += needed
    return lines
