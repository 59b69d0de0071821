"""Curves over thresholds, as a picture."""

from pathlib import Path

import numpy as np
from PIL import Image

from wsss.report import draw_curve
from wsss.report.curves import INK, LINES, PLOT, SIZE
from wsss.report.overlays import COLOURS


def at(picture: np.ndarray, x: float, y: float) -> list[int]:
    left, top, right, bottom = PLOT
    row, column = round(bottom - y * (bottom - top)), round(left + x * (right - left))
    return picture[row, column].tolist()


def test_a_line_goes_through_its_values_and_breaks_where_there_are_none(tmp_path: Path) -> None:
    table, out = tmp_path / "curve.csv", tmp_path / "new/curve.png"
    table.write_text("threshold,val,train\n0,0.5,\n0.25,0.5,\n0.5,,\n0.75,0.9,\n1,0.9,\n")
    draw_curve(out, table, "threshold", ["val", "train", "unknown"], mark=0.55)
    picture = np.asarray(Image.open(out))
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    colour = COLOURS[LINES[0]].tolist()
    near = [
        np.abs(np.subtract(at(picture, x, y), colour)).max() for x, y in ((0.1, 0.5), (0.9, 0.9))
    ]
    assert max(near) < 60
    assert min(at(picture, 0.45, 0.55)) > 200  # nothing between 0.25 and 0.75
    assert max(at(picture, 0.55, 0.33)) < 200  # the mark
    first = out.read_bytes()
    draw_curve(out, table, "threshold", ["val", "train", "unknown"], mark=0.55)
    assert out.read_bytes() == first
    assert INK in {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}  # the legend


def test_a_table_without_rows_is_an_empty_picture(tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("threshold,val\n")
    draw_curve(tmp_path / "curve.png", tmp_path / "curve.csv", "threshold", ["val"])
    assert Image.open(tmp_path / "curve.png").size == SIZE
