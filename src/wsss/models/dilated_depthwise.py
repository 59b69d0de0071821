"""The gradients of dilated depthwise convolutions, which oneDNN has no kernel of its own for."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DilatedDepthwiseConv2d", "quick_dilated_depthwise"]

_FEW = 4  # cells of a phase along an axis, below which most of it is the rim


@contextmanager
def quick_dilated_depthwise(network: nn.Module) -> Iterator[int]:
    """Let the dilated depthwise convolutions of a network learn faster on a CPU.

    For as long as the context lasts their gradients are computed by `DilatedDepthwiseConv2d`: the
    same sums, rounded in another order. The network's modules, names and states stay.

    Yields:
        How many convolutions these are.
    """
    found: list[Any] = [module for module in network.modules() if _is_one(module)]
    try:
        for conv in found:
            conv.__class__ = DilatedDepthwiseConv2d
        yield len(found)
    finally:
        for conv in found:
            conv.__class__ = nn.Conv2d


def _is_one(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.groups == module.in_channels == module.out_channels > 1
        and module.kernel_size == (3, 3)
        and module.stride == (1, 1)
        and module.dilation[0] == module.dilation[1] > 1
        and module.padding == module.dilation
        and module.padding_mode == "zeros"
    )


class DilatedDepthwiseConv2d(nn.Conv2d):
    """A dilated 3 x 3 convolution of each channel by itself that keeps the size of maps.

    Cells whose distance is a multiple of the dilation d see one another alone. So an input is d^2
    smaller ones, its phases, of which each is convolved without dilation, for which there are
    kernels. Where a phase has few cells, each of the nine weights is taken by itself instead, and
    those that reach over the rim everywhere are left out.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if (
            input.device.type == "cpu"
            and input.dtype == weight.dtype
            and not torch.is_autocast_enabled("cpu")
            and torch.is_grad_enabled()
            and (input.requires_grad or weight.requires_grad)
        ):
            quick: Tensor = _Convolve.apply(input, weight, bias, self.dilation[0])
            return quick
        plain: Tensor = super()._conv_forward(input, weight, bias)
        return plain


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor | None, d: int) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.dilation = d
        return functional.conv2d(maps, weight, bias, 1, d, d, len(weight))

    @staticmethod
    def backward(
        ctx: Any, slopes: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        maps, weight = ctx.saved_tensors
        d, wanted = ctx.dilation, ctx.needs_input_grad
        by_phases = min(maps.shape[2:]) > (_FEW - 1) * d
        of_maps, of_weight = (_by_phases if by_phases else _by_weights)(
            slopes, maps, weight, d, (wanted[0], wanted[1])
        )
        return of_maps, of_weight, slopes.sum(dim=(0, 2, 3)) if wanted[2] else None, None


def _by_phases(
    slopes: Tensor, maps: Tensor, weight: Tensor, d: int, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    of_phases, of_weight, _ = torch.ops.aten.convolution_backward(
        _phases(slopes, d), _phases(maps, d), weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0],
        len(weight), [*wanted, False],
    )  # fmt: skip
    if not wanted[0]:
        return None, of_weight
    count, channels, height, width = maps.shape
    h, w = of_phases.shape[2:]
    cells = of_phases.permute(0, 2, 3, 1).reshape(count, d, d, h, w, channels)
    of_maps = cells.permute(0, 3, 1, 4, 2, 5).reshape(count, h * d, w * d, channels)
    return of_maps[:, :height, :width].permute(0, 3, 1, 2), of_weight


def _phases(maps: Tensor, d: int) -> Tensor:
    """(B, C, H, W) to (B d d, C, H / d, W / d), with zeros where d does not divide a side."""
    count, channels, height, width = maps.shape
    h, w = -(-height // d), -(-width // d)
    padded = functional.pad(maps, (0, w * d - width, 0, h * d - height))
    cells = padded.permute(0, 2, 3, 1).reshape(count, h, d, w, d, channels)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(-1, h, w, channels).permute(0, 3, 1, 2)


def _by_weights(
    slopes: Tensor, maps: Tensor, weight: Tensor, d: int, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    of_maps = torch.zeros_like(maps) if wanted[0] else None
    of_weight = torch.zeros_like(weight) if wanted[1] else None
    height, width = maps.shape[2:]
    for row, column in product(range(3), range(3)):
        down, right = (row - 1) * d, (column - 1) * d
        if abs(down) >= height or abs(right) >= width:
            continue
        to = slopes[:, :, *_inside(-down, -right, height, width)]
        here = _inside(down, right, height, width)
        if of_maps is not None:
            of_maps[:, :, *here].addcmul_(to, weight[None, :, 0, row, column, None, None])
        if of_weight is not None:
            of_weight[:, 0, row, column] = (to * maps[:, :, *here]).sum(dim=(0, 2, 3))
    return of_maps, of_weight


def _inside(down: int, right: int, height: int, width: int) -> tuple[slice, slice]:
    """The cells of a map that are cells of it again when they are moved back by so many."""
    return (
        slice(max(0, down), min(height, height + down)),
        slice(max(0, right), min(width, width + right)),
    )
