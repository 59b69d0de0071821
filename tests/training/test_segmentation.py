"""A segmenter learns from pseudo masks; what it cannot learn from is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.artifacts import Manifest, Sample, write_label_png
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import TrainSegmenterSettings
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.training.segmentation import fit_segmenter
from wsss.training.task import Task

NAMES = ("red", "green")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifier")
    settings = BackboneSettings(model_name="resnet10t")
    save_classifier(Classifier(TimmBackbone(settings), NAMES), settings, "multi_label", folder)
    return folder


@pytest.fixture
def task(make_task: Callable[..., Task], tmp_path: Path) -> Task:
    """Images whose left half is red or green on grey; the masks are in tmp_path / "masks"."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(10):
        class_id = 1 + index % 2
        image = rng.integers(100, 140, (64, 64, 3)).astype(np.uint8)
        image[:, :32, class_id - 1] = 255
        mask = np.zeros((64, 64), np.uint8)
        mask[:, :32] = class_id
        Image.fromarray(image).save(tmp_path / f"{index}.png")
        write_label_png(tmp_path / f"masks/{index}.png", mask)
        samples.append(Sample(str(index), f"{index}.png", (64, 64), (class_id,)))
    splits = {"train": tuple(samples[:8]), "selection": tuple(samples[8:]), "val": ()}
    return replace(make_task(), manifest=Manifest(NAMES, splits), images=tmp_path)


def settings_of(**values: Any) -> TrainSegmenterSettings:
    given = {
        "batch_size": 4,
        "epochs": 8,
        "augment": {"crop_size": 64, "long_side": [64, 64]},
        "eval_long_side": 64,
        "optimizer": {"algorithm": "adamw", "lr": 0.002, "head_lr_factor": 1},
    }
    return TrainSegmenterSettings.model_validate(given | values)


def test_it_learns_what_the_pseudo_masks_show(task: Task, classifier: Path, tmp_path: Path) -> None:
    model, fitted = fit_segmenter(settings_of(), task, tmp_path / "masks", classifier)
    assert fitted.score > 0.8
    assert fitted.history[fitted.epoch]["selection_pseudo_mean_iou"] == fitted.score
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 1}, r"^a batch of 1 leaves batch norm .*set batch_size to 2 or more$"),
        (
            {"model": {"arch": "fpn"}, "augment": {"crop_size": 50, "long_side": [64, 64]}},
            r"^augment.crop_size is 50, but FPN takes multiples of 32; set it to 64$",
        ),
    ],
)
def test_settings_that_the_network_can_not_train_with_are_named(
    task: Task, classifier: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_segmenter(settings_of(**values), task, tmp_path / "masks", classifier)


def test_a_classifier_of_other_classes_is_refused(
    task: Task, classifier: Path, tmp_path: Path
) -> None:
    manifest = replace(task.manifest, class_names=("green", "red"))
    with pytest.raises(ValueError, match="was trained on the classes red, green, but the data has"):
        other = replace(task, manifest=manifest)
        fit_segmenter(settings_of(), other, tmp_path / "masks", classifier)


def test_masks_without_a_class_are_no_measure_of_an_epoch(task: Task, classifier: Path) -> None:
    """To predict nothing fits them best, with an agreement of 1."""
    folder = task.images / "masks"
    for index in range(10):
        write_label_png(folder / f"{index}.png", np.zeros((64, 64), np.uint8))
    _, fitted = fit_segmenter(settings_of(epochs=2), task, folder, classifier)
    assert fitted.epoch == 1
    assert "selection_pseudo_mean_iou" not in fitted.history[1]
    assert 0 <= fitted.history[1]["selection_foreground"] <= 1
