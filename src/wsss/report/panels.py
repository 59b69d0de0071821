"""panel.png: the same few images in every run, from the input over CAMs to the ground truth."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from wsss.artifacts import IGNORE_INDEX, Sample, atomic_path
from wsss.report.cells import CELL, PanelColumn, row_cells
from wsss.report.legend import FAINT, INK, Legend
from wsss.report.lettering import fitting, font

__all__ = ["draw_panel", "save_cells"]

# all in pixels
GAP = 6
HEAD = 30
CAPTION = 24


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
    legend = Legend(
        [*((class_id, class_names[class_id - 1]) for class_id in ids), (IGNORE_INDEX, "ignored")],
        total_width,
    )
    rows = [row_cells(images, sample, shown, len(class_names)) for sample in samples]
    heights = [max(cell.height for cell in cells if cell is not None) for cells in rows]
    bottom = HEAD + sum(heights) + len(rows) * CAPTION
    canvas = Image.new("RGB", (total_width, bottom + legend.height + GAP), "white")
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
    legend.draw(draw, bottom)
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
