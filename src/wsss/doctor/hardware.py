"""The machine: its compiler, GPU, disks, memory and cores, and what each is enough for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wsss.commands import room
from wsss.doctor.check import Check, fault, ok, warning

__all__ = [
    "Disk",
    "Gpus",
    "Torch",
    "check_compiler",
    "check_cores",
    "check_disk",
    "check_gpus",
    "check_memory",
    "check_shared_memory",
]

MIB, GIB = 2**20, 2**30

DRIVERS = {11: 450, 12: 525, 13: 580}
"""The oldest NVIDIA driver for each CUDA, as NVIDIA's notes on compatibility have it."""

LITTLE_DISK, NO_DISK = 5 * GIB, GIB // 2
FEW_INODES = 100_000  # files that a disk still takes
LITTLE_MEMORY, NO_MEMORY = 4 * GIB, GIB
PREFETCHED = 4  # batches of a process that loads images, which wait in shared memory


def check_compiler(compilers: Mapping[str, str], *, needed: bool) -> Check:
    """Whether C++ can be compiled, which is needed only where the compiled module is to be built.

    Args:
        compilers: path by name, of those on the path.
        needed: whether that module is missing.
    """
    if compilers:
        name, path = next(iter(compilers.items()))
        return ok("compiler", f"{name} ({path})")
    if needed:
        return fault(
            "compiler", "there is none for C++", "apt-get install g++ (or brew install gcc)"
        )
    return ok("compiler", "there is none for C++, and none is needed: the module is compiled")


@dataclass(frozen=True)
class Gpus:
    """GPUs as the system has them.

    Attributes:
        names: of each of NVIDIA.
        driver: its version; "" where it is not known.
        apple: whether there is one of Apple, which PyTorch calls mps.
    """

    names: tuple[str, ...] = ()
    driver: str = ""
    apple: bool = False


@dataclass(frozen=True)
class Torch:
    """PyTorch as it is installed.

    Attributes:
        version: such as "2.15.0+cu132"; "" where it is not installed.
        cuda: the CUDA that it was built for; "" of a build for CPUs alone.
        sees: how many GPUs it can use; None where nobody asked it.
        error: what it says of why it can use none.
    """

    version: str = ""
    cuda: str = ""
    sees: int | None = None
    error: str = ""


def check_gpus(gpus: Gpus, torch: Torch, accelerator: str = "auto", devices: int = 1) -> Check:
    """Whether the GPUs of the machine are used, and are as many as settings want.

    Args:
        gpus: that the system has.
        torch: as it is installed.
        accelerator: machine.accelerator.
        devices: machine.devices.
    """
    if accelerator == "mps" and not gpus.apple:
        return fault(
            "GPU",
            "machine.accelerator is mps, and there is no GPU of Apple",
            "wsss set machine.accelerator=auto",
        )
    if gpus.apple and accelerator in ("auto", "mps"):
        if devices > 1:
            return fault(
                "GPU",
                f"machine.devices is {devices}, and there is one GPU of Apple",
                "wsss set machine.devices=1",
            )
        return ok("GPU", "one of Apple (mps)")
    wants_cuda = accelerator == "cuda"
    say = fault if wants_cuda else warning
    if not gpus.names and not torch.sees:
        if wants_cuda:
            return fault(
                "GPU",
                "machine.accelerator is cuda, and there is no NVIDIA GPU with a driver",
                "wsss set machine.accelerator=auto",
            )
        return ok("GPU", "there is no NVIDIA GPU with a driver; PyTorch runs on the CPU")
    driver = f", driver {gpus.driver}" if gpus.driver else ""
    shown = f"{', '.join(gpus.names) or f'{torch.sees} GPUs'}{driver}"
    if not torch.version:
        return warning("GPU", f"{shown}; PyTorch is not installed", "pip install 'wsss[pipeline]'")
    if not torch.cuda:
        return say(
            "GPU",
            f"{shown}; but PyTorch {torch.version} is built for CPUs alone",
            "pip uninstall -y torch torchvision, and install both with CUDA as "
            "https://pytorch.org/get-started/locally names it",
        )
    wanted = DRIVERS.get(int(torch.cuda.partition(".")[0]), 0)
    has = int(gpus.driver.partition(".")[0]) if gpus.driver[:1].isdigit() else wanted
    if has < wanted:
        return say(
            "GPU",
            f"{shown}; PyTorch {torch.version} wants driver {wanted} or newer for CUDA "
            f"{torch.cuda}",
            "update the driver, or install torch and torchvision for an older CUDA",
        )
    if torch.sees == 0:
        reason = f": {torch.error}" if torch.error else ""
        return say(
            "GPU",
            f"{shown}; but PyTorch {torch.version} can use none{reason}",
            "see that `nvidia-smi` works here and that CUDA_VISIBLE_DEVICES names a GPU; in a "
            "container start it with `--gpus all`",
        )
    count = torch.sees if torch.sees is not None else len(gpus.names)
    if accelerator in ("auto", "cuda") and devices > count:
        return fault(
            "GPU",
            f"machine.devices is {devices}, and there are {count}: {shown}",
            f"wsss set machine.devices={count}",
        )
    if accelerator == "cpu":
        return warning(
            "GPU",
            f"{shown}; machine.accelerator is cpu, so that it is not used",
            "wsss set machine.accelerator=auto",
        )
    return ok("GPU", f"{shown}; PyTorch {torch.version} with CUDA {torch.cuda} can use {count}")


@dataclass(frozen=True)
class Disk:
    """What is free where a folder lies.

    Attributes:
        folder: as it is called in the project, such as "data".
        free: bytes.
        files: that it still takes; None where the file system has no limit.
        opened_by: the command that lets this user write there; "" where it may.
    """

    folder: str
    free: int
    files: int | None = None
    opened_by: str = ""


def check_disk(disk: Disk) -> Check:
    """Whether there is room for results.

    Example:
        >>> check_disk(Disk("data", 2**20)).level
        'fault'
    """
    about, there = f"disk of {disk.folder}", f"{disk.free / GIB:.1f} GiB free"
    advice = f"free some{room(Path())}, or move the project to a larger disk"
    if disk.opened_by:
        return fault(about, "it cannot be written", disk.opened_by)
    if disk.free < NO_DISK:
        return fault(about, there, advice)
    if disk.files is not None and disk.files < FEW_INODES:
        return warning(
            about,
            f"{there}, but room for {disk.files} files (inodes) only",
            "wsss set prepare_data.pack_above=0 (what stages make of images is then packed)",
        )
    return warning(about, there, advice) if disk.free < LITTLE_DISK else ok(about, there)


def check_shared_memory(free: int | None, workers: int, batch_size: int, side: int) -> Check:
    """Whether the batches that loading processes hold ready fit into /dev/shm.

    Args:
        free: bytes; None where the system has no such place.
        workers: processes that load images.
        batch_size: images of a batch.
        side: of an image in it, in pixels.

    Example:
        >>> check_shared_memory(64 * 2**20, 4, 16, 224).level
        'warning'
    """
    if free is None:
        return ok("shared memory", "this system has no /dev/shm")
    needed = workers * PREFETCHED * batch_size * side * side * 3 * 4
    text = (
        f"/dev/shm has {free / MIB:.0f} MiB free, and {workers} processes that load images take up "
        f"to {needed / MIB:.0f} MiB"
    )
    if free >= needed:
        return ok("shared memory", text)
    size = max(1, -(-2 * needed // GIB))
    return warning(
        "shared memory",
        text,
        "wsss set machine.num_workers=0 (results stay the same), or give a container more: "
        f"docker run --shm-size={size}g",
    )


def check_memory(free: int | None, left: int | None = None, limit: int | None = None) -> Check:
    """Whether there is memory for training.

    Args:
        free: bytes that programs can still have; None where the system does not say.
        left: bytes that this container or job may still take; None where nothing limits it.
        limit: bytes that it may have in all.
    """
    known = [value for value in (free, left) if value is not None]
    if not known:
        return ok("memory", "this system does not say what is free")
    least = min(known)
    text = f"{least / GIB:.1f} GiB free"
    if limit is not None and least == left:
        text += f" of the {limit / GIB:.1f} that this container or job may have"
    way = (
        "close other programs or ask for more, or lower train_classifier.batch_size and "
        "train_segmenter.batch_size"
    )
    if least < NO_MEMORY:
        return fault("memory", text, way)
    return warning("memory", text, way) if least < LITTLE_MEMORY else ok("memory", text)


def check_cores(
    usable: int, there: int, quota: float | None, settings: Mapping[str, str]
) -> list[Check]:
    """Whether threads are as many as cores.

    Args:
        usable: cores that this process may run on.
        there: cores of the machine.
        quota: cores' worth of time that a container or job has; None is no limit.
        settings: the environment.
    """
    text = f"{usable} of {there}" if usable < there else f"{there}"
    enough = usable if quota is None else min(usable, max(1, round(quota)))
    if quota is not None:
        text += f", with time for {quota:g}"
    found = []
    named = settings.get("OMP_NUM_THREADS")
    if named is None and enough < usable:
        found.append(
            warning(
                "cores",
                f"{text}; libraries start {usable} threads, which wait for one another",
                f"export OMP_NUM_THREADS={enough}",
            )
        )
    else:
        found.append(ok("cores", text))
    if named is None:
        return found
    try:
        threads = [int(part) for part in named.split(",")]
    except ValueError:
        threads = [0]
    if min(threads) < 1:
        found.append(
            warning(
                "OMP_NUM_THREADS", f"'{named}' is no number of threads", "unset OMP_NUM_THREADS"
            )
        )
    elif threads[0] > enough:
        found.append(
            warning(
                "OMP_NUM_THREADS",
                f"{named} threads share {enough} cores, and wait for one another",
                f"export OMP_NUM_THREADS={enough}",
            )
        )
    elif threads[0] == 1 and enough > 2:
        found.append(
            warning(
                "OMP_NUM_THREADS",
                f"1, so that a training on the CPU uses one core of {enough}",
                "unset OMP_NUM_THREADS",
            )
        )
    else:
        found.append(ok("OMP_NUM_THREADS", named))
    return found
