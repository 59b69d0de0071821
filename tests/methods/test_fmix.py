"""FMix masks: their share, their spectrum, and the published code's stripes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wsss.methods._mixing import draw_mix
from wsss.methods.fmix import FMixSettings, _amplitude, fmix_field, fmix_mask
from wsss.methods.objective import Objective
from wsss.models.classifier import Classifier
from wsss.registry import METHODS
from wsss.seeding import Step


def make_step(seed: int = 0) -> Step:
    return Step(np.random.default_rng(seed), 0.5, list("abcd"))


def power(
    size: tuple[int, int], count: int, *, decay: float = 3, compat: bool = False
) -> np.ndarray:
    """(count, H, W) of fields that range over [0, 1], without their means."""
    rng = np.random.default_rng(0)
    spectra = []
    for _ in range(count):
        field = fmix_field(size, decay, rng, compat=compat).double().numpy()
        field = (field - field.min()) / (field.max() - field.min())
        spectra.append(np.abs(np.fft.fft2(field - field.mean())) ** 2)
    return np.array(spectra)


def share_of_fine(spectra: np.ndarray, axis: int) -> float:
    """Mean share of a field's energy at two or more periods along an axis of the image."""
    periods = np.abs(np.fft.fftfreq(spectra.shape[axis + 1]) * spectra.shape[axis + 1])
    fine = np.compress(periods > 1.5, spectra, axis=axis + 1)
    return float((fine.sum(axis=(1, 2)) / spectra.sum(axis=(1, 2))).mean())


@settings(max_examples=60)
@given(st.integers(1, 17), st.integers(1, 17), st.floats(0, 1), st.integers(0, 9), st.booleans())
def test_a_mask_has_its_share(
    height: int, width: int, share: float, seed: int, compat: bool
) -> None:
    rng = np.random.default_rng(seed)
    field = fmix_field((height, width), 3, rng, compat=compat)
    mask = fmix_mask(field, share, rng)
    assert mask.shape == (height, width)
    assert abs(mask.float().mean().item() - share) <= 1 / (height * width) + 1e-6
    assert mask.all() or not mask.any() or field[mask].min() >= field[~mask].max()


def test_the_share_is_met_on_average() -> None:
    rng = np.random.default_rng(0)
    field = torch.randn(3, 3)
    means = [fmix_mask(field, 0.5, rng).float().mean().item() for _ in range(400)]
    assert set(np.round(np.array(means) * 9)) == {4, 5}
    assert np.mean(means) == pytest.approx(0.5, abs=0.01)


def test_right_masks_have_both_directions_and_stripes_have_one() -> None:
    right, stripes = power((64, 64), 300), power((64, 64), 100, compat=True)
    # published as about 4e-2, of a half plane whose column f_x = 0 has half the energy
    assert share_of_fine(right, 1) == pytest.approx(0.028, abs=0.008)
    assert share_of_fine(right, 0) == pytest.approx(share_of_fine(right, 1), rel=0.35)
    assert share_of_fine(stripes, 1) < 1e-9
    assert share_of_fine(stripes, 0) > 0.005


@pytest.mark.parametrize("size", [(16, 16), (15, 15)])
def test_power_is_the_same_in_all_directions_and_falls_as_it_should(size: tuple[int, int]) -> None:
    """At decay 1, so that many frequencies matter, and against |IFFT| of a whole plane."""
    rng = np.random.default_rng(0)
    fields = torch.stack([fmix_field(size, 1.0, rng) for _ in range(4000)]).double().numpy()
    spectra = (np.abs(np.fft.fft2(fields)) ** 2).mean(axis=0)
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in size), indexing="ij"))
    expected = 1 / np.maximum(frequency, 1 / max(size)) ** 2
    # frequencies that are their own mirror image have a real part alone, but of twice the power
    ratio = spectra / expected / (spectra[1, 2] / expected[1, 2])
    mirrored = [0, size[0] // 2] if size[0] % 2 == 0 else [0]
    paired = np.ones(size, bool)
    paired[np.ix_(mirrored, mirrored)] = False
    np.testing.assert_allclose(ratio[paired], 1, atol=0.17)


def test_the_mean_mask_is_flat_and_so_symmetric() -> None:
    rng = np.random.default_rng(0)
    masks = torch.stack(
        [fmix_mask(fmix_field((12, 12), 3, rng), 0.4, rng).float() for _ in range(4000)]
    )
    mean = masks.mean(dim=0)
    error = (0.4 * 0.6 / 4000) ** 0.5
    assert (mean - 0.4).abs().max() < 5 * error
    assert (mean - mean.T).abs().max() < 7 * error
    # neighbours agree alike in both directions
    down = (masks[:, 1:] == masks[:, :-1]).float().mean()
    along = (masks[:, :, 1:] == masks[:, :, :-1]).float().mean()
    assert abs(down - along) < 0.01
    assert down > 0.8


@pytest.mark.parametrize("size", [(12, 20), (20, 12), (9, 16), (1, 8), (8, 1)])
def test_compat_is_the_published_code_with_the_same_noise(size: tuple[int, int]) -> None:
    height, width = size
    seed = int(np.random.default_rng(7).integers(2**63))
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(height, width // 2 + 1, 2, generator=draw).double().numpy()
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum = noise / np.maximum(frequency, 1 / max(size))[..., None] ** 3
    if height > 1:
        published = spectrum[0] + 1j * spectrum[1]  # meant to be [..., 0] and [..., 1]
    else:
        published = spectrum[0].astype(complex)  # where the published code stops
    expected = np.fft.irfft2(published, s=size, axes=(0, 1))
    field = fmix_field(size, 3, np.random.default_rng(7), compat=True).numpy()
    if np.ptp(expected) > 0:
        expected, field = ((item - item.mean()) / item.std() for item in (expected, field))
        np.testing.assert_allclose(field, expected, atol=1e-4)


def test_images_are_cut_and_not_blended(
    make_model: Callable[[], Classifier], images: Tensor, labels: Tensor
) -> None:
    model = make_model().eval()
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method = METHODS.build(FMixSettings())
    method(model, images, labels, Objective("multi_label"), make_step())
    mix = draw_mix(images, 1.0, np.random.default_rng(0))
    own, partner = seen[0] == images, seen[0] == images[mix.order]
    assert (own | partner).all()
    moved = mix.order != torch.arange(4)
    assert moved.any()
    kept = own[moved].all(dim=1)  # in all channels
    assert (kept == kept[:1]).all()  # one mask for the batch
    assert kept[0].float().mean().item() == pytest.approx(mix.share, abs=1 / kept[0].numel())


def test_the_frequency_grid_is_made_once() -> None:
    _amplitude.cache_clear()
    rng = np.random.default_rng(0)
    for _ in range(3):
        fmix_field((8, 8), 3, rng)
    assert _amplitude.cache_info().misses == 1
