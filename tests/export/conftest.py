"""Small networks of every kind in folders, and images that look like photographs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import nn

from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import SegmenterSettings
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.segment.network import make_segmenter, save_segmenter

VIT = {
    "model_name": "vit_tiny_patch16_224",
    "output_stride": 16,
    "timm_kwargs": {"depth": 2, "embed_dim": 24, "num_heads": 2},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
SMALL: dict[str, dict[str, Any]] = {
    "deeplabv2": {},
    "enc_dec_unpool": {
        "encoder_weights": "none",
        "arch_kwargs": {"widths": (4, 6, 6, 8, 8), "dropout": 0},
    },
    "frozen_decoder": {
        "arch_kwargs": {"backbones": ["classifier", VIT], "width": 16, "heads": 2, "layers": 1}
    },
    "unet_small": {"encoder_weights": "none", "arch_kwargs": {"widths": [4, 6, 8]}},
}
SMP: dict[str, dict[str, Any]] = {
    "unet": {"arch_kwargs": {"decoder_channels": [8] * 5}},
    "fpn": {},
    "deeplabv3plus": {},
}


@pytest.fixture(scope="session")
def small_networks() -> dict[str, dict[str, Any]]:
    """Settings of each network of this project."""
    return SMALL


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one; with an extra class, as some methods train."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifier")
    settings = BackboneSettings(model_name="resnet10t")
    model = Classifier(TimmBackbone(settings), ("red", "green"), num_extra=1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts the last of each block at 0
            nn.init.uniform_(module.weight, 0.5, 1.5)
    # maps above 0 somewhere, and probabilities that are neither 0 nor 1
    nn.init.uniform_(model.head.weight, 0, 0.01)
    save_classifier(model, settings, "multi_label", folder)
    return folder


@pytest.fixture(scope="session")
def segmenter(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a network that finds more than one class."""
    made: dict[str, Path] = {}

    def folder_of(arch: str) -> Path:
        if arch not in made:
            torch.manual_seed(1)
            settings = SegmenterSettings(arch=arch, **{**SMALL, **SMP}[arch])
            model = make_segmenter(settings, classifier).eval()
            last = [
                module
                for module in model.modules()
                if isinstance(module, nn.Conv2d) and module.out_channels == 3
            ][-1]
            nn.init.normal_(last.weight, std=0.5)
            made[arch] = tmp_path_factory.mktemp(arch)
            save_segmenter(model, made[arch])
        return made[arch]

    return folder_of


@pytest.fixture(scope="session")
def exported(
    segmenter: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """The file of a network in a format, with one view of an image."""
    from wsss.export import FORMATS, export_model

    made: dict[tuple[str, str], Path] = {}

    def file_of(arch: str, format: str = "onnx") -> Path:
        if (arch, format) not in made:
            file = tmp_path_factory.mktemp(arch) / f"deeper/network{FORMATS[format][0]}"
            done = export_model(segmenter(arch), file, format, scales=[1.0], flip=False)
            assert done.difference < 1e-4 and done.runs == 1 and not done.notes
            made[arch, format] = file
        return made[arch, format]

    return file_of


@pytest.fixture(scope="session")
def exported_classifier(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of the classifier, with one view of an image."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"needs {name}: pip install '.[onnx]'")
    from wsss.export import export_model

    file = tmp_path_factory.mktemp("classifier") / "classifier.onnx"
    done = export_model(classifier, file, scales=[1.0], flip=False)
    assert done.description.kind == "classifier" and done.runs == 1
    return file


def photograph(draw: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: light over areas with edges, and a little noise of a sensor."""
    coarse = draw.integers(0, 256, (6, 8, 3), np.uint8)
    light = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    cells = draw.integers(0, 256, (4, 5, 3), np.uint8)
    areas = Image.fromarray(cells).resize((width, height), Image.Resampling.NEAREST)
    mixed = Image.blend(light, areas.filter(ImageFilter.GaussianBlur(1)), 0.4)
    noisy = np.asarray(mixed, float) + draw.normal(0, 2, (height, width, 3))
    return noisy.round().clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def batches() -> list[np.ndarray]:
    """20 images of many sizes, (B, H, W, 3) uint8 each; some of a batch have one size."""
    draw = np.random.default_rng(0)
    shapes = [
        *((2, 75, 97), (1, 64, 64), (3, 130, 98), (1, 48, 17), (2, 16, 48), (1, 100, 75)),
        *((4, 33, 32), (1, 96, 160), (3, 80, 80), (1, 50, 141), (1, 160, 112)),
    ]
    assert sum(shape[0] for shape in shapes) == 20
    return [
        np.stack([photograph(draw, height, width) for _ in range(count)])
        for count, height, width in shapes
    ]
