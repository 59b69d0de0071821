"""Tasks on the CPU: without data, and of images whose halves are a segmenter's to find."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.artifacts import Manifest, Sample, write_label_png
from wsss.config.sections import BackboneSettings, MachineSettings
from wsss.loading.devices import make_fabric
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.tracking import NullTracker
from wsss.training.task import Task

NAMES = ("red", "green")


def task_in(images: Path, folder: str = "work", rng_seed: int = 3) -> Task:
    """A task without data, whose checkpoints go to a folder beside the images."""
    machine = MachineSettings(accelerator="cpu", num_workers=0)
    (images / folder).mkdir(exist_ok=True)
    manifest = Manifest(("x",), {"train": (), "selection": (), "val": ()})
    fabric = make_fabric(machine, "32-true")
    return Task(manifest, images, machine, rng_seed, fabric, images / folder, NullTracker())


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., Task]:
    """Makes tasks on the CPU; `folder` is that of their checkpoints."""

    def make(folder: str = "work", rng_seed: int = 3) -> Task:
        return task_in(tmp_path, folder, rng_seed)

    return make


def halves_task(folder: Path) -> Task:
    """Images whose left half is red or green on grey; the masks are in folder / "masks"."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(10):
        class_id = 1 + index % 2
        image = rng.integers(100, 140, (64, 64, 3)).astype(np.uint8)
        image[:, :32, class_id - 1] = 255
        mask = np.zeros((64, 64), np.uint8)
        mask[:, :32] = class_id
        Image.fromarray(image).save(folder / f"{index}.png")
        write_label_png(folder / f"masks/{index}.png", mask)
        samples.append(Sample(str(index), f"{index}.png", (64, 64), (class_id,)))
    splits = {"train": tuple(samples[:8]), "selection": tuple(samples[8:]), "val": ()}
    return replace(task_in(folder), manifest=Manifest(NAMES, splits))


@pytest.fixture
def halves(tmp_path: Path) -> Task:
    """See `halves_task`."""
    return halves_task(tmp_path)


def save_small_classifier(folder: Path) -> None:
    """Of random weights, of the classes of `halves_task`."""
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    settings = BackboneSettings(model_name="resnet10t")
    save_classifier(Classifier(TimmBackbone(settings), NAMES), settings, "multi_label", folder)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained one."""
    folder = tmp_path_factory.mktemp("classifier")
    save_small_classifier(folder)
    return folder
