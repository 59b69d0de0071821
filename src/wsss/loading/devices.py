"""What a stage runs on: a device, precision, and processes that load images."""

from typing import TYPE_CHECKING

from wsss.cores import usable_cores

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

    from wsss.config.sections import MachineSettings

__all__ = ["device_of", "make_fabric", "num_workers"]


def device_of(accelerator: str) -> "torch.device":
    """Where tensors and networks go, of machine.accelerator: auto takes a GPU if there is one.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
    """
    from lightning_fabric import Fabric

    device: torch.device = Fabric(accelerator=accelerator, devices=1).device
    return device


def make_fabric(machine: "MachineSettings", precision: str) -> "Fabric":
    """Devices, precision and processes, launched."""
    from lightning_fabric import Fabric

    # a method may leave parts of the network out of a step, or run it more than once
    strategy = "ddp_find_unused_parameters_true" if machine.devices > 1 else "auto"
    fabric = Fabric(
        accelerator=machine.accelerator,
        strategy=strategy,
        devices=machine.devices,
        precision=precision,
    )
    fabric.launch()
    return fabric


def num_workers(machine: "MachineSettings") -> int:
    """Processes that load images: as set, or one per usable core and at most 8."""
    if machine.num_workers != "auto":
        return machine.num_workers
    return min(usable_cores(), 8)
