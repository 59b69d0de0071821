"""What this process may run on: cores, and a device."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["device_of", "usable_cores"]


def device_of(accelerator: str) -> "torch.device":
    """Where tensors and networks go, of machine.accelerator: auto takes a GPU if there is one.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
    """
    from lightning_fabric import Fabric

    device: torch.device = Fabric(accelerator=accelerator, devices=1).device
    return device


def usable_cores() -> int:
    """The cores this process may run on, of those that the machine has; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
