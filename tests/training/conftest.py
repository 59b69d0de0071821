"""A task without data, for what is trained on batches of a test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wsss.artifacts import Manifest
from wsss.config.sections import MachineSettings
from wsss.loading.devices import make_fabric
from wsss.tracking import NullTracker
from wsss.training.task import Task


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., Task]:
    """Makes tasks on the CPU; `folder` is that of their checkpoints."""

    def make(folder: str = "work", rng_seed: int = 3) -> Task:
        machine = MachineSettings(accelerator="cpu", num_workers=0)
        (tmp_path / folder).mkdir(exist_ok=True)
        manifest = Manifest(("x",), {"train": (), "selection": (), "val": ()})
        fabric = make_fabric(machine, "32-true")
        return Task(manifest, tmp_path, machine, rng_seed, fabric, tmp_path / folder, NullTracker())

    return make
