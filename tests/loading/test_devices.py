"""More processes than devices are refused before they start."""

import pytest
import torch

from wsss.loading.devices import check_devices


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
    with pytest.raises(ValueError, match="which has 0 GPUs"):
        check_devices("cuda", 2)
