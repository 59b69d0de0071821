from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.report.contact_sheet import CELL, COLUMNS, draw_contact_sheet, thumbnail


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (640, 480), (50, 40)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_thumbnail_fits_its_cell_on_one_side_and_keeps_its_shape(size, mode):
    small = thumbnail(Image.new(mode, size, 77))
    assert small.width <= CELL[1] and small.height <= CELL[0]
    assert small.width == CELL[1] or small.height == CELL[0]
    assert np.array(small).tolist()[0][0] == ([77] * 3 if mode == "L" else [77, 0, 0])
    if min(small.size) > 10:
        assert small.width / small.height == pytest.approx(size[0] / size[1], rel=0.1)


def test_rows_lie_below_one_another_and_pictures_side_by_side(tmp_path: Path):
    colours = [(200, at * 20, 0) for at in range(COLUMNS)]
    pictures = [thumbnail(Image.new("RGB", (144, 112), colour)) for colour in colours]
    out = tmp_path / "new/sheet.png"
    draw_contact_sheet(out, [("cat", pictures), ("none", []), ("a long name " * 99, pictures[:2])])
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet)
    for at, colour in enumerate(colours):
        rows, columns = np.nonzero((pixels == colour).all(axis=2))
        assert len(rows) == CELL[0] * CELL[1] * (2 if at < 2 else 1)
        assert columns.min() == 6 + at * (CELL[1] + 6)
    middle = pixels[len(pixels) // 3 + 30 : 2 * len(pixels) // 3 - 10]
    assert (middle == 255).all()
