"""What an epoch shows: passes that go on, shares that hold, and crops of a class."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsss.artifacts import Sample, write_label_png
from wsss.config.sections import AugmentSettings
from wsss.loading.crops import TrainDataset, TrainLoader, draw_crop
from wsss.loading.normalisation import Normalisation
from wsss.loading.order import Draw, Mixture, epoch_draws, part_of_batch
from wsss.seeding import generator


def shown(count: int, mixture: Mixture, epoch: int = 0) -> list[Draw]:
    return list(epoch_draws(count, mixture, rng_seed=7, epoch=epoch))


def test_without_a_mixture_an_epoch_is_one_shuffled_pass() -> None:
    for epoch in range(3):
        draws = shown(9, Mixture(), epoch)
        expected = generator(7, "order", epoch).permutation(9).tolist()
        assert [draw.sample for draw in draws] == expected
        assert {(draw.epoch, draw.repeat, draw.class_id) for draw in draws} == {(epoch, 0, 0)}


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 5))
def test_all_images_are_seen_equally_often_whatever_the_length_of_an_epoch(
    count: int, length: int, epochs: int
) -> None:
    draws = [draw for epoch in range(epochs) for draw in shown(count, Mixture(length), epoch)]
    assert len(draws) == length * epochs
    seen = Counter(draw.sample for draw in draws)
    assert max(seen.values()) - min(seen[index] for index in range(count)) <= 1
    assert len({draw[:3] for draw in draws}) == len(draws)  # no crop comes twice


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("world_size", [1, 2])
def test_every_batch_has_its_share_of_given_masks(share: float, world_size: int) -> None:
    mixture = Mixture(96, given=[1, 4, 6], given_share=share)
    for epoch in range(2):
        draws = shown(20, mixture, epoch)
        for start in range(0, 96, 8):
            for rank in range(world_size):
                own = part_of_batch(draws[start : start + 8], rank, world_size)
                given = sum(draw.sample in (1, 4, 6) for draw in own)
                assert abs(given - 8 * share / world_size) < 1
    seen = Counter(draw.sample for epoch in range(9) for draw in shown(20, mixture, epoch))
    of_given = [seen[index] for index in (1, 4, 6)]
    others = [seen[index] for index in range(20) if index not in (1, 4, 6)]
    assert max(of_given) - min(of_given) <= 1 and max(others) - min(others) <= 1


@pytest.mark.parametrize("given", [(), range(6)])
def test_a_share_of_all_or_of_nothing_is_the_plain_order(given: range) -> None:
    assert shown(6, Mixture(given=given, given_share=0.5)) == shown(6, Mixture())


def test_crops_are_drawn_for_classes_all_alike() -> None:
    with_class = {1: [0, 1, 2, 3], 3: [5]}
    draws = shown(6, Mixture(3000, class_share=1 / 3, with_class=with_class))
    drawn = Counter(draw.class_id for draw in draws)
    assert drawn[0] == pytest.approx(2000, abs=100)
    assert drawn[1] == pytest.approx(500, abs=70) and drawn[3] == pytest.approx(500, abs=70)
    assert {draw.sample for draw in draws if draw.class_id == 3} == {5}


def test_crops_for_a_class_leave_the_share_of_given_masks() -> None:
    mixture = Mixture(80, [0, 1], 0.5, 1.0, {1: [1, 2], 2: [3]})
    draws = shown(4, mixture)
    assert sum(draw.sample in (0, 1) for draw in draws) == 40
    assert all(draw.class_id for draw in draws if draw.sample in (2, 3))


sides = st.integers(1, 90)


@settings(max_examples=80)
@given(sides, sides, st.integers(1, 60), st.integers(1, 120), st.data())
def test_a_crop_shows_the_pixel_that_it_is_drawn_for(
    height: int, width: int, side: int, long_side: int, data: st.DataObject
) -> None:
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    augment = AugmentSettings(crop_size=side, long_side=(long_side, long_side + 9), flip=False)
    crop = draw_crop((height, width), augment, np.random.default_rng(0), (row, column))
    for axis, (at, start) in enumerate(((row, crop.top), (column, crop.left))):
        scaled = (at + 0.5) * crop.size[axis] / (height, width)[axis]
        assert start <= scaled <= start + side
        room = crop.size[axis] - side
        assert min(0, room) <= start <= max(0, room)


def test_a_car_is_in_every_third_crop(tmp_path: Path) -> None:
    """Of images whose car is small, so that crops miss it when nobody looks for it."""
    rng, samples = np.random.default_rng(0), []
    (tmp_path / "masks").mkdir()
    for index in range(12):
        mask = np.zeros((120, 160), np.uint8)
        if index < 3:
            top, left = rng.integers(0, 100, 2)
            mask[top : top + 8, left : left + 8] = 2
        Image.fromarray(np.zeros((120, 160, 3), np.uint8)).save(tmp_path / f"{index}.png")
        write_label_png(tmp_path / f"masks/{index}.png", mask)
        samples.append(Sample(str(index), f"{index}.png", (120, 160), (2,) if index < 3 else ()))

    def share(mixture: Mixture) -> float:
        dataset = TrainDataset(
            samples,
            tmp_path,
            AugmentSettings(crop_size=32, long_side=(160, 200)),
            normalisation=Normalisation((0, 0, 0), (1, 1, 1)),
            num_fg_classes=2,
            rng_seed=0,
            label_maps=[tmp_path / f"masks/{index}.png" for index in range(12)],
        )
        loader = TrainLoader(dataset, 20, mixture=mixture)
        masks = torch.cat([batch["mask"] for batch in loader])
        return (masks == 2).flatten(1).any(dim=1).float().mean().item()

    assert share(Mixture(200)) < 0.1
    assert share(Mixture(200, class_share=0.33, with_class={2: [0, 1, 2]})) > 0.28
