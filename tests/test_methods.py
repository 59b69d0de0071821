"""Every training method through the real stages: teachers, classifier, CAMs, scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsss.artifacts import Manifest, Paths, read_json, read_score_map
from wsss.config.params import parse_params
from wsss.models.classifier import load_classifier
from wsss.registry import METHODS
from wsss.stages import (
    run_stage,
)

DATA = {
    "dataset": {"name": "synthetic", "num_train": 40, "num_val": 6, "image_size": [64, 64]},
    "selection_share": 0.2,
}
TRAINING = {
    "backbone": {"model_name": "resnet10t", "timm_kwargs": {"zero_init_last": False}},
    "augment": {"crop_size": 64, "long_side": [64, 80]},
    "optimizer": {"algorithm": "adamw", "lr": 0.002, "head_lr_factor": 1},
    "batch_size": 8,
    "epochs": 2,
    "eval_long_side": 64,
}
VIT = {
    "model_name": "vit_tiny_patch16_224",
    "timm_kwargs": {"depth": 3, "embed_dim": 48, "num_heads": 3},
}
TEACHER = {"teacher": {"epochs": 1}}
OWN: dict[str, dict[str, Any]] = {
    "ccam": {"cam": {"name": "ccam"}, "teachers": TEACHER, "start_from": "teacher"},
    "class_tokens": {"cam": {"name": "class_token_attention"}, "backbone": VIT},
    "distillation": {"teachers": TEACHER, "backbone": VIT},
    "pcm": {"cam": {"name": "pcm", "maps": "sum"}},
    "seam": {"cam": {"name": "pcm"}},
    "single_stage": {"cam": {"name": "single_stage"}},
    "subcategory": {"teachers": TEACHER, "method": {"rounds": 2}},
}
"""What a method needs besides its name."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    run_stage("prepare_data", parse_params({"prepare_data": DATA}), Paths(root))
    return root


@pytest.mark.parametrize("name", METHODS.names())
def test_a_method_trains_and_its_maps_are_scored(name: str, prepared: Path, tmp_path: Path) -> None:
    own = OWN.get(name, {})
    params = parse_params(
        {
            "machine": {"accelerator": "cpu", "num_workers": 0},
            "prepare_data": DATA,
            "train_teachers": own.get("teachers", {}),
            "train_classifier": TRAINING
            | {
                "method": {"name": name} | own.get("method", {}),
                "start_from": own.get("start_from", ""),
                "backbone": own.get("backbone", TRAINING["backbone"]),
            },
            "generate_cams": {"scales": [1.0], "method": own.get("cam", {"name": "cam"})},
        }
    )
    (tmp_path / "data").mkdir()
    for folder in ("images", "masks", "splits"):
        (tmp_path / "data" / folder).symlink_to(prepared / "data" / folder)
    paths = Paths(tmp_path)
    for stage in ("train_teachers", "train_classifier", "generate_cams"):
        run_stage(stage, params, paths)
    run_stage("evaluate_cams", params, paths)

    report = read_json(paths.report("train_classifier"))
    assert all(np.isfinite(value) for value in report.values())
    assert 0 < report["val_map"] <= 1
    assert 0 < read_json(paths.report("evaluate_cams"))["val"]["mean_iou"] < 1
    model, _ = load_classifier(paths.classifier)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    flat = 0
    manifest = Manifest.read(paths.splits)
    for sample in manifest.splits["val"]:
        maps = read_score_map(paths.cams / f"{sample.name}.npz")
        assert tuple(maps.class_ids) == sample.class_ids
        flat += sum(float(score.std()) < 1e-3 for score in maps.scores)
    assert flat < len(manifest.splits["val"]), "maps that are the same everywhere"
