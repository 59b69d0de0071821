"""A project as its stages leave it: photographs of shapes, networks of random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample, write_json, write_label_png
from wsss.config.params import load_params
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import SegmenterSettings
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.segment.network import make_segmenter, save_segmenter
from wsss.stages import run_stage

CLASSES = ("cat", "cow", "dog")
SIZES = {"first": (48, 64), "second": (64, 48), "third": (48, 64), "fourth": (90, 70)}
TAGS = {"first": ("cat", "dog"), "second": ("cow",), "third": ("dog",), "fourth": ()}
PARAMS = {
    "machine": {"accelerator": "cpu", "num_workers": 0},
    "generate_cams": {
        "method": {"name": "layer_cam", "layers": ["last"]},
        "scales": [1.0, 1.5],
        "window": 80,
        "batch_size": 2,
    },
    "make_proposals": {"tiles": {"name": "superpixels", "slic_segments": [20]}},
    "refine": {
        "chains": {
            "none": [],
            "crf": [{"name": "pamr", "dilations": [1, 2]}, {"name": "dense_crf", "n_iters": 2}],
            "tiled": [{"name": "regions", "proposals": "tiles"}],
        }
    },
    "make_pseudo_masks": {"chain": "crf", "ignore_margin": 0.1},
    "predict_masks": {"scales": [1.0], "crf": {"n_iters": 1}},
}
STAGES = (
    *("make_proposals", "generate_cams", "refine_cams@crf", "refine_cams@tiled"),
    *("make_pseudo_masks", "predict_masks"),
)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the project; nothing changes it."""
    root = tmp_path_factory.mktemp("project")
    paths, samples = Paths(root), []
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        pixels = rng.integers(60, 90, (*size, 3), dtype=np.uint8)
        mask = np.zeros(size, np.uint8)
        ids = tuple(CLASSES.index(tag) + 1 for tag in TAGS[name])
        for number in ids:
            top, left = rng.integers(4, 24, 2)
            mask[top : top + 20, left : left + 18] = number
            pixels[mask == number] = rng.integers(0, 256, 3)
        paths.images.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(paths.images / f"{name}.png")
        write_label_png(paths.masks / f"{name}.png", mask)
        samples.append(Sample(name, f"{name}.png", size, ids, f"{name}.png"))
    Manifest(CLASSES, {"train": (), "selection": (), "val": tuple(samples)}).write(paths.splits)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS), encoding="utf-8")
    torch.manual_seed(0)
    backbone = BackboneSettings(model_name="resnet10t")
    model = Classifier(TimmBackbone(backbone), CLASSES)
    torch.nn.init.uniform_(model.head.weight, -0.02, 0.1)
    with torch.no_grad():
        model.head.weight[1] -= 0.06  # of the cow, which it does not find
    paths.classifier.mkdir(parents=True)
    save_classifier(model, backbone, "multi_label", paths.classifier)
    settings = SegmenterSettings(arch="unet", arch_kwargs={"decoder_channels": [8] * 5})
    segmenter = make_segmenter(settings, paths.classifier)
    torch.nn.init.normal_(segmenter.net.segmentation_head[0].weight, std=3)
    paths.segmenter.mkdir(parents=True)
    save_segmenter(segmenter, paths.segmenter)
    write_json(paths.report("evaluate_cams"), {"threshold": 0.65})
    write_json(paths.report("evaluate_refined_crf"), {"threshold": 0.45})
    params = load_params(root / "params.yaml")
    for stage in STAGES:
        run_stage(stage, params, paths)
    return root


@pytest.fixture
def files(project: Path) -> list[Path]:
    """The images, in the order of SIZES."""
    return [project / f"data/images/{name}.png" for name in SIZES]
