"""Convolution, batch norm and activation in one pass over memory, for inference."""

import copy
import logging
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["alike", "convolutions_and_norms", "fuse_batchnorm"]

Place: TypeAlias = tuple[nn.Module, str, Any]
"""A module that holds another one, the name that it has there, and that one."""

log = logging.getLogger(__name__)

ONE_PASS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
}
"""Activations that oneDNN applies while a convolution writes its result: name and arguments."""


def in_one_pass(dtype: torch.dtype) -> bool:
    """Whether oneDNN has the operator for numbers of a kind on this processor.

    It refuses bfloat16 and float16 where the processor has no instructions for them, as those
    without AVX-512 or AMX have not; PyTorch's own convolutions then compute by other means.
    """
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype == torch.float32


class ActivatedConv2d(nn.Module):
    """A convolution and its activation, in one pass on a CPU where no gradient is wanted.

    Args:
        conv: padded with zeros, by numbers of pixels or as TensorFlow pads.
        act: one of `ONE_PASS`.
    """

    def __init__(self, conv: nn.Conv2d, act: nn.Module) -> None:
        super().__init__()
        self.conv, self.act = conv, act
        self.how, self.arguments = ONE_PASS[type(act)]

    @staticmethod
    def fits(conv: nn.Conv2d, act: nn.Module) -> bool:
        """Whether a pair can be joined; not convolutions that pad in a way of their own."""
        plain = type(conv) in (nn.Conv2d, Conv2dSame) and conv.padding_mode == "zeros"
        return plain and not isinstance(conv.padding, str) and type(act) in ONE_PASS

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        conv = self.conv
        # the operator knows nothing of autocast
        lower = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if lower else conv.weight.dtype
        if (
            maps.device.type != "cpu"
            or not torch.backends.mkldnn.enabled
            or torch.is_grad_enabled()
            or not in_one_pass(dtype)
        ):
            in_two: torch.Tensor = self.act(conv(maps))
            return in_two
        assert conv.bias is not None  # batch norm is folded into it
        assert not isinstance(conv.padding, str)
        padding, (top, left) = conv.padding, (0, 0)
        if isinstance(conv, Conv2dSame):
            axes = zip(maps.shape[2:], conv.kernel_size, conv.stride, conv.dilation, strict=True)
            padding, (top, left) = zip(*(same_padding(*axis) for axis in axes), strict=True)
        in_one: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps.to(dtype), conv.weight.to(dtype), conv.bias.to(dtype), padding, conv.stride,
            conv.dilation, conv.groups, self.how, self.arguments, "",
        )  # fmt: skip
        return in_one[:, :, top:, left:] if top or left else in_one


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Padding alike at both ends in place of TensorFlow's, which may have a pixel more at the end.

    An operator that pads both ends alike then need not be given a padded copy.

    Args:
        size: of the maps along an axis, in pixels.
        kernel: of the convolution, as the rest.
        stride: as above.
        dilation: as above.

    Returns:
        The pixels at each end, and how many of the first results are not wanted then: 0 or 1.

    Example:
        >>> same_padding(241, 3, 2, 1), same_padding(240, 3, 2, 1)
        ((1, 0), (2, 1))
    """
    cells = math.ceil(size / stride)
    total = max((cells - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return (total // 2, 0) if total % 2 == 0 else (total // 2 + stride, 1)


def convolutions_and_norms(network: nn.Module) -> Iterator[tuple[Place, Place]]:
    """Batch norms that stand right behind a convolution among the children of one module.

    Of modules that run one after the other, the last one counts as standing there.

    Yields:
        The convolution and the batch norm, each with the module that holds it and its name there.
    """
    for parent in network.modules():
        for (first_name, first), (norm_name, norm) in pairwise(parent.named_children()):
            holder, conv_name, conv = _last(parent, first_name, first)
            if (
                isinstance(norm, nn.modules.batchnorm._BatchNorm)
                and isinstance(conv, nn.Conv2d)
                and conv.out_channels == norm.num_features
            ):
                yield (holder, conv_name, conv), (parent, norm_name, norm)


def _last(parent: nn.Module, name: str, module: nn.Module) -> Place:
    """A module, or of those that run one after the other the last."""
    while isinstance(module, nn.Sequential) and len(module):
        parent, (*_, (name, module)) = module, module.named_children()
    return parent, name, module


def _is_empty(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and not len(module)


def _join_activations(network: nn.Module) -> None:
    """Join convolutions with the activations that run right after them."""
    for parent in network.modules():
        if not isinstance(parent, nn.Sequential):
            continue
        # a batch norm that was folded is an empty sequence
        steps = [(name, step) for name, step in parent.named_children() if not _is_empty(step)]
        for (name, first), (act_name, act) in pairwise(steps):
            holder, conv_name, conv = _last(parent, name, first)
            if (
                isinstance(conv, nn.Conv2d)
                and conv.bias is not None
                and ActivatedConv2d.fits(conv, act)
            ):
                setattr(holder, conv_name, ActivatedConv2d(conv, act))
                setattr(parent, act_name, nn.Identity())


def alike(wanted: torch.Tensor, found: torch.Tensor) -> bool:
    """Whether a network that was folded gives the same but for rounding."""
    return torch.allclose(wanted, found, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def fuse_batchnorm(model: Any, example: torch.Tensor) -> Any:
    """A copy of `model` that computes the same with fewer passes over memory.

    A batch norm is folded where it follows a convolution among the children of one module, and
    the activation that timm's batch norm brings along is applied with it. That is a guess about
    the data flow, so the result is run once; if its output differs, `model` itself is returned.
    Outputs of the layers inside are no longer those of the original.

    Args:
        model: in eval mode; its output is a tensor, or has one as `maps`. One without a batch norm
            behind a convolution is returned as it is.
        example: (1, 3, H, W) images to compare on.
    """
    fused, folded = copy.deepcopy(model), 0
    for (holder, conv_name, conv), (parent, norm_name, norm) in list(convolutions_and_norms(fused)):
        conv = fuse_conv_bn_eval(conv, norm)
        rest: list[Any] = []
        if isinstance(norm, BatchNormAct2d):
            rest = [norm.drop, norm.act]
            if isinstance(norm.drop, nn.Identity) and ActivatedConv2d.fits(conv, rest[1]):
                conv, rest = ActivatedConv2d(conv, rest[1]), []
        setattr(holder, conv_name, conv)
        setattr(parent, norm_name, nn.Sequential(*rest))
        folded += 1
    if not folded:
        return model
    _join_activations(fused)
    fused = fused.to(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            wanted, found = model(example), fused(example)
    except (AssertionError, RuntimeError, ValueError):  # as networks say it that are of one size
        return model
    if alike(getattr(wanted, "maps", wanted), getattr(found, "maps", found)):
        return fused
    log.info("batch norm of %s cannot be folded; running it as it is", type(model).__name__)
    return model
