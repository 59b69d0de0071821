"""A segmenter learns from pseudo masks; what it cannot learn from is named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsss.artifacts import Annotations, write_label_png
from wsss.config.segmentation import TrainSegmenterSettings
from wsss.training.segmentation import fit_segmenter
from wsss.training.task import Task


def settings_of(**values: Any) -> TrainSegmenterSettings:
    given = {
        "batch_size": 4,
        "epochs": 8,
        "augment": {"crop_size": 64, "long_side": [64, 64]},
        "eval_long_side": 64,
        "optimizer": {"algorithm": "adamw", "lr": 0.002, "head_lr_factor": 1},
    }
    return TrainSegmenterSettings.model_validate(given | values)


def test_it_learns_what_the_pseudo_masks_show(
    halves: Task, classifier: Path, tmp_path: Path
) -> None:
    model, fitted = fit_segmenter(
        settings_of(), halves, tmp_path / "masks", Annotations.read(tmp_path), classifier
    )
    assert fitted.score > 0.8
    assert fitted.history[fitted.epoch]["selection_pseudo_mean_iou"] == fitted.score
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("epochs", "model"),
    [
        (
            24,
            {
                "arch": "enc_dec_unpool",
                "encoder_weights": "none",
                "arch_kwargs": {"widths": [8, 8, 16, 16, 16], "dropout": 0},
            },
        ),
        (
            12,
            {
                "arch": "unet_small",
                "encoder_weights": "none",
                "arch_kwargs": {"widths": [8, 16, 16]},
            },
        ),
        (4, {"arch": "deeplabv2"}),
        (12, {"arch": "frozen_decoder", "arch_kwargs": {"width": 16, "heads": 2, "layers": 1}}),
    ],
)
def test_every_network_learns_it(
    epochs: int, model: dict[str, Any], halves: Task, classifier: Path, tmp_path: Path
) -> None:
    settings = settings_of(
        model=model,
        ema_decay=0.5,
        epochs=epochs,
        optimizer={"algorithm": "adamw", "lr": 0.005, "head_lr_factor": 1},
    )
    annotations = Annotations.read(tmp_path)
    _, fitted = fit_segmenter(settings, halves, tmp_path / "masks", annotations, classifier)
    assert fitted.score > 0.7
    (checkpoint,) = (tmp_path / "work").iterdir()
    state = torch.load(checkpoint, weights_only=True)
    parts = {name.split(".")[1] for name in state["model"]}
    assert ("encoder" in parts) == (model["arch"] != "frozen_decoder")
    assert state["average"].keys() == state["best"].keys() == state["model"].keys()


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
    halves: Task, classifier: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_segmenter(
            settings_of(**values),
            halves,
            tmp_path / "masks",
            Annotations.read(tmp_path),
            classifier,
        )


def test_a_classifier_of_other_classes_is_refused(
    halves: Task, classifier: Path, tmp_path: Path
) -> None:
    manifest = replace(halves.manifest, class_names=("green", "red"))
    with pytest.raises(ValueError, match="was trained on the classes red, green, but the data has"):
        other = replace(halves, manifest=manifest)
        fit_segmenter(
            settings_of(), other, tmp_path / "masks", Annotations.read(tmp_path), classifier
        )


def test_masks_without_a_class_are_no_measure_of_an_epoch(halves: Task, classifier: Path) -> None:
    """To predict nothing fits them best, with an agreement of 1."""
    folder = halves.images / "masks"
    for index in range(10):
        write_label_png(folder / f"{index}.png", np.zeros((64, 64), np.uint8))
    _, fitted = fit_segmenter(
        settings_of(epochs=2), halves, folder, Annotations.read(folder), classifier
    )
    assert fitted.epoch == 1
    assert "selection_pseudo_mean_iou" not in fitted.history[1]
    assert 0 <= fitted.history[1]["selection_foreground"] <= 1
