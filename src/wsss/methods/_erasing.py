"""Maps of images whose high regions are erased, as targets of training."""

from typing import TYPE_CHECKING

from wsss.checks import full_key
from wsss.cores import world_size

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["erased_targets", "gaussian_blur"]


def erased_targets(
    model: "Classifier",
    images: "Tensor",
    maps: "Tensor",
    tags: "Tensor",
    *,
    delta: float,
    radius: int,
    exclusive: bool,
) -> "Tensor":
    """The CAM of each tagged class, or that of the image without it where that is higher.

    Every (image, tag) has an erased image of its own. In training, batch norm that is not frozen
    takes statistics of these too.

    Args:
        model: asked without a gradient.
        images: (B, 3, H, W), sides of more than `radius` pixels.
        maps: (B, L, h, w) of the images.
        tags: (B, K) bool, of the first K of the L classes.
        delta: where a CAM is above this share of its maximum, the image is erased.
        radius: of the Gaussian kernel that erases by blurring, in pixels; see `gaussian_blur`.
        exclusive: an image has one class, so that what the model sees in the erased image is
            its most probable of the K classes there; otherwise it is the tag's.

    Returns:
        (B, K, h, w) float32 in [0, 1]; 0 for classes without a tag.

    References:
        ECS-Net (Sun et al., ICCV 2021), without its rule against noise.
    """
    import torch
    from torch.nn import functional

    targets = maps.new_zeros(*tags.shape, *maps.shape[2:], dtype=torch.float32)
    rows, columns = tags.nonzero(as_tuple=True)
    if not len(rows) and world_size() == 1:  # several meet in the batch norms of the network
        return targets
    with torch.no_grad():
        cams = _scaled(maps[rows, columns])
        stretched = functional.interpolate(cams[:, None], images.shape[2:], mode="bilinear")
        pictures = torch.where(stretched > delta, gaussian_blur(images, radius)[rows], images[rows])
        output = model(pictures)
        if exclusive:
            columns_there = output.logits[:, : tags.shape[1]].argmax(dim=1)
        else:
            columns_there = columns
        pairs = torch.arange(len(rows), device=rows.device)
        erased = _scaled(output.maps[pairs, columns_there])
        targets[rows, columns] = torch.maximum(cams, erased)
    return targets


def gaussian_blur(images: "Tensor", radius: int) -> "Tensor":
    """A Gaussian blur with OpenCV's sigma, 0.3 radius + 0.5; beyond the border images mirror.

    Two products with banded matrices. As a convolution with one group per channel, which is what
    torchvision has, it takes minutes where a CPU trains with bfloat16.

    Args:
        images: (B, C, H, W), sides of more than `radius` pixels.
        radius: of the kernel, in pixels.

    Returns:
        (B, C, H, W) float32.

    Raises:
        ValueError: the images are too small.
    """
    import torch

    if min(images.shape[2:]) <= radius:
        raise ValueError(
            f"a blur of radius {radius} needs images of more pixels a side, but they have "
            f"{tuple(images.shape[2:])}; lower {full_key('ecs_radius')} or take larger ones"
        )
    images = images.float()  # under bf16-mixed they need not be
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / (0.3 * radius + 0.5)) ** 2)
    kernel = kernel / kernel.sum()
    with torch.autocast(images.device.type, enabled=False):
        for axis in (2, 3):
            length = images.shape[axis]
            at = torch.arange(length, device=images.device)
            taken = (at[:, None] + offsets).abs()  # mirrored at 0, then at the last pixel
            taken = torch.minimum(taken, 2 * (length - 1) - taken)
            weights = images.new_zeros(length, length)
            weights.scatter_add_(1, taken, kernel.expand(length, -1).contiguous())
            images = weights @ images if axis == 2 else images @ weights.T
    return images


def _scaled(maps: "Tensor") -> "Tensor":
    """(P, h, w) float32, each divided by its maximum; empty where nothing is above 0."""
    from wsss.models.pooling import peaks

    maps = maps.float().relu()
    return maps / peaks(maps)
