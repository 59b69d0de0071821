"""Masks as evaluation reads them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.evaluate import read_ground_truth


def saved(path: Path, values: list[list[int]]) -> Path:
    Image.fromarray(np.array(values, np.uint8)).save(path)
    return path


def test_ids_come_back_not_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 255]], np.uint8), mode=None)
    image.putpalette([9, 9, 9] * 256)  # all ids look the same
    image.save(tmp_path / "mask.png")
    assert read_ground_truth(tmp_path / "mask.png", (1, 3), 1).tolist() == [[0, 1, 255]]


def test_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a b.png", [[0, 1, 1, 0], [0, 1, 1, 0]])
    with pytest.raises(
        ValueError, match=r"a b\.png has 2 x 4 .* its image has\s+1 x 2.* interpolation"
    ):
        read_ground_truth(path, (1, 2), 1)


@pytest.mark.parametrize(
    ("size", "advice"), [((2, 3), "turn it by 90 degrees"), ((9, 2), "draw it again on this one")]
)
def test_no_size_is_mended_by_what_ruins_the_mask(tmp_path, size, advice):
    """Resizing would stretch a mask that lies on its side, or one of another image."""
    path = saved(tmp_path / "a.png", [[0, 1], [0, 1], [0, 1]])
    with pytest.raises(ValueError, match=advice) as found:
        read_ground_truth(path, size, 1)
    assert "resize" not in str(found.value)


def test_unknown_values_are_listed_beside_the_rule(tmp_path: Path) -> None:
    path = saved(tmp_path / "mask.png", [[0, 3, 7, 255]])
    with pytest.raises(
        ValueError, match=r"mask\.png holds the values 3, 7; .* 1\.\.2 .* map other"
    ):
        read_ground_truth(path, (1, 4), 2)
    assert read_ground_truth(path, (1, 4), 7).tolist() == [[0, 3, 7, 255]]
