"""Whole images to network input."""

import numpy as np
import torch

from wsss.training.same_size import normalise

MEAN, STD = (0.1, 0.5, 0.7), (0.5, 0.25, 1.0)


def test_normalise_is_the_formula_per_channel_whatever_the_layout() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)
    expected = ((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    rows_last = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    plain = rows_last.contiguous()
    for images in (rows_last, plain):
        result = normalise(images, MEAN, STD)
        assert result.dtype == torch.float32
        assert result.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_allclose(result, expected, atol=1e-6)
    assert torch.equal(normalise(rows_last, MEAN, STD), normalise(plain, MEAN, STD))
    assert plain.dtype == torch.uint8, "the pixels stay"
