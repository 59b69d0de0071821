"""CAMs of images with their high regions erased."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["ErasedCam", "ErasedCamSettings", "add_erased", "gaussian_blur", "erase"]


class ErasedCamSettings(Named):
    """What is erased, and what of the erased image counts."""

    name: Literal["ecs"] = "ecs"
    delta: NonNegativeFloat = 0.5
    """Cells above this share of a map's maximum are erased; from 1 on none is."""
    theta: float = Field(default=0.8, ge=0, le=1)
    """Cells of the erased image's map above this share of its maximum are added."""
    sigma: PositiveFloat = 20
    """Standard deviation of the blur that erases, in pixels of the image as the network sees it."""
    compat_overwrite: bool = False
    """Take the erased image's score on added cells also where it is the lower one, as the
    published code does; the greater of both otherwise."""


def gaussian_blur(images: "Tensor", sigma: float) -> "Tensor":
    """A Gaussian blur whose weights add up to 1 over the pixels that there are.

    Args:
        images: (B, C, H, W) of any size.
        sigma: in pixels.
    """
    import torch

    for axis in (2, 3):
        at = torch.arange(images.shape[axis], device=images.device, dtype=images.dtype)
        weights = torch.exp(-0.5 * ((at[:, None] - at) / sigma) ** 2)
        weights /= weights.sum(dim=1, keepdim=True)
        images = weights @ images if axis == 2 else images @ weights.T
    return images


def erase(images: "Tensor", blurs: "Tensor", cams: "Tensor", delta: float) -> "Tensor":
    """The images, blurred where their map is above `delta`.

    Args:
        images: (P, C, H, W).
        blurs: (P, C, H, W), the same images blurred.
        cams: (P, h, w), their greatest value 1; stretched over the image.
        delta: threshold of a map.

    Returns:
        (P, C, H, W): a pixel is the image's or the blur's, nothing between.
    """
    import torch
    from torch.nn import functional

    stretched = functional.interpolate(cams[:, None], images.shape[2:], mode="bilinear")
    return torch.where(stretched > delta, blurs, images)


def add_erased(
    cams: "Tensor", erased: "Tensor", *, delta: float, theta: float, compat_overwrite: bool = False
) -> "Tensor":
    """What the erased image shows, added outside of what was erased.

    Args:
        cams: (P, h, w), each with a greatest value of 1.
        erased: (P, h, w) of the erased images, likewise.
        delta: cells of `cams` above it were erased and keep their score.
        theta: cells of `erased` above it are added.
        compat_overwrite: see `ErasedCamSettings`.

    Returns:
        (P, h, w).

    Example:
        >>> import torch
        >>> cams, erased = torch.tensor([[[1.0, 0.4, 0.1]]]), torch.tensor([[[0.9, 0.3, 1.0]]])
        >>> add_erased(cams, erased, delta=0.5, theta=0.2)
        tensor([[[1.0000, 0.4000, 1.0000]]])
        >>> add_erased(cams, erased, delta=0.5, theta=0.2, compat_overwrite=True)
        tensor([[[1.0000, 0.3000, 1.0000]]])
    """
    import torch

    added = (erased > theta) & (cams <= delta)
    return torch.where(added, erased if compat_overwrite else torch.maximum(cams, erased), cams)


@CAM_METHODS.register(ErasedCamSettings)
class ErasedCam:
    """The CAM, and that of the image without it (Sun et al., ICCV 2021; at inference alone).

    Every (image, class) pair has an erased image of its own; all of them run together. Maps are
    multiplied by the greatest score of their CAM in the end, so that they add up over scales.
    """

    needs_gradients = False
    output_alone: Literal[True] = True

    def __init__(self, settings: ErasedCamSettings) -> None:
        self.settings = settings

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        import torch

        from wsss.models.pooling import peaks

        settings = self.settings
        output = model(images)
        maps = output.maps[rows, columns].float().relu()
        if settings.delta >= 1 or not len(rows):
            return maps, output.logits
        highest = peaks(maps)
        cams = maps / highest
        blurs = gaussian_blur(images, settings.sigma)
        pictures = erase(images[rows], blurs[rows], cams, settings.delta)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        pairs = torch.arange(len(rows), device=rows.device)
        erased = model(pictures).maps[pairs, columns].float().relu()
        joined = add_erased(
            cams,
            erased / peaks(erased),
            delta=settings.delta,
            theta=settings.theta,
            compat_overwrite=settings.compat_overwrite,
        )
        return joined * highest, output.logits
