"""What there is on this machine, for the checks to look at; nothing heavy is imported for it."""

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsss.doctor.hardware import Disk, Gpus, Torch

__all__ = [
    "available_memory",
    "compilers",
    "cpu_quota",
    "disk_of",
    "find_gpus",
    "find_torch",
    "free_shared_memory",
    "memory_left",
    "own_groups",
    "output_of",
]

PATIENCE = 60.0
"""Seconds that PyTorch may take to say which GPUs it can use."""


def output_of(command: Sequence[str], patience: float = 5.0) -> str | None:
    """What a command prints, without what is around it; None where it fails or takes long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=patience, check=True, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def compilers(environ: Mapping[str, str]) -> dict[str, str]:
    """The C++ compilers that a build would find, by name."""
    names = [*environ.get("CXX", "").split()[:1], "c++", "g++", "clang++"]
    found = ((name, shutil.which(name, path=environ.get("PATH"))) for name in names)
    return {name: place for name, place in found if place}


def find_gpus(proc: Path = Path("/proc/driver/nvidia")) -> Gpus:
    """The GPUs of this machine; those of NVIDIA from the driver's own files, or nvidia-smi."""
    names = []
    for file in sorted(proc.glob("gpus/*/information")):
        model = re.search(r"^Model:\s*(.+)$", _text(file), re.MULTILINE)
        names.append(model[1].strip() if model else "an NVIDIA GPU")
    version = re.search(r"Module.*?\s(\d+\.[\d.]+)\s", _text(proc / "version"))
    if names:
        return Gpus(tuple(names), version[1] if version else "")
    if shutil.which("nvidia-smi") is None:
        return Gpus(apple=(sys.platform, platform.machine()) == ("darwin", "arm64"))
    told = output_of(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    rows = [line.rpartition(",") for line in (told or "").splitlines() if "," in line]
    return Gpus(tuple(row[0].strip() for row in rows), rows[0][2].strip() if rows else "")


def find_torch(*, ask: bool) -> Torch:
    """PyTorch as it is installed.

    Args:
        ask: whether it is started, in a process of its own, to say which GPUs it can use; that
            takes seconds.
    """
    try:
        found = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None:
        return Torch()
    text = _text(Path(found.origin).with_name("version.py"))
    version = re.search(r"^__version__.*?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b.*?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    torch = Torch(version[1] if version else "of no known version", cuda[1] if cuda else "")
    if not (ask and torch.cuda):
        return torch
    code = (
        "import warnings, torch\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    count = torch.cuda.device_count() if torch.cuda.is_available() else 0\n"
        "print(count, ' '.join(str(item.message).partition('(')[0] for item in told[:1]))"
    )
    said = output_of([sys.executable, "-c", code], PATIENCE)
    if said is None:
        return Torch(torch.version, torch.cuda, 0, "it does not start")
    count, _, error = said.splitlines()[-1].partition(" ")
    return Torch(torch.version, torch.cuda, int(count), " ".join(error.split()))


def disk_of(folder: Path, name: str) -> Disk:
    """What is free where a folder lies, or would lie."""
    there = folder.absolute()
    # unlike Path.exists, that says no of what lies in a folder that is closed to this user
    there = next(path for path in (there, *there.parents) if os.access(path, os.F_OK))
    files = None
    if hasattr(os, "statvfs"):
        status = os.statvfs(there)
        files = status.f_favail if status.f_files else None
    opened_by = "" if os.access(there, os.W_OK) else _opening(folder.absolute(), there)
    return Disk(name, shutil.disk_usage(there).free, files, opened_by)


def _opening(folder: Path, there: Path) -> str:
    """The command that lets this user write into a folder, of which there is only a part so far."""
    if there.stat().st_uid == os.geteuid():
        return f"chmod u+rwx {shlex.quote(str(there))}"
    if there != folder:  # what is there may be the system's
        return f"sudo install -d -o $(id -u) {shlex.quote(str(folder))}"
    return f"sudo chown -R $(id -u) {shlex.quote(str(folder))}"


def free_shared_memory(place: Path = Path("/dev/shm")) -> int | None:
    """Bytes free in shared memory; None where there is no such place."""
    return shutil.disk_usage(place).free if place.is_dir() else None


def available_memory(file: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that programs can still have; None where the system does not say."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _text(file), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def own_groups(
    root: Path = Path("/sys/fs/cgroup"), file: Path = Path("/proc/self/cgroup")
) -> list[Path]:
    """The folders that say what this process may have: its own group, and those around it.

    A container usually sees its own as the root of all; a job of Slurm has one further below.
    """
    found = re.search(r"^0::/(.*)$", _text(file), re.MULTILINE)
    own = root / found[1].strip() if found else root
    return [own, *(folder for folder in own.parents if folder.is_relative_to(root))]


def memory_left(groups: Sequence[Path]) -> tuple[int | None, int | None]:
    """Bytes that a container or job may still take, and of how many; None where nothing limits it.

    What was read of files counts as taken, and is given back when it is wanted: it is left, too.

    Args:
        groups: as of `own_groups`; the one of which the least is left counts.
    """
    found = []
    for group in groups:
        for limit, used, stat, kept in (
            ("memory.max", "memory.current", "memory.stat", "inactive_file"),
            (
                "memory/memory.limit_in_bytes",
                "memory/memory.usage_in_bytes",
                "memory/memory.stat",
                "total_inactive_file",
            ),
        ):
            most, taken = (_number(group / name) for name in (limit, used))
            if most is not None and most < 2**60:
                cached = re.search(rf"^{kept} (\d+)$", _text(group / stat), re.MULTILINE)
                wanted = max(0, (taken or 0) - (int(cached[1]) if cached else 0))
                found.append((max(0, most - wanted), most))
    return min(found, default=(None, None))


def cpu_quota(groups: Sequence[Path]) -> float | None:
    """Cores' worth of time that a container or job has; None where nothing limits it."""
    shares = []
    for group in groups:
        words = _text(group / "cpu.max").split()
        if len(words) != 2:
            words = [
                _text(group / f"cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")
            ]
        if all(word.isdigit() for word in words) and int(words[1]):
            shares.append(int(words[0]) / int(words[1]))
    return min(shares, default=None)


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
