"""FMix: images cut together along blobs of low-frequency noise."""

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import PositiveFloat

from wsss.methods._mixing import MixSettings, draw_mix, mixed_losses
from wsss.methods.base import Method
from wsss.registry import METHODS
from wsss.seeding import Step

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier

__all__ = ["FMix", "FMixSettings", "fmix_field", "fmix_mask"]


class FMixSettings(MixSettings):
    name: Literal["fmix"] = "fmix"
    alpha: PositiveFloat = 1
    """Shares are drawn from Beta(alpha, alpha): near 0 or 1 if small, uniform at 1."""
    decay: PositiveFloat = 3
    """The noise falls with frequency to this power: a larger one gives larger blobs."""
    compat_axis: bool = False
    """Takes the noise from the wrong axis, as the authors' NumPy code does, which gives stripes
    instead of blobs."""


@METHODS.register(FMixSettings)
class FMix(Method[FMixSettings]):
    """One binary mask per batch decides which pixels come from the partner.

    References:
        FMix (Harris et al., 2020), its masks without soft edges.
    """

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        import torch

        settings, rng = self.settings, step.rng
        mix = draw_mix(images, settings.alpha, rng)
        size = (images.shape[2], images.shape[3])
        field = fmix_field(size, settings.decay, rng, images.device, compat=settings.compat_axis)
        mask = fmix_mask(field, mix.share, rng)
        mixed = torch.where(mask, images, images[mix.order])
        return mixed_losses(objective, model(mixed), labels, mix, settings)


def fmix_field(
    size: tuple[int, int],
    decay: float,
    rng: np.random.Generator,
    device: "torch.device | str" = "cpu",
    *,
    compat: bool = False,
) -> "Tensor":
    """Periodic noise whose amplitude falls with frequency, alike along both axes.

    Args:
        size: (height, width).
        decay: amplitude ~ 1 / frequency^decay.
        rng: seeds the device's own generator, so that devices differ in what they draw.
        device: where to draw.
        compat: takes real and imaginary parts from the first two rows of the spectrum in place
            of its last axis, which leaves horizontal frequencies of 0 and 1 alone.

    Returns:
        (height, width) float32, of no particular scale.
    """
    import torch

    draw = torch.Generator(device).manual_seed(int(rng.integers(2**63)))
    amplitude = _amplitude(size, decay, str(device), not compat)
    noise = torch.randn(*amplitude.shape, 2, generator=draw, device=device)  # (h, w // 2 + 1, 2)
    if compat:
        rows = (amplitude[:2, :, None] * noise[:2]).unbind()  # (w // 2 + 1, 2) each
        real, imaginary = rows if len(rows) == 2 else (rows[0], torch.zeros_like(rows[0]))
        spectrum = torch.complex(real, imaginary)
    else:
        spectrum = amplitude * torch.view_as_complex(noise)
    field: Tensor = torch.fft.irfft2(spectrum, s=size)
    return field


def fmix_mask(field: "Tensor", share: float, rng: np.random.Generator) -> "Tensor":
    """Set the highest pixels of a field.

    Args:
        field: (H, W).
        share: of the pixels to set, in [0, 1]; what is left of a pixel is rounded up or down
            with equal chance.
        rng: rounds.

    Returns:
        (H, W) bool.
    """
    import torch

    exact = share * field.numel()
    count = int(np.ceil(exact) if rng.random() < 0.5 else np.floor(exact))
    mask = torch.zeros(field.numel(), dtype=torch.bool, device=field.device)
    mask[field.flatten().topk(count, sorted=False).indices] = True
    return mask.view_as(field)


@lru_cache(maxsize=8)
def _amplitude(size: tuple[int, int], decay: float, device: str, isotropic: bool) -> "Tensor":
    """(h, w // 2 + 1) standard deviations of a real field's half spectrum."""
    import torch

    height, width = size
    f_y, f_x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    frequency = np.maximum(np.hypot(f_y, f_x), 1 / max(height, width))
    amplitude = frequency**-decay / frequency.min() ** -decay
    if isotropic:
        # columns in between stand for -f_x too and would count twice, as a real part of the
        # whole plane's inverse does not
        alone = (f_x == 0) | (f_x == 0.5)
        amplitude = amplitude * np.where(alone, 1, np.sqrt(0.5))
    return torch.from_numpy(amplitude.astype(np.float32)).to(device)
