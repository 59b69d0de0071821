"""What is expected in a mask travels in its file, and takes nothing from the mask."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from wsss.artifacts import (
    ExpectedPixels,
    pack_folder,
    read_expected,
    read_label_png,
    write_label_png,
)

MASK = np.array([[0, 2, 2], [0, 255, 2]], np.uint8)
EXPECTED = ExpectedPixels({0: 3, 2: 2}, {0: 2, 2: 1})


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_gives_the_mask_and_what_is_expected(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "masks/a/b.png"
    write_label_png(path, MASK, EXPECTED)
    if packed:
        assert pack_folder(tmp_path / "masks") == 1
    assert read_expected(path) == EXPECTED
    np.testing.assert_array_equal(read_label_png(path), MASK)


def test_a_mask_that_says_nothing_keeps_its_bytes(tmp_path: Path) -> None:
    write_label_png(tmp_path / "a.png", MASK)
    write_label_png(tmp_path / "b.png", MASK, None)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert read_expected(tmp_path / "a.png") is None


def test_arrays_have_a_place_for_each_class() -> None:
    shown, correct = EXPECTED.arrays(4)
    assert shown.tolist() == [3, 0, 2, 0]
    assert correct.tolist() == [2, 0, 1, 0]


def test_what_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("wsss.expected", '{"shown": 3}')
    Image.fromarray(MASK).save(tmp_path / "a.png", pnginfo=note)
    with pytest.raises(ValueError, match=r"a\.png does not say what is expected .* rerun"):
        read_expected(tmp_path / "a.png")
