"""Optimisers with parameter groups, and the learning rate over the steps of a run."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from wsss.config.sections import OptimizerSettings

__all__ = ["lr_factor", "make_optimizer"]


def lr_factor(step: int, total: int, settings: OptimizerSettings) -> float:
    """The share of the initial rate at one step; every group follows it.

    Args:
        step: 0-based, below `total`.
        total: steps of the whole run.
        settings: schedule, power and warm-up.

    Example:
        >>> poly = OptimizerSettings(schedule="poly", poly_power=0.9)
        >>> round(0.1 * lr_factor(50, 100, poly), 7)
        0.0535887
    """
    warmup = round(settings.warmup_share * total)
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    if settings.schedule == "poly":
        return float((1 - progress) ** settings.poly_power)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0


def make_optimizer(
    model: nn.Module, new_modules: Iterable[nn.Module], settings: OptimizerSettings
) -> torch.optim.Optimizer:
    """An optimiser with groups of old and new parameters, biases and others, decaying or not.

    New layers learn at `head_lr_factor`, biases at `bias_lr_factor` times their group's rate.
    Weight decay is for weight matrices and kernels alone, without what a network itself leaves out,
    such as embeddings of positions. Frozen parameters are left out.

    Args:
        model: whose parameters learn.
        new_modules: the parts of `model` that start from random values.
        settings: rates and algorithm.
    """
    new = {id(parameter) for module in new_modules for parameter in module.parameters()}
    spared = {
        f"{prefix}.{name}".removeprefix(".")
        for prefix, module in model.named_modules()
        for name in (module.no_weight_decay() if hasattr(module, "no_weight_decay") else ())
    }
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_bias = name.endswith(".bias")
            decays = parameter.ndim > 1 and not is_bias and name not in spared
            groups.setdefault((id(parameter) in new, is_bias, decays), []).append(parameter)
    options = [
        {
            "params": parameters,
            "lr": settings.lr
            * (settings.head_lr_factor if is_new else 1)
            * (settings.bias_lr_factor if is_bias else 1),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (is_new, is_bias, decays), parameters in sorted(groups.items())
    ]
    if settings.algorithm == "adamw":
        return torch.optim.AdamW(options, betas=(settings.momentum, 0.999))
    return torch.optim.SGD(options, momentum=settings.momentum)
