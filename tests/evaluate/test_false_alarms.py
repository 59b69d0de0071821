"""What is predicted in images without a tag, against counts by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wsss.artifacts import Sample, write_label_png
from wsss.evaluate import FalseAlarms, count_false_alarms


def write(folder: Path, name: str, pixels: list[int]) -> Sample:
    write_label_png(folder / "labels" / f"{name}.png", np.array([pixels], np.uint8))
    return Sample(name, f"{name}.png", (1, len(pixels)), ())


def drawn(folder: Path, sample: Sample, pixels: list[int]) -> Sample:
    write_label_png(folder / "masks" / f"{sample.name}.png", np.array([pixels], np.uint8))
    return replace(sample, mask=f"{sample.name}.png")


def count(folder: Path, *samples: Sample) -> FalseAlarms | None:
    return count_false_alarms(samples, folder / "labels", folder / "masks", 2)


def test_images_without_a_tag_count_with_a_mask_and_without(tmp_path: Path) -> None:
    bare = write(tmp_path, "bare", [0, 1, 2, 0])
    clean = write(tmp_path, "clean", [0, 0, 0, 0])
    masked = drawn(tmp_path, write(tmp_path, "masked", [1, 1, 0, 0]), [0, 255, 0, 0])
    tagged = replace(write(tmp_path, "tagged", [1, 1, 1, 1]), class_ids=(1,))
    found = count(tmp_path, bare, clean, masked, tagged)
    assert found == FalseAlarms(untagged=3, alarmed=2, pixels=11, predicted=3)
    assert found.report() == {
        "images": pytest.approx(2 / 3),
        "area": pytest.approx(3 / 11),
        "untagged": 3,
    }


def test_an_image_counts_only_if_nothing_is_there(tmp_path: Path) -> None:
    """A mask is believed before a missing tag, and one that ignores all says nothing."""
    other = drawn(tmp_path, write(tmp_path, "other", [1, 1]), [0, 2])
    unknown = drawn(tmp_path, write(tmp_path, "unknown", [1, 1]), [255, 255])
    tagged = replace(write(tmp_path, "tagged", [1, 1]), class_ids=(1,))
    assert count(tmp_path, other, unknown, tagged) is None
    assert count(tmp_path) is None


def test_an_image_whose_tags_nobody_knows_counts_only_where_its_mask_is_empty(
    tmp_path: Path,
) -> None:
    doubts: tuple[tuple[tuple[int, float | None], ...], ...] = (((1, None),), ((2, 0.25),))
    for at, doubt in enumerate(doubts):
        sample = replace(write(tmp_path, f"a{at}", [1, 1]), uncertain=doubt)
        assert count(tmp_path, sample) is None
        masked = drawn(tmp_path, sample, [0, 0])
        assert count(tmp_path, masked) == FalseAlarms(1, 1, 2, 2)
        assert count(tmp_path, replace(sample, uncertain=())) == FalseAlarms(1, 1, 2, 2)


def test_a_split_without_predictions_has_no_false_alarms_and_a_part_of_them_is_an_error(
    tmp_path: Path,
) -> None:
    absent = Sample("absent", "absent.png", (1, 2), ())
    assert count(tmp_path, absent) is None
    with pytest.raises(ValueError, match=r"absent\.png"):
        count(tmp_path, absent, write(tmp_path, "there", [0, 0]))
    with pytest.raises(ValueError, match=r"there.png.*rerun the stage"):
        count(tmp_path, replace(write(tmp_path, "there", [0, 0]), size=(2, 2)))
