"""Multi-scale prediction and the pixel loss: identities that any mistake breaks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wsss.segment.predict import predict_mask_in_windows, predict_probs
from wsss.windows import window_starts


class Colours(nn.Module):
    """Logits that are the colours, so the truth is known."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[2] % 32 == 0 and images.shape[3] % 32 == 0
        return images


def test_constant_image_gives_its_softmax_at_any_size() -> None:
    images = torch.tensor([1.0, 2.0, -1.0]).view(1, 3, 1, 1).expand(2, 3, 50, 71)
    probs = predict_probs(Colours(), images, scales=(0.5, 1.0, 1.7), flip=True)
    torch.testing.assert_close(probs, images.softmax(dim=1))


def test_one_scale_at_a_fitting_size_is_the_network_itself() -> None:
    images = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(predict_probs(Colours(), images), images.softmax(dim=1))


def test_mirror_image_mirrors_the_prediction() -> None:
    net = nn.Conv2d(3, 4, 3, padding=1)
    images = torch.randn(1, 3, 40, 70)
    with torch.inference_mode():
        plain = predict_probs(net, images, scales=(0.75, 1.0), flip=True)
        mirrored = predict_probs(net, images.flip(-1), scales=(0.75, 1.0), flip=True)
    torch.testing.assert_close(plain, mirrored.flip(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain.sum(dim=1), torch.ones(1, 40, 70))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 127.5 - 1


@given(
    cells=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    window=st.integers(1, 4),
    overlap=st.floats(0, 0.95),
    batch_size=st.integers(1, 5),
    flip=st.booleans(),
)
@settings(max_examples=30)
def test_windows_of_a_pixelwise_network_give_the_whole(
    cells: tuple[int, int], window: int, overlap: float, batch_size: int, flip: bool
) -> None:
    # Catches rows that leave the strip too early or too late, and windows in the wrong place.
    torch.manual_seed(0)
    net, size = nn.Conv2d(3, 5, 1), (cells[0] * 32, cells[1] * 32)
    image = np.random.default_rng(sum(cells)).integers(0, 256, (*size, 3), np.uint8)
    pixels = normalised(torch.from_numpy(image).permute(2, 0, 1)[None])
    blended, sums = np.full((5, *size), np.nan, np.float32), np.zeros((2, 5))
    with torch.inference_mode():
        (probs,) = predict_probs(net, pixels, flip=flip)
        mask = predict_mask_in_windows(
            net, image, normalise=normalised, window=window * 32, overlap=overlap, flip=flip,
            batch_size=batch_size, probs=blended, sums=sums,
        )  # fmt: skip
    assert np.allclose(blended, probs.numpy(), atol=1e-5)
    assert np.allclose(sums[0], probs.sum(dim=(1, 2)), rtol=1e-4)
    won = [blended[label][mask == label].sum() for label in range(5)]
    assert np.allclose(sums[1], won, rtol=1e-4)
    assert mask.shape == size and mask.dtype == np.uint8
    best, second = probs.topk(2, dim=0).values
    certain = (best - second > 1e-5).numpy()
    assert certain.mean() > 0.99 and (mask == probs.argmax(dim=0).numpy())[certain].all()


@pytest.mark.parametrize("size", [(70, 150), (200, 33), (31, 90)])
def test_windows_by_a_plain_loop(size: tuple[int, int]) -> None:
    # A network with a field of view, at sizes and scales that have to be resized.
    torch.manual_seed(0)
    net = nn.Conv2d(3, 4, 9, padding=4)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    pixels = normalised(torch.from_numpy(image).permute(2, 0, 1)[None])
    high, wide = (min(item, 48) for item in size)
    total, weights = torch.zeros(4, *size), torch.zeros(size)
    how: dict[str, Any] = {"scales": (0.75, 1.5), "flip": True}
    hann = [torch.hann_window(2 * n, periodic=True)[1::2] for n in (high, wide)]
    with torch.inference_mode():
        for top in window_starts(size[0], high, 0.3):
            for left in window_starts(size[1], wide, 0.3):
                at = slice(top, top + high), slice(left, left + wide)
                (probs,) = predict_probs(net, pixels[:, :, at[0], at[1]], **how)
                weight = torch.outer(*hann)
                total[:, at[0], at[1]] += probs * weight
                weights[at] += weight
        mask = predict_mask_in_windows(
            net, image, normalise=normalised, window=48, overlap=0.3, batch_size=2, **how
        )
    best, second = (total / weights).topk(2, dim=0).values
    certain = (best - second > 1e-5).numpy()
    assert certain.mean() > 0.99 and (mask == total.argmax(dim=0).numpy())[certain].all()


def test_nothing_grows_with_the_length_of_the_image(largest_tensor: Callable[[], Any]) -> None:
    net, largest = nn.Conv2d(3, 7, 1), []
    for height in (128, 512, 1024):
        image = np.zeros((height, 160, 3), np.uint8)
        with torch.inference_mode(), largest_tensor() as seen:
            predict_mask_in_windows(net, image, normalise=normalised, window=64, overlap=0.5)
        largest.append(seen.values)
    assert largest == [7 * 64 * 160] * 3  # the strip of sums
