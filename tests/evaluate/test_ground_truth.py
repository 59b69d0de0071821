from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import read_label_png
from wsss.evaluate import check_mask, read_ground_truth
from wsss.evaluate.ground_truth import map_mask_values


def saved(path: Path, values: list[list[int]]) -> Path:
    Image.fromarray(np.array(values, np.uint8)).save(path)
    return path


def test_ids_come_back_not_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 255]], np.uint8), mode=None)
    image.putpalette([9, 9, 9] * 256)  # all ids look the same
    image.save(tmp_path / "mask.png")
    assert read_ground_truth(tmp_path / "mask.png", (1, 3), 1).tolist() == [[0, 1, 255]]


def test_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a b.png", [[0, 1], [0, 1], [0, 1]])
    with pytest.raises(
        ValueError, match=r"a b\.png has 3 x 2 .* its image has\s+2 x 3.* interpolation"
    ):
        read_ground_truth(path, (2, 3), 1)


def test_unknown_values_are_listed_beside_the_rule(tmp_path: Path) -> None:
    path = saved(tmp_path / "mask.png", [[0, 3, 7, 255]])
    with pytest.raises(
        ValueError, match=r"mask\.png holds the values 3, 7; .* 1\.\.2 .* map other"
    ):
        read_ground_truth(path, (1, 4), 2)
    assert read_ground_truth(path, (1, 4), 7).tolist() == [[0, 3, 7, 255]]


def test_many_unknown_values_are_cut_short(tmp_path: Path) -> None:
    path = saved(tmp_path / "photo.png", [list(range(255))])
    assert "the values 2, 3, 4, 5, 6, 7, 8, 9 and 245 more" in str(check_mask(path, (1, 255), 1))


def test_check_mask_gives_the_message_or_nothing(tmp_path: Path) -> None:
    fits = saved(tmp_path / "fits.png", [[0, 2]])
    assert check_mask(fits, (1, 2), 2) is None
    assert "the value 2;" in str(check_mask(fits, (1, 2), 1))
    Image.new("RGB", (2, 1)).save(tmp_path / "colours.png")
    assert "mode RGB" in str(check_mask(tmp_path / "colours.png", (1, 2), 2))
    (tmp_path / "cut.png").write_bytes(fits.read_bytes()[:45])
    assert "cut.png" in str(check_mask(tmp_path / "cut.png", (1, 2), 2))
    assert "gone.png" in str(check_mask(tmp_path / "gone.png", (1, 2), 2))


def test_values_are_mapped_at_once_and_not_one_after_the_other(tmp_path: Path) -> None:
    source = saved(tmp_path / "trimap.png", [[1, 2, 3]])
    map_mask_values(source, tmp_path / "mask.png", {1: 2, 2: 0, 3: 255})
    assert read_label_png(tmp_path / "mask.png").tolist() == [[2, 0, 255]]


def test_a_value_without_meaning_is_refused(tmp_path: Path) -> None:
    """Trimaps that count from 0 would otherwise come out with pet and background swapped."""
    source = saved(tmp_path / "trimap.png", [[0, 1, 2]])
    with pytest.raises(ValueError, match=r"trimap\.png holds the value 0, but .* only 1, 2, 3"):
        map_mask_values(source, tmp_path / "mask.png", {1: 2, 2: 0, 3: 255})
    assert not (tmp_path / "mask.png").exists()
