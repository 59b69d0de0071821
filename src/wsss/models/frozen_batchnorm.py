"""Batch norm that does not learn, folded into the convolutions before it while a network trains."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from torch import Tensor, nn

from wsss.models.dilated_depthwise import DilatedDepthwiseConv2d
from wsss.models.fusion import alike, convolutions_and_norms

__all__ = ["folded_batchnorm"]

log = logging.getLogger(__name__)


@contextmanager
def folded_batchnorm(network: nn.Module) -> Iterator[int]:
    """Run a network with less memory and fewer passes over it, for as long as the context lasts.

    A batch norm in eval mode whose weights do not learn multiplies each channel by a number s
    and adds another, so that s (W * x) + t = (s W) * x + t: the convolution before it does both,
    and its own weights learn as before. The network's modules, their names and their states stay;
    sums are rounded in another order.

    A batch norm is taken to follow a convolution that stands right before it among the children of
    one module. That is a guess about the data flow, so the network is run once; if its output
    differs, or if it takes no small image, nothing is folded. Neither is where nothing is frozen.

    Args:
        network: (B, 3, H, W) images to maps, one or several.

    Yields:
        How many batch norms are folded.
    """
    pairs = list(_pairs(network))
    wanted = _outputs(network) if pairs else None
    if wanted is None:
        yield 0
        return
    before = [(module, type(module)) for pair in pairs for module in pair]
    for conv, norm in pairs:
        conv.__class__, norm.__class__ = _FOLDED[type(conv)], _FOLDED[type(norm)]
        conv._norm = (norm,)  # in a tuple, so that it is no module of the convolution
    try:
        found = _outputs(network)
        if found is not None and all(map(alike, wanted, found)):
            yield len(pairs)
            return
    finally:
        for module, kind in before:
            module.__class__ = kind
        for conv, _ in pairs:
            del conv._norm
    log.info("frozen batch norm of %s cannot be folded; it runs as it is", type(network).__name__)
    yield 0


class _Folding:
    """A convolution that does what the batch norm behind it would do."""

    _norm: tuple[nn.BatchNorm2d]

    def forward(self: Any, maps: Tensor) -> Any:
        norm = self._norm[0]
        if norm.training:  # of the batch, which nobody knows before
            return super().forward(maps)  # type: ignore[misc]
        factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * factor
        if self.bias is not None:
            shift = shift + self.bias * factor
        weight = self.weight * factor[:, None, None, None]
        return self._convolved(maps, weight, shift)


class _FoldingConv2d(_Folding, nn.Conv2d):
    def _convolved(self, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        convolved: Tensor = self._conv_forward(maps, weight, bias)
        return convolved


class _FoldingDilatedDepthwiseConv2d(_FoldingConv2d, DilatedDepthwiseConv2d):
    pass


class _FoldingConv2dSame(_Folding, Conv2dSame):  # type: ignore[misc]  # timm has no types
    def _convolved(self, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        settings = (self.stride, self.padding, self.dilation, self.groups)
        convolved: Tensor = conv2d_same(maps, weight, bias, *settings)
        return convolved


class _FoldedBatchNorm2d(nn.BatchNorm2d):
    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps) if self.training else maps


class _FoldedBatchNormAct2d(BatchNormAct2d):  # type: ignore[misc]
    def forward(self, maps: Tensor) -> Tensor:
        activated: Tensor = super().forward(maps) if self.training else self.act(self.drop(maps))
        return activated


_FOLDED: dict[type[nn.Module], Any] = {
    nn.Conv2d: _FoldingConv2d,
    DilatedDepthwiseConv2d: _FoldingDilatedDepthwiseConv2d,
    Conv2dSame: _FoldingConv2dSame,
    nn.BatchNorm2d: _FoldedBatchNorm2d,
    BatchNormAct2d: _FoldedBatchNormAct2d,
}


def _pairs(network: nn.Module) -> Iterator[tuple[Any, Any]]:
    """Convolutions and the frozen batch norms right behind them."""
    for (_, _, conv), (_, _, norm) in convolutions_and_norms(network):
        if (
            {type(conv), type(norm)} <= _FOLDED.keys()
            and norm.track_running_stats
            and norm.affine
            and not any(parameter.requires_grad for parameter in norm.parameters())
        ):
            yield conv, norm


def _outputs(network: nn.Module) -> list[Tensor] | None:
    """What the network gives for one small image, in eval mode; None where it takes none such."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            found = network(image.to(next(network.parameters())))
    except (AssertionError, RuntimeError, ValueError):  # as networks say it that are of one size
        return None
    finally:
        network.train(training)
    return [found] if torch.is_tensor(found) else list(found)
