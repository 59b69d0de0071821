"""Messages name a setting where the user wrote it; the code that finds it out may not know."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample, ScoreMap, write_score_map
from wsss.config.params import parse_params
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.stages import run_stage

BACKBONE = {"model_name": "resnet10t"}
ELSEWHERE = {"model_name": "resnet10t", "weights": "$WSSS_NOT_SET/weights.pth"}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """One image of a class in each split, with a map and a classifier."""
    import numpy as np

    paths = Paths(tmp_path)
    paths.images.mkdir(parents=True)
    splits = {}
    for split in ("train", "selection", "val"):
        Image.new("RGB", (32, 32)).save(paths.images / f"{split}.png")
        splits[split] = (Sample(split, f"{split}.png", (32, 32), (1,)),)
        map_of_one = np.ones((1, 4, 4), np.float32)
        score_map = ScoreMap(np.array([1], np.uint8), map_of_one, (32, 32), np.ones(1, np.float32))
        write_score_map(paths.cams / f"{split}.npz", score_map)
    Manifest(("x",), splits).write(paths.splits)
    paths.teachers.mkdir(parents=True)
    paths.pseudo_masks.mkdir(parents=True)
    params = parse_params({"train_classifier": {"backbone": BACKBONE}}).train_classifier
    for folder in (paths.classifier, paths.teachers / "old"):
        folder.mkdir(parents=True)
        model = Classifier(TimmBackbone(params.backbone), ("x",))
        save_classifier(model, params.backbone, "multi_label", folder)
    return paths


@pytest.mark.parametrize(
    ("stage", "sections", "key"),
    [
        (
            "train_classifier",
            {"train_classifier": {"backbone": ELSEWHERE}},
            "train_classifier.backbone.weights is",
        ),
        (
            "train_teachers",
            {"train_teachers": {"small": {"backbone": ELSEWHERE}}},
            "train_teachers.small.backbone.weights is",
        ),
        (
            "train_affinities",
            {"train_affinities": {"near": {"backbone": ELSEWHERE}}},
            "train_affinities.near.backbone.weights is",
        ),
        (
            "train_segmenter",
            {"train_segmenter": {"model": {"encoder_weights": "$WSSS_NOT_SET/weights.pth"}}},
            "train_segmenter.model.encoder_weights is",
        ),
        (
            "make_proposals",
            {"make_proposals": {"mine": {"name": "sam2", "checkpoint": "$WSSS_NOT_SET/sam"}}},
            "make_proposals.mine.checkpoint is",
        ),
        (
            "generate_cams",
            {"generate_cams": {"method": {"name": "ccam"}}},
            "generate_cams.method: ccam needs",
        ),
        (
            "generate_further_cams",
            {"further_cams": {"other": {"method": {"name": "ccam"}}}},
            "further_cams.other.method: ccam needs",
        ),
    ],
)
def test_the_section_that_holds_a_setting_is_named(
    paths: Paths, stage: str, sections: dict[str, Any], key: str
) -> None:
    machine = {"machine": {"accelerator": "cpu", "num_workers": 0}}
    classifier = {"train_classifier": {"backbone": BACKBONE}}
    params = parse_params(machine | classifier | sections)
    with pytest.raises(ValueError) as caught:
        run_stage(stage, params, paths)
    assert str(caught.value).startswith(key)
    if "WSSS_NOT_SET" in str(caught.value):
        assert f"--set {key.removesuffix(' is')}=/a/path" in str(caught.value)
