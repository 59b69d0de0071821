"""Image values to network input, and from one network's to another's."""

import numpy as np
import torch

from wsss.loading.normalisation import Normalisation

MEAN, STD = (0.1, 0.5, 0.7), (0.5, 0.25, 1.0)


def test_normalise_is_the_formula_per_channel_whatever_the_layout() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)
    expected = ((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    rows_last = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    plain = rows_last.contiguous()
    normalise = Normalisation(MEAN, STD)
    for images in (rows_last, plain):
        result = normalise(images)
        assert result.dtype == torch.float32
        assert result.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_allclose(result, expected, atol=1e-6)
    assert torch.equal(normalise(rows_last), normalise(plain))
    assert plain.dtype == torch.uint8, "the pixels stay"


def test_images_of_one_normalisation_become_those_of_another() -> None:
    own, other = Normalisation(MEAN, STD), Normalisation((0.2, 0.3, 0.4), (0.5, 0.6, 0.7))
    pixels = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    unit = pixels / 255
    torch.testing.assert_close(own.from_unit(unit), own(pixels))
    torch.testing.assert_close(own.to_unit(own(pixels)), unit)
    torch.testing.assert_close(other.convert(own(pixels), own), other(pixels))
    images = own(pixels)
    assert own.convert(images, Normalisation(MEAN, STD)) is images, "nothing is rounded again"
