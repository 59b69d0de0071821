"""Batch norm folded into the convolution before it, for inference."""

import copy
import logging
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fuse_batchnorm"]

log = logging.getLogger(__name__)


def fuse_batchnorm(model: Any, example: torch.Tensor) -> Any:
    """A copy of `model` that computes the same with fewer passes over memory.

    A batch norm is folded where it follows a convolution among the children of one module.
    That is a guess about the data flow, so the result is run once; if its output differs,
    `model` itself is returned.

    Args:
        model: in eval mode; its output has `maps`. One without a batch norm behind a convolution
            is returned as it is.
        example: (1, 3, H, W) images to compare on.
    """
    fused, folded = copy.deepcopy(model), 0
    for parent in fused.modules():
        before: tuple[str, Any] = ("", None)
        for name, child in list(parent.named_children()):
            name_before, conv = before
            before = (name, child)
            if not isinstance(child, nn.modules.batchnorm._BatchNorm):
                continue
            if isinstance(conv, nn.Conv2d) and conv.out_channels == child.num_features:
                setattr(parent, name_before, fuse_conv_bn_eval(conv, child))
                # timm's batch norm brings its activation along
                rest = [
                    one
                    for one in (getattr(child, "drop", None), getattr(child, "act", None))
                    if one
                ]
                setattr(parent, name, nn.Sequential(*rest))
                folded += 1
    if not folded:
        return model
    fused = fused.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted, found = model(example).maps, fused(example).maps
    if torch.allclose(wanted, found, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
        return fused
    log.info("batch norm of %s can not be folded; running it as it is", type(model).__name__)
    return model
