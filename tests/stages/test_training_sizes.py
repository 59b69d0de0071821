"""Sizes that are 0 follow the images of the training split."""

import pytest

from wsss.artifacts import Manifest, Sample
from wsss.config.sections import AugmentSettings, TrainClassifierSettings
from wsss.config.segmentation import TrainSegmenterSettings
from wsss.stages._training import sized


def manifest(*sides: int) -> Manifest:
    train = tuple(
        Sample(f"{at}", "a.png", (side // 2, side), (1,)) for at, side in enumerate(sides)
    )
    return Manifest(("cat",), {"train": train, "selection": (), "val": ()})


FOLLOWS = {"crop_size": 0, "long_side": (0, 0)}


@pytest.mark.parametrize("model", [TrainClassifierSettings, TrainSegmenterSettings])
@pytest.mark.parametrize(
    ("sides", "crop", "long_side", "whole"),
    [
        ((320, 320, 4000), 256, (256, 512), 320),  # as the recipe of VOC has them
        ((64, 64), 64, (51, 102), 64),
        ((20, 20), 32, (16, 32), 20),
        ((500, 512), 416, (405, 810), 506),
    ],
)
def test_sizes_of_zero_follow_the_images(
    model: type, sides: tuple[int, ...], crop: int, long_side: tuple[int, int], whole: int
) -> None:
    found = sized(model.model_validate({"augment": FOLLOWS, "eval_long_side": 0}), manifest(*sides))
    assert (found.augment.crop_size, found.augment.long_side) == (crop, long_side)
    assert found.eval_long_side == whole


def test_sizes_that_are_given_stay() -> None:
    settings = TrainClassifierSettings()
    assert sized(settings, manifest(64)) == settings


def test_half_a_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 0\] to follow the images"):
        AugmentSettings(long_side=(0, 512))


def test_shares_that_follow_the_images_show_them_whole() -> None:
    whole = AugmentSettings(
        crop_size=0, long_side=(0, 0), crop_share=1, long_side_shares=(0.9, 1.0)
    )
    found = sized(TrainClassifierSettings(augment=whole), manifest(250, 260, 300))
    assert (found.augment.crop_size, found.augment.long_side) == (256, (234, 260))


def test_a_range_of_shares_that_is_upside_down_is_refused() -> None:
    with pytest.raises(ValueError, match="swap the two"):
        AugmentSettings(long_side_shares=(1.6, 0.8))
