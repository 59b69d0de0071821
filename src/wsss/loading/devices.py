"""What a stage runs on: a device, a precision, processes that load images or run it together.

Of several processes that run a stage, each has its share of the images (`wsss.cores.share`). What
they find out is gathered, so that all of them go on with the same. Alone, a process has all, and
gathers its own.
"""

import atexit
import ctypes
import logging
import os
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from wsss.checks import full_key
from wsss.cores import is_first, local_rank, processes_here, rank, usable_cores, world_size

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

    from wsss.config.sections import MachineSettings

__all__ = [
    "barrier",
    "broadcast",
    "broadcast_state",
    "check_devices",
    "computes_in_bf16",
    "device_of",
    "gather",
    "gather_shares",
    "keep_freed_memory",
    "make_fabric",
    "num_workers",
    "pixels_at_once",
    "precision_of",
]

log = logging.getLogger(__name__)

Item = TypeVar("Item")

_CPU_PIXELS = 640_000  # two images of 480 x 640

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Options of glibc's mallopt, as its malloc.h numbers them."""


def device_of(accelerator: str) -> "torch.device":
    """Where tensors and networks go, of machine.accelerator: auto takes a GPU if there is one.

    Raises:
        ValueError: there is no such device.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
    """
    import torch
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    check_devices(accelerator, 1)
    fabric = Fabric(accelerator=accelerator, devices=1, plugins=[LightningEnvironment()])
    device: torch.device = fabric.device
    return torch.device("cuda", local_rank()) if device.type == "cuda" else device


def make_fabric(machine: "MachineSettings", precision: str, store: Any = None) -> "Fabric":
    """The device of this process, its precision, and its connection to the other processes.

    `machine.devices` says how many processes a stage is started with; one that runs alone, such
    as a trial of a study, has one device whatever that says.

    Args:
        machine: of params.yaml.
        precision: as in the settings; "auto" is bf16-mixed where the device computes in bfloat16,
            and 32-true elsewhere. `precision_of` says which one it is.
        store: of PyTorch, in which several processes find one another; None is the launcher's.

    Raises:
        ValueError: there is no such device, or not one for each process.
    """
    import torch
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import (
        LightningEnvironment,
        TorchElasticEnvironment,
    )

    check_devices(machine.accelerator, processes_here())
    if precision == "auto":
        device = device_of(machine.accelerator)
        precision = "bf16-mixed" if computes_in_bf16(device) else "32-true"
    # named, as within a job of Slurm a process that is alone would be taken for one of its tasks
    alone = world_size() == 1
    environment = LightningEnvironment() if alone else TorchElasticEnvironment()
    # a method may leave parts of the network out of a step, or run it more than once
    strategy = "auto" if alone else "ddp_find_unused_parameters_true"
    fabric = Fabric(
        accelerator=machine.accelerator,
        strategy=strategy,
        devices=processes_here(),
        num_nodes=world_size() // processes_here(),
        precision=precision,
        plugins=[environment],
    )
    if store is not None and not alone and not torch.distributed.is_initialized():
        _meet(store, fabric.device)
    fabric.launch()
    if precision_of(fabric) == "bf16-mixed" and not computes_in_bf16(fabric.device) and is_first():
        log.warning(
            "this machine does not compute in bfloat16, as %s asks for, which then takes up to ten "
            "times as long as 32-true; set it to auto",
            full_key("precision"),
        )
    if world_size() > 1 and fabric.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores())
    return fabric


def keep_freed_memory() -> None:
    """Let memory that is freed stay with this process, for what it computes next; of glibc alone.

    What a step computes is as large as in the step before. glibc gives large blocks back to the
    system, which clears and maps each page again when the next step asks for them: on a CPU that
    is up to two fifths of a step. What it costs is that blocks no longer come and go whole: a fifth
    more memory at the peak, where a segmenter learned.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    set_option(_M_MMAP_MAX, 0)  # no block is a mapping of its own, which ends when it is freed
    set_option(_M_TRIM_THRESHOLD, -1)  # nor does the heap shrink


def pixels_at_once(device: "torch.device") -> int | None:
    """Pixels of images that run through a network together; None is any number.

    On a CPU a few images run faster than many, as their features stay in its cache.

    Example:
        >>> pixels_at_once(device_of("cpu")) // (480 * 640)
        2
    """
    return _CPU_PIXELS if device.type == "cpu" else None


def precision_of(fabric: "Fabric") -> str:
    """What a device computes in, "32-true", "bf16-mixed" or "16-mixed"."""
    return str(fabric.strategy.precision.precision)


def _meet(store: Any, device: "torch.device") -> None:
    """Make the group of all processes, as Lightning Fabric does, but in a store of one's own."""
    from torch import cuda, distributed

    on_gpu = device.type == "cuda"
    if on_gpu:
        cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store,
        rank=rank(),
        world_size=world_size(),
        device_id=device if on_gpu else None,
    )
    if on_gpu:
        atexit.register(_leave)


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def computes_in_bf16(device: "torch.device") -> bool:
    """Whether a device has instructions for bfloat16, without which it takes longer than float32.

    Of processors those of x86 are known; others count as without.

    Example:
        >>> computes_in_bf16(device_of("cpu")) in (False, True)
        True
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    has = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def check_devices(accelerator: str, count: int) -> None:
    """Raise ValueError where this machine has not one device for each process.

    Args:
        accelerator: machine.accelerator.
        count: of processes on this machine.
    """
    import torch
    from lightning_fabric.accelerators import MPSAccelerator

    there, has_mps = torch.cuda.device_count(), MPSAccelerator.is_available()
    if (accelerator == "cuda" and not there) or (accelerator == "mps" and not has_mps):
        raise ValueError(
            f"the device is '{accelerator}' (machine.accelerator), but PyTorch sees none such here;"
            " take 'cpu', or 'auto', which takes a GPU where there is one"
        )
    if count > 1 and has_mps and accelerator in ("auto", "mps"):
        raise ValueError(f"machine.devices is {count}, but there is one device of MPS; set it to 1")
    if (accelerator == "cuda" or (accelerator == "auto" and there)) and count > there:
        raise ValueError(
            f"{count} processes would run on this machine, which has {there} GPUs that PyTorch can "
            f"use; set machine.devices to {there}, or machine.accelerator to cpu"
        )


def num_workers(machine: "MachineSettings") -> int:
    """Processes that load images: as set, or one per usable core and at most 8."""
    if machine.num_workers != "auto":
        return machine.num_workers
    return min(usable_cores(), 8)


def gather(value: Item) -> list[Item]:
    """The values of all processes by rank, in all of them; it waits for them."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def gather_shares(done: Sequence[Item]) -> list[Item]:
    """What all processes made of their `share`s, one for each item, in the order of the items."""
    missing = object()
    dealt = chain.from_iterable(zip_longest(*gather(done), fillvalue=missing))
    return [item for item in dealt if item is not missing]  # type: ignore[misc]


def broadcast(value: Item) -> Item:
    """The value of rank 0, in all processes; it waits for them."""
    return gather(value)[0]


def broadcast_state(module: "torch.nn.Module") -> None:
    """Give all processes the weights and buffers that rank 0 has."""
    if world_size() > 1:
        import torch.distributed as dist

        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def barrier() -> None:
    """Wait until all processes are here."""
    gather(None)
