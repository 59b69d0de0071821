"""Windows: they cover everything, give back what they show, and know no range of their own."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from wsss.cam.cam import LinearHeadCam, LinearHeadCamSettings
from wsss.cam.grad_cam import GradCam, GradCamSettings
from wsss.cam.multiscale import multiscale_cams, windowed_cams
from wsss.cam.sliding_window import SlidingWindow
from wsss.models.classifier import Classifier
from wsss.windows import window_starts, window_weights

METHOD = LinearHeadCam(LinearHeadCamSettings())
ROWS, COLUMNS = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])


class Cells(nn.Module):
    """Features are what is in a cell: the mean of 16 x 16 pixels, or a corner pixel's value."""

    output_stride = 16
    num_features = 3

    def __init__(self, corners: bool) -> None:
        super().__init__()
        self.corners = corners
        self.pixels: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.pixels.append(images[:, 0].numel())
        if self.corners:
            return images[:, :, ::16, ::16]
        return functional.avg_pool2d(images, 16)


def cells(corners: bool = False) -> Classifier:
    model = Classifier(Cells(corners), ("a", "b", "c")).eval()  # type: ignore[arg-type]
    model.head.weight.data = torch.eye(3)[:, :, None, None]
    return model


@given(
    length=st.integers(1, 60),
    side=st.integers(1, 60),
    overlap=st.floats(0, 0.99),
    extra=st.booleans(),
)
def test_windows_cover_every_cell_and_stay_inside(
    length: int, side: int, overlap: float, extra: bool
) -> None:
    side = min(side, length)
    starts = window_starts(length, side, overlap)
    assert starts[0] == 0 and starts[-1] == length - side
    assert starts == sorted(set(starts))
    count, weights = torch.zeros(length), torch.zeros(length)
    for start in starts:
        count[start : start + side] += 1
        weights[start : start + side] += torch.from_numpy(window_weights(1, side)[0])
    assert (count >= 1).all() and (weights > 0).all()
    shared = [a + side - b for a, b in itertools.pairwise(starts)]
    assert all(
        overlapped >= overlap * side - 1e-9 or overlapped == side - 1 for overlapped in shared
    )


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("size", [(64, 64), (208, 96), (48, 320), (16, 16)])
def test_windows_give_back_what_they_show(
    size: tuple[int, int], overlap: float, batch_size: int, corners: bool
) -> None:
    # A model that looks at one cell alone cannot tell a window from the whole.
    model = cells(corners)
    size = (size[0] + corners, size[1] + corners)
    images = torch.rand(2, 3, *size)
    wanted, _ = METHOD(model, images, ROWS, COLUMNS)
    found, _ = SlidingWindow(METHOD, 64, overlap, batch_size)(model, images, ROWS, COLUMNS)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_constant_model_stays_constant() -> None:
    images = torch.full((2, 3, 208, 160), 0.7)
    found, logits = SlidingWindow(METHOD, 64, 0.5)(cells(), images, ROWS, COLUMNS)
    torch.testing.assert_close(found, torch.full((3, 13, 10), 0.7))
    torch.testing.assert_close(logits, torch.full((2, 3), 0.7))


@pytest.mark.parametrize("method", [METHOD, GradCam(GradCamSettings(layers=("stage3", "last")))])
def test_a_window_as_large_as_the_image_is_the_image(
    classifier: Callable[[str], Classifier], method: LinearHeadCam | GradCam
) -> None:
    model = classifier("cnn")
    images = torch.randn(2, 3, 64, 96)
    wanted, logits = method(model, images, ROWS, COLUMNS)
    for window in (96, 100, 512):
        found, scores = SlidingWindow(method, window, 0.5)(model, images, ROWS, COLUMNS)
        assert (found == wanted).all() and (scores == logits).all()


def test_overlapping_windows_by_a_plain_loop(classifier: Callable[[str], Classifier]) -> None:
    # A network with a large field of view: what lies where, and its weight, matter.
    model = classifier("cnn")
    images = torch.randn(2, 3, 64, 112)
    with torch.inference_mode():
        found, scores = SlidingWindow(METHOD, 64, 0.5, 4)(model, images, ROWS, COLUMNS)
        total, weights = torch.zeros(3, 4, 7), torch.zeros(4, 7)
        wanted_scores = []
        for left in (0, 2, 3):
            output = model(images[..., left * 16 : left * 16 + 64])
            maps = output.maps[ROWS, COLUMNS].relu()
            for y in range(4):
                for x in range(4):
                    hann = torch.hann_window(8, periodic=True)[1::2]
                    weight = hann[y] * hann[x]
                    total[:, y, left + x] += weight * maps[:, y, x]
                    weights[y, left + x] += weight
            wanted_scores.append(output.logits)
    torch.testing.assert_close(found, total / weights, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores, torch.stack(wanted_scores).amax(dim=0), rtol=1e-4, atol=1e-5)


def test_maps_of_an_earlier_layer_have_more_cells(classifier: Callable[[str], Classifier]) -> None:
    model = classifier("cnn")
    method = GradCam(GradCamSettings(layers=("stage2",)))  # stride 8
    images = torch.randn(2, 3, 64, 112)
    found, _ = SlidingWindow(method, 64, 0.5)(model, images, ROWS, COLUMNS)
    assert found.shape == (3, 8, 14)
    first, _ = method(model, images[..., :64], ROWS, COLUMNS)
    torch.testing.assert_close(found[..., :4], first[..., :4], rtol=1e-4, atol=1e-6)


def test_windows_without_the_class_stay_empty() -> None:
    # Catches a stretch per window, after which the faint spot would peak at 1 as well.
    images = torch.zeros(1, 3, 64, 256)
    images[0, 1, :16, :16], images[0, 1, :16, 240:] = 1, 0.1
    with torch.inference_mode():
        (cams,), logits = multiscale_cams(
            cells(), SlidingWindow(METHOD, 64, 0.5), images, [(1, 2)], grid=(4, 16),
            scales=(1.0,), flip=True, align_corners=False,
        )  # fmt: skip
    wanted = torch.zeros(2, 4, 16)
    wanted[1, 0, 0], wanted[1, 0, 15] = 1, 0.1
    torch.testing.assert_close(cams, wanted, atol=1e-4, rtol=0)
    # The class is as sure as in the window where it is, not thinned out by the rest.
    torch.testing.assert_close(logits, torch.tensor([[0, 1 / 16, 0]]))


def test_what_runs_at_once_does_not_grow_with_the_image() -> None:
    model = cells()
    for side in (128, 256, 512):
        model.backbone.pixels.clear()
        images = torch.rand(2, 3, side, side)
        SlidingWindow(METHOD, 64, 0.5, batch_size=6)(model, images, ROWS, COLUMNS)
        assert max(model.backbone.pixels) == 6 * 64 * 64


def test_maps_that_do_not_fit_are_refused() -> None:
    class Coarse(LinearHeadCam):
        def __call__(self, model, images, rows, columns):  # type: ignore[no-untyped-def]
            maps, logits = super().__call__(model, images, rows, columns)
            return maps[:, :3], logits

    method = SlidingWindow(Coarse(LinearHeadCamSettings()), 64, 0.5)
    with pytest.raises(ValueError, match="maps of 3 x 4 cells do not fit windows of 4 x 4"):
        method(cells(), torch.rand(2, 3, 128, 128), ROWS, COLUMNS)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 127.5 - 1


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("method", [METHOD, GradCam(GradCamSettings(layers=("stage3", "last")))])
def test_windows_of_pixels_are_those_of_the_resized_image(
    classifier: Callable[[str], Classifier], method: LinearHeadCam | GradCam, corners: bool
) -> None:
    # A network that sees a whole window: a wrong resize, place, order or mirror image shows.
    model = classifier("cnn")
    image = np.random.default_rng(0).integers(0, 256, (112 + corners, 80 + corners, 3), np.uint8)
    pixels = normalised(torch.from_numpy(image).permute(2, 0, 1)[None])
    windows = SlidingWindow(method, 64, 0.5, 3)
    how: dict[str, Any] = {"scales": (0.5, 1.0, 1.5), "flip": True, "align_corners": corners}
    with torch.inference_mode(not method.needs_gradients):
        (wanted,), logits = multiscale_cams(model, windows, pixels, [(1, 3)], grid=(28, 20), **how)
        found, scores = windowed_cams(
            model, windows, image, (1, 3), normalise=normalised, grid=(28, 20), **how
        )
        none, _ = windowed_cams(
            model, windows, image, (), normalise=normalised, grid=(28, 20), **how
        )
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores, logits[0], atol=1e-4, rtol=1e-4)
    assert found.amax(dim=(1, 2)).tolist() == pytest.approx([1, 1], abs=1e-3)
    assert none.shape == (0, 28, 20)


def test_no_float_image_is_larger_than_the_windows_that_run_together(
    largest_tensor: Callable[[], Any],
) -> None:
    model, largest = cells(), []
    windows = SlidingWindow(METHOD, 64, 0.5, batch_size=4)
    for side in (96, 192, 384):
        image = np.zeros((side, side + 5, 3), np.uint8)
        with torch.inference_mode(), largest_tensor() as seen:
            windowed_cams(
                model, windows, image, (1, 2), normalise=normalised, grid=(side // 16, side // 16),
                scales=(0.5, 2.0), flip=True, align_corners=False,
            )  # fmt: skip
        largest.append(seen.values)
    # The window at scale 0.5 shows 128 x 128 pixels and a border of two.
    batch, shown = 4 * 3 * 64 * 64, 3 * 132 * 132
    assert all(3 * 64 * 64 < count <= max(batch, shown) for count in largest)
