"""The kernels of a dense CRF, wherever one is run."""

from typing import Any

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from wsss.settings import Settings

__all__ = ["CrfKernelSettings"]


class CrfKernelSettings(Settings):
    n_iters: NonNegativeInt = 10
    """Mean-field updates."""
    sigma_xy: PositiveFloat = 50
    """Standard deviation of the bilateral kernel over position, in pixels."""
    sigma_rgb: PositiveFloat = 5
    """Standard deviation of the bilateral kernel over colour, in levels of an image in 0..255."""
    compat_bilateral: NonNegativeFloat = 10
    """Weight of the bilateral kernel."""
    sigma_gaussian: PositiveFloat = 3
    """Standard deviation of the position-only kernel, in pixels."""
    compat_gaussian: NonNegativeFloat = 3
    """Weight of the position-only kernel."""

    def kernels(self) -> dict[str, Any]:
        """These settings alone, as arguments of `wsss.densecrf.dense_crf`."""
        return {name: getattr(self, name) for name in CrfKernelSettings.model_fields}
