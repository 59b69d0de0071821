"""timm's VGG networks at a smaller output stride, with the weights they have."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["dilate_vgg", "vgg_stages"]


class _DensePool(nn.Module):
    """The maximum over 2x2 cells, `dilation` apart, at every cell.

    Beyond the right and lower border there is nothing, so that the size stays.
    """

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        gap = self.dilation
        features = functional.pad(features, (0, gap, 0, gap), value=float("-inf"))
        return functional.max_pool2d(features, 2, stride=1, dilation=gap)


def dilate_vgg(net: Any, output_stride: int) -> None:
    """Make the last poolings of a VGG network keep the size, and dilate what follows them.

    In every cell of the finer map whose row and column are multiples of 32 / `output_stride`,
    the value is exactly that of the network as it was (for images in multiples of 32 pixels,
    up to the border): a convolution or pooling behind a pooling that no longer skips cells
    looks that much further apart. The poolings therefore are dilated like the convolutions;
    PSA and DeepLab took a padded 3x3 pooling in their place, for which this does not hold.

    Args:
        net: of timm, at stride 32; changed in place. Weights and their names stay.
        output_stride: 8, 16 or 32.

    Raises:
        ValueError: another stride.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"a VGG network has output_stride 8, 16 or 32, got {output_stride}")
    stride, dilation = 1, 1
    for name, layer in list(net.features.named_children()):
        if isinstance(layer, nn.MaxPool2d):
            if stride < output_stride:
                stride *= 2
            else:
                net.features.add_module(name, _DensePool(dilation))
                dilation *= 2
        elif isinstance(layer, nn.Conv2d):
            layer.dilation = layer.padding = (dilation, dilation)
    for info in net.feature_info:
        info["reduction"] = min(info["reduction"], output_stride)


def vgg_stages(net: Any) -> dict[str, int]:
    """The stage of each parameter of `net.features`: the number of poolings ahead of it.

    timm counts every layer of a VGG network as a stage of its own.
    """
    stages: dict[str, int] = {}
    poolings = 0
    for name, layer in net.features.named_children():
        poolings += isinstance(layer, nn.MaxPool2d | _DensePool)
        stages |= {
            f"features.{name}.{parameter}": poolings for parameter, _ in layer.named_parameters()
        }
    return stages
