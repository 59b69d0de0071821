"""Painted scenes, and a project around a network that was made for them by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample, write_json
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import SegmenterSettings
from wsss.data.synthetic import CLASS_NAMES, SyntheticSettings, paint_scene
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.segment.network import make_segmenter, save_segmenter

SIZE = (96, 128)
PARAMS = {
    "machine": {"accelerator": "cpu"},
    "generate_cams": {"scales": [1.0], "flip": False},
    "refine": {
        "chains": {
            "none": [],
            "crf": [{"name": "pamr", "dilations": [1, 2]}, {"name": "dense_crf", "n_iters": 2}],
            "regions": [{"name": "regions", "proposals": "tiles"}],
            "elsewhere": [{"name": "fusion", "sources": {"other": 1}}],
        }
    },
    "further_cams": {"other": {}},
    "make_proposals": {"tiles": {"name": "superpixels", "slic_segments": [30]}},
    "make_pseudo_masks": {"chain": "crf", "ignore_margin": 0.1, "threshold": 0.4},
}


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its root; a classifier that finds all but sheep, and a segmenter, both of random weights."""
    root = tmp_path_factory.mktemp("demo")
    paths, samples = Paths(root), []
    settings = SyntheticSettings(image_size=SIZE, empty_share=0)
    rng = np.random.default_rng(3)
    paths.images.mkdir(parents=True)
    for name in ("first", "second"):
        image, mask = paint_scene(settings, rng)
        Image.fromarray(image).save(paths.images / f"{name}.png")
        ids = tuple(int(value) for value in np.unique(mask) if value)
        samples.append(Sample(name, f"{name}.png", SIZE, ids, None))
    Manifest(CLASS_NAMES, {"train": (), "selection": (), "val": tuple(samples)}).write(paths.splits)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False), encoding="utf-8")
    torch.manual_seed(0)
    backbone = BackboneSettings(model_name="resnet10t")
    model = Classifier(TimmBackbone(backbone), CLASS_NAMES)
    torch.nn.init.uniform_(model.head.weight, -0.02, 0.1)
    with torch.no_grad():
        model.head.weight[1] -= 0.06  # of the sheep, which it does not find
    paths.classifier.mkdir(parents=True)
    save_classifier(model, backbone, "multi_label", paths.classifier)
    network = SegmenterSettings(arch="unet", arch_kwargs={"decoder_channels": [8] * 5})
    segmenter = make_segmenter(network, paths.classifier)
    torch.nn.init.normal_(segmenter.net.segmentation_head[0].weight, std=3)
    paths.segmenter.mkdir(parents=True)
    save_segmenter(segmenter, paths.segmenter)
    write_json(paths.report("evaluate_refined_regions"), {"threshold": 0.45})
    return root
