"""Batch norm over the batch of all processes, so that several devices train as one does."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["SharedBatchNorm"]


class SharedBatchNorm(TorchFunctionMode):
    """Within the block, batch norm that learns takes its statistics over all processes.

    It is a matter of the block and not of the modules, so that any network keeps its own kinds of
    batch norm, and its files. All processes must come to the same batch norms in the same order;
    one may have no image in a batch that others have images in. It runs on any device.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _batch_norm(
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As torch.nn.functional.batch_norm, of (B, C, ...)."""
    if not training:
        return functional.batch_norm(
            images, running_mean, running_var, weight, bias, False, momentum, eps
        )
    mean, var, count = _statistics(images.detach())
    # a process that has two asks nobody: to look at a value is to wait for the device
    if images.numel() <= images.shape[1] and count == 1:
        raise ValueError("Expected more than 1 value per channel when training")
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            taken = momentum * (count > 0).to(running_mean.dtype)  # there may be no image at all
            running_mean.lerp_(mean, taken)
            running_var.lerp_(var * (count / (count - 1).clamp(min=1)), taken)
    normalised: Tensor = _Normalise.apply(images, weight, bias, mean, var, count, eps)
    return normalised


def _statistics(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance per channel, (C,) float32, and the number of values behind them."""
    import torch.distributed as dist

    dims = [axis for axis in range(images.ndim) if axis != 1]
    number = images.numel() // images.shape[1]
    if number:
        var, mean = torch.var_mean(images.float(), dims, correction=0)
    else:
        var = mean = torch.zeros(images.shape[1], device=images.device)
    own = torch.cat([mean, var, mean.new_tensor([number])])
    found = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(found, own)
    of_all, width = torch.stack(found), len(mean)  # (processes, 2 C + 1)
    means, variances, counts = of_all[:, :width], of_all[:, width:-1], of_all[:, -1:]
    count = counts.sum()
    mean = (means * counts).sum(0) / count.clamp(min=1)
    var = ((variances + (means - mean).square()) * counts).sum(0) / count.clamp(min=1)
    return mean, var, count


class _Normalise(torch.autograd.Function):
    """(x - mean) / std * weight + bias, of whose gradient mean and std take their part."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(images, weight, mean, torch.rsqrt(var + eps), count)
        with torch.no_grad():
            return functional.batch_norm(images, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        import torch.distributed as dist

        images, weight, mean, rate, count = ctx.saved_tensors
        dims = [axis for axis in range(images.ndim) if axis != 1]
        shape = [1, -1] + [1] * (images.ndim - 2)
        gradient = gradients[0].float()
        normalised = (images.float() - mean.view(shape)) * rate.view(shape)
        of_bias, of_weight = gradient.sum(dims), (gradient * normalised).sum(dims)
        sums = torch.cat([of_bias, of_weight])
        dist.all_reduce(sums)
        mean_bias, mean_weight = (sums / count.clamp(min=1)).chunk(2)
        scale = rate if weight is None else rate * weight.float()
        inner = gradient - mean_bias.view(shape) - normalised * mean_weight.view(shape)
        of_images = (inner * scale.view(shape)).to(images.dtype)
        given = None if weight is None else of_weight.to(weight.dtype)
        return of_images, given, None if weight is None else of_bias.to(weight.dtype), *[None] * 4
