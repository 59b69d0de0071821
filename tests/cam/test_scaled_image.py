"""Windows of an image at another size against the resized whole."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from wsss.cam.scaled_image import ScaledImage

SHIFT = torch.tensor([0.5, 0.0, -1.0])[:, None, None]


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    assert pixels.dtype == torch.uint8
    return pixels.float() / 255 - SHIFT


def resized(image: np.ndarray, size: tuple[int, int], **how: bool) -> torch.Tensor:
    pixels = normalised(torch.from_numpy(image).permute(2, 0, 1)[None])
    return functional.interpolate(pixels, size, mode="bilinear", **how)


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Length, resized length, start and length of a window.

    At least two pixels after the resize: to a width of one with antialias, torch spoils rows.
    """
    length, scaled = draw(st.integers(1, 70)), draw(st.integers(2, 70))
    start = draw(st.integers(0, scaled - 1))
    return length, scaled, start, draw(st.integers(1, scaled - start))


@given(
    down=axes(),
    along=axes(),
    align_corners=st.booleans(),
    antialias=st.booleans(),
    mirrored=st.booleans(),
)
def test_a_window_equals_its_part_of_the_whole(
    down: tuple[int, int, int, int],
    along: tuple[int, int, int, int],
    align_corners: bool,
    antialias: bool,
    mirrored: bool,
) -> None:
    (height, high, top, rows), (width, wide, left, columns) = down, along
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    how = {"align_corners": align_corners, "antialias": antialias}
    whole = resized(image, (high, wide), **how)
    if mirrored:
        whole = whole.flip(-1)
    scaled = ScaledImage(image, normalised, (high, wide), mirrored=mirrored, **how)
    found = scaled.window(top, left, rows, columns)
    wanted = whole[:, :, top : top + rows, left : left + columns]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_an_image_of_its_own_size_is_itself() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    scaled = ScaledImage(image, normalised, (40, 60), align_corners=False, antialias=False)
    wanted = normalised(torch.from_numpy(image).permute(2, 0, 1)[None])
    assert torch.equal(scaled.window(8, 16, 32, 24), wanted[:, :, 8:40, 16:40])


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_a_window_takes_the_pixels_that_it_shows_alone(scale: float) -> None:
    # Catches a normalised copy of more than the window.
    image = np.zeros((4000, 3000, 3), np.uint8)
    taken = []

    def looked_at(pixels: torch.Tensor) -> torch.Tensor:
        taken.append(pixels.shape[2:])
        return normalised(pixels)

    size = round(4000 * scale), round(3000 * scale)
    how = {"align_corners": False, "antialias": scale < 1}
    ScaledImage(image, looked_at, size, **how).window(320, 64, 64, 96)
    ((high, wide),) = taken
    assert 64 / scale <= high <= 64 / scale + 2 / scale + 4
    assert 96 / scale <= wide <= 96 / scale + 2 / scale + 4
