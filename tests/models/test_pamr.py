"""The arithmetic of PAMR: weights that are a distribution, of one image and of a batch.

That the averages are the definition is for tests/refine/test_pamr.py.
"""

import numpy as np
import pytest
import torch

from wsss.models.pamr import average, neighbour_weights, pixel_adaptive_mean

PUBLISHED = (1, 2, 4, 8, 12, 24)


def test_weights_of_a_window_with_one_bright_column() -> None:
    image = torch.zeros(3, 3, 3)
    image[..., 2] = 1  # sigma of the window is 0.5, a neighbour of another colour counts e^-20
    weights = neighbour_weights(image, [1])[:, 1, 1].reshape(-1).tolist()
    bright = [2, 4, 7]
    assert [weights[index] for index in range(8) if index not in bright] == pytest.approx([0.2] * 5)
    assert [weights[index] for index in bright] == pytest.approx([4.1223e-10] * 3, rel=1e-3)
    plain = neighbour_weights(image, [1], squared=True)[:, 1, 1].tolist()  # e^-4
    assert plain[2] / plain[0] == pytest.approx(np.exp(-4), rel=1e-5)


@pytest.mark.parametrize("squared", [False, True])
def test_no_colour_no_preference(squared: bool) -> None:
    weights = neighbour_weights(torch.full((3, 4, 5), 77.0), PUBLISHED, squared=squared)
    np.testing.assert_allclose(weights, 1 / 48, rtol=1e-6)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("dilations", [(1,), PUBLISHED])
def test_weights_are_a_distribution_in_the_worst_image(
    dilations: tuple[int, ...], squared: bool
) -> None:
    """No neighbour is like a lone bright pixel; in a faint image on white, sums cancel."""
    lone = torch.zeros(3, 60, 60)
    lone[:, 30, 30] = 255
    faint = 255 - 1e-3 * torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(0))
    for image in (lone, faint):
        weights = neighbour_weights(image, dilations, squared=squared)
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(0), 1, atol=1e-5)
    alone = neighbour_weights(lone, dilations, squared=squared)[:, 30, 30]
    np.testing.assert_allclose(alone, 1 / (8 * len(dilations)), rtol=1e-5)


def test_weights_do_not_depend_on_the_brightness_nor_the_scale() -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 16, (3, 20, 30))).float()
    weights = neighbour_weights(image, PUBLISHED)
    np.testing.assert_allclose(weights, neighbour_weights(image + 4000, PUBLISHED), rtol=1e-4)
    np.testing.assert_allclose(
        weights, neighbour_weights(image / 256, PUBLISHED), rtol=1e-4, atol=1e-9
    )


def test_a_batch_is_its_images_one_by_one() -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(3, 3, 33, 25, generator=generator)
    scores = torch.rand(3, 2, 9, 7, generator=generator)
    together = pixel_adaptive_mean(images, scores, PUBLISHED, 3)
    for image, masks, found in zip(images, scores, together, strict=True):
        alone = pixel_adaptive_mean(image[None], masks[None], PUBLISHED, 3)
        torch.testing.assert_close(found, alone[0])


def test_the_unit_of_a_channel_does_not_matter() -> None:
    """So that images which are normalised for a network need not be turned back."""
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(2, 3, 12, 10, generator=generator)
    scores = torch.rand(2, 2, 12, 10, generator=generator)
    scaled = images * torch.tensor([4.0, 0.5, 2.0])[:, None, None] + 3
    torch.testing.assert_close(
        pixel_adaptive_mean(scaled, scores, (1, 3), 4),
        pixel_adaptive_mean(images, scores, (1, 3), 4),
        rtol=1e-3,
        atol=1e-4,
    )


def test_a_gpu_gives_the_same(cuda: torch.device) -> None:
    generator = torch.Generator().manual_seed(6)
    pixels = torch.rand(3, 33, 47, generator=generator)
    masks = torch.rand(2, 33, 47, generator=generator)
    expected = average(masks, neighbour_weights(pixels, PUBLISHED), PUBLISHED, 10)
    weights = neighbour_weights(pixels.to(cuda), PUBLISHED)
    refined = average(masks.to(cuda), weights, PUBLISHED, 10)
    np.testing.assert_allclose(refined.cpu(), expected, atol=1e-5)
