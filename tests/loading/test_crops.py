"""Loading for training: the mask moves with the image, and workers change nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsss.artifacts import Sample, write_label_png
from wsss.config.sections import AugmentSettings
from wsss.loading.crops import Crop, TrainDataset, TrainLoader, cut_crop, draw_crop
from wsss.loading.normalisation import Normalisation
from wsss.loading.order import Draw

NORMALISATION = Normalisation((0.1, 0.5, 0.7), (0.5, 0.25, 1.0))


def _pair(folder: Path, name: str, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """An image whose red channel is 40 times its mask, in blobs larger than a resampling kernel."""
    coarse = rng.integers(0, 6, (-(-size[0] // 8), -(-size[1] // 8)), np.uint8)
    mask = coarse.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = 40 * mask
    folder.joinpath("images").mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / f"images/{name}.png")
    write_label_png(folder / f"masks/{name}.png", mask)
    return Sample(name, f"{name}.png", size, (1, 3))


def _batches(folder, samples, augment, *, masks=None, batch_size=3, **more):
    dataset = TrainDataset(
        samples,
        folder / "images",
        augment,
        normalisation=Normalisation((0, 0, 0), (1, 1, 1)),
        num_fg_classes=4,
        rng_seed=7,
        label_maps=masks and [masks / f"{sample.name}.png" for sample in samples],
    )
    return TrainLoader(dataset, batch_size, **more)


@pytest.fixture
def samples(tmp_path):
    rng = np.random.default_rng(3)
    return [
        _pair(tmp_path, f"ü {index}", (40 + 7 * index, 64 - 5 * index), rng) for index in range(8)
    ]


def test_the_mask_moves_with_the_image(tmp_path, samples):
    augment = AugmentSettings(crop_size=48, long_side=(40, 160))
    loader = _batches(tmp_path, samples, augment, batch_size=8, masks=tmp_path / "masks")
    padded = 0
    for epoch in range(3):
        loader.set_epoch(epoch)
        for batch in loader:
            assert (batch["image"].dtype, batch["mask"].dtype) == (torch.float32, torch.int64)
            red = batch["image"][:, 0] * 255 / 40
            inside = batch["mask"] != 255
            assert (batch["image"].permute(0, 2, 3, 1)[~inside] == 0).all()
            padded += int((~inside).sum())
            # where blobs meet, the image is mixed and the mask is not; elsewhere they agree
            off = (red - batch["mask"]).abs()[inside]
            assert (off < 0.05).float().mean() > 0.6
            shifted = (red - batch["mask"].roll(6, dims=2)).abs()[inside]
            assert off.mean() < 0.5 * shifted.mean()
    assert padded > 0


sides = st.integers(1, 60)


@settings(max_examples=60)
@given(sides, sides, st.integers(1, 40), st.integers(1, 90), st.integers(0, 9))
def test_cutting_equals_resizing_then_cropping(height, width, crop, long_side, draw):
    rng = np.random.default_rng(draw)
    augment = AugmentSettings(crop_size=crop, long_side=(long_side, long_side + 5))
    window = draw_crop((height, width), augment, rng)
    pixels = rng.integers(0, 256, (height, width), np.uint8)
    part, where = cut_crop(Image.fromarray(pixels), window, Image.Resampling.BILINEAR)
    got = np.full((crop, crop), -1000)
    got[where] = part
    resized = np.asarray(
        Image.fromarray(pixels).resize(window.size[::-1], Image.Resampling.BILINEAR)
    )
    padded = np.pad(resized.astype(int), crop, constant_values=-1000)
    top, left = window.top + crop, window.left + crop
    expected = padded[top : top + crop, left : left + crop]
    expected = expected[:, ::-1] if window.flip else expected
    assert np.abs(got - expected).max() <= 2  # two passes, each of them rounded


def test_windows_reach_every_place_and_stay_in_range():
    augment = AugmentSettings(crop_size=10, long_side=(20, 30))
    rng = np.random.default_rng(0)
    windows = [draw_crop((40, 20), augment, rng) for _ in range(600)]
    assert {max(window.size) for window in windows} == set(range(20, 31))
    assert {window.flip for window in windows} == {True, False}
    tall = [window for window in windows if window.size == (20, 10)]
    assert {item.top for item in tall} == set(range(11))
    assert {item.left for item in tall} == {0}
    assert all(0 <= window.top <= window.size[0] - 10 for window in windows)


def test_small_images_lie_anywhere_in_the_crop():
    augment = AugmentSettings(crop_size=12, long_side=(8, 8), flip=False)
    rng = np.random.default_rng(0)
    windows = [draw_crop((8, 4), augment, rng) for _ in range(400)]
    assert {window.top for window in windows} == set(range(-4, 1))
    assert {window.left for window in windows} == set(range(-8, 1))
    assert not any(window.flip for window in windows)


def test_flip_mirrors_the_padding_too():
    part, (rows, columns) = cut_crop(
        Image.fromarray(np.array([[1, 2]], np.uint8)),
        Crop((1, 2), 0, -1, 4, True),
        Image.Resampling.NEAREST,
    )
    crop = np.zeros((4, 4), np.uint8)
    crop[rows, columns] = part
    assert crop.tolist() == [[0, 2, 1, 0], [0] * 4, [0] * 4, [0] * 4]


def test_padding_is_zero_after_normalisation(tmp_path, samples):
    augment = AugmentSettings(crop_size=90, long_side=(30, 30), jitter=(0.5, 0.5, 0.5, 0.1))
    dataset = TrainDataset(
        samples,
        tmp_path / "images",
        augment,
        normalisation=NORMALISATION,
        num_fg_classes=4,
        rng_seed=0,
    )
    image = dataset[Draw(0, 0)]["image"]
    assert (image == 0).all(0).float().mean() > 0.8
    assert (image != 0).any()


def _all_of(loader):
    return [(batch["name"], batch["image"].clone(), batch["labels"]) for batch in loader]


def _all(loader, epochs):
    seen = []
    for epoch in epochs:
        loader.set_epoch(epoch)
        seen += _all_of(loader)
    return seen


@pytest.mark.parametrize("jitter", [(0, 0, 0, 0), (0.3, 0.3, 0.3, 0.1)])
def test_workers_and_history_change_nothing(tmp_path, samples, jitter):
    augment = AugmentSettings(crop_size=24, long_side=(24, 60), jitter=jitter)
    alone = _all(_batches(tmp_path, samples, augment), [0, 1])
    torch.rand(5)  # nor does the global generator
    spread = _all(_batches(tmp_path, samples, augment, workers=2), [0, 1])
    resumed = _all(_batches(tmp_path, samples, augment, workers=1), [1])
    assert len(alone) == 4  # 2 batches of 3 out of 8, twice
    for item, other in [*zip(alone, spread, strict=True), *zip(alone[2:], resumed, strict=True)]:
        assert item[0] == other[0]
        assert torch.equal(item[1], other[1])
    assert alone[0][0] != alone[2][0]  # another epoch, another order
    names = {
        name: image
        for names, images, _ in alone[:2]
        for name, image in zip(names, images, strict=True)
    }
    again = {
        name: image
        for names, images, _ in alone[2:]
        for name, image in zip(names, images, strict=True)
    }
    assert not any(torch.equal(names[key], again[key]) for key in names.keys() & again.keys())
    assert alone[0][2].tolist() == [[1, 0, 1, 0]] * 3


def test_loading_leaves_the_global_generator_alone(tmp_path, samples):
    augment = AugmentSettings(crop_size=16, long_side=(24, 60), jitter=(0.3, 0.3, 0.3, 0.1))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    _all(_batches(tmp_path, samples, augment), [0])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("batch_size", "world_size"), [(4, 2), (5, 2), (8, 3), (20, 3)])
def test_processes_share_each_batch_of_one_process(tmp_path, samples, batch_size, world_size):
    """Nothing is left out or shown twice, also where parts are uneven."""
    augment = AugmentSettings(crop_size=24, long_side=(24, 60), jitter=(0.3, 0.3, 0.3, 0.1))
    alone = _all(_batches(tmp_path, samples, augment, batch_size=batch_size), [0, 1])
    loaders = [
        _batches(
            tmp_path, samples, augment, batch_size=batch_size, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    assert {loader.images_per_step for loader in loaders} == {min(batch_size, 8)}
    parts = [_all(loader, [0, 1]) for loader in loaders]
    for whole, *shared in zip(alone, *parts, strict=True):
        assert [name for names, *_ in shared for name in names] == whole[0]
        assert torch.equal(torch.cat([images for _, images, _ in shared]), whole[1])
        sizes = [len(names) for names, *_ in shared]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_starts_with_any_step_and_decodes_nothing_before(tmp_path, samples, workers):
    augment = AugmentSettings(crop_size=24, long_side=(24, 60))
    whole = _all(_batches(tmp_path, samples, augment, batch_size=2), [1])
    loader = _batches(tmp_path, samples, augment, batch_size=2, workers=workers)
    missing = {name for names, *_ in whole[:3] for name in names}
    for sample in samples:
        if sample.name in missing:
            (tmp_path / "images" / sample.image).unlink()
    loader.set_epoch(1, 3)
    assert len(loader) == 4, "of the whole pass"
    ((names, images, _),) = _all_of(loader)
    assert names == whole[3][0]
    assert torch.equal(images, whole[3][1])


def test_a_batch_smaller_than_the_number_of_processes_is_refused(tmp_path, samples):
    augment = AugmentSettings(crop_size=8, long_side=(8, 8))
    with pytest.raises(ValueError, match=r"a batch of 1 cannot be shared by 2 .* to 2 or more"):
        _batches(tmp_path, samples, augment, batch_size=1, world_size=2)


def test_fewer_samples_than_a_batch_are_one_batch(tmp_path, samples):
    loader = _batches(
        tmp_path, samples, AugmentSettings(crop_size=8, long_side=(8, 8)), batch_size=100
    )
    assert [len(batch["name"]) for batch in loader] == [8]


def test_a_mask_of_another_size_and_no_samples_are_named(tmp_path, samples):
    augment = AugmentSettings(crop_size=8, long_side=(8, 8))
    write_label_png(tmp_path / "masks" / "ü 0.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"ü 0\.png has shape \(3, 3\)"):
        list(_batches(tmp_path, samples, augment, batch_size=8, masks=tmp_path / "masks"))
    with pytest.raises(ValueError, match="no image to train on"):
        _batches(tmp_path, [], augment)
