"""Devices that are not there are refused; bfloat16 is where it is computed."""

import logging
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
import yaml

from wsss.config.sections import MachineSettings
from wsss.loading.devices import (
    check_devices,
    computes_in_bf16,
    device_of,
    make_fabric,
    precision_of,
)

ROOT = Path(__file__).parents[2]
CPU = MachineSettings(accelerator="cpu")


def processor(monkeypatch: pytest.MonkeyPatch, **has: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(has))


@pytest.mark.parametrize(
    ("has", "found"),
    [
        ({"avx2": True}, "32-true"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "32-true"),
        ({"avx2": True, "avx512_bf16": True}, "bf16-mixed"),
        ({"avx2": True, "amx_bf16": True}, "bf16-mixed"),
        ({"neon": True, "bf16": True}, "32-true"),
    ],
)
def test_auto_is_bf16_where_the_processor_has_it(
    has: dict[str, bool],
    found: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "wsss.loading.devices")
    processor(monkeypatch, **has)
    assert precision_of(make_fabric(CPU, "auto")) == found
    assert precision_of(make_fabric(CPU, "32-true")) == "32-true"
    assert not caplog.records


@pytest.mark.parametrize(("capability", "has"), [((7, 5), False), ((8, 0), True), ((12, 1), True)])
def test_gpus_have_it_since_ampere(
    capability: tuple[int, int], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert computes_in_bf16(torch.device("cuda", 0)) is has
    assert not computes_in_bf16(torch.device("mps"))


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])  # which Lightning makes the first
def test_what_is_slow_without_instructions_is_said(
    precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    processor(monkeypatch, avx2=True)
    make_fabric(CPU, precision)
    (said,) = (item for item in caplog.records if item.name == "wsss.loading.devices")
    assert "set it to auto" in said.getMessage() and "precision" in said.getMessage()
    caplog.clear()
    processor(monkeypatch, avx512_bf16=True)
    make_fabric(CPU, precision)
    assert not [item for item in caplog.records if item.name == "wsss.loading.devices"]


@pytest.mark.parametrize("path", [*ROOT.glob("recipes/**/*.yaml"), ROOT / "params.yaml"], ids=str)
def test_nothing_that_ships_takes_bf16_where_it_is_slow(path: Path) -> None:
    told = str(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert "bf16-mixed" not in told


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for accelerator in ("auto", "cuda"):
        check_devices(accelerator, 2)
        with pytest.raises(ValueError, match=r"4 processes .* 2 GPUs .* machine.devices to 2"):
            check_devices(accelerator, 4)
    check_devices("cpu", 4)


def test_without_a_gpu_auto_takes_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(
        "lightning_fabric.accelerators.MPSAccelerator.is_available", staticmethod(lambda: False)
    )
    check_devices("auto", 3)
    assert device_of("auto") == torch.device("cpu")


@pytest.mark.parametrize("accelerator", ["cuda", "mps"])
@pytest.mark.parametrize(
    "ask",
    [
        device_of,
        lambda accelerator: make_fabric(MachineSettings(accelerator=accelerator), "32-true"),
        lambda accelerator: check_devices(accelerator, 2),
    ],
    ids=["device_of", "make_fabric", "check_devices"],
)
def test_a_device_that_is_not_there_is_refused(
    accelerator: str, ask: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(
        "lightning_fabric.accelerators.MPSAccelerator.is_available", staticmethod(lambda: False)
    )
    with pytest.raises(ValueError, match=rf"'{accelerator}' \(machine\.accelerator\).*'auto'"):
        ask(accelerator)


COUNT_FAULTS = """
import ctypes, resource, sys
from wsss.loading.devices import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(ctypes.c_size_t(100_000_000))
    ctypes.memset(ctypes.c_void_p(block), 1, 100_000_000)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(("how", "fewest", "most"), [("plain", 20, 30_000), ("kept", 0, 10)])
def test_memory_that_is_freed_is_not_mapped_anew(how: str, fewest: int, most: int) -> None:
    """A block of 100 MB, written the fourth time: 24,000 pages, or 48 huge ones."""
    command = [sys.executable, "-c", COUNT_FAULTS, how]
    faults = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert fewest <= faults <= most
