"""Small random classifiers of each kind that CAM methods are for."""

import json
from collections.abc import Callable

import pytest
import torch
from torch import nn

from wsss.config.sections import BackboneSettings
from wsss.models.class_tokens import add_class_tokens
from wsss.models.classifier import Classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import PARTS

CNN = BackboneSettings(model_name="resnet10t", output_stride=16)
VIT = BackboneSettings(
    model_name="test_vit", output_stride=16, timm_kwargs={"dynamic_img_size": True}
)


@pytest.fixture(scope="session")
def classifier() -> Callable[[str], Classifier]:
    """Makes one of four classes: 'cnn', 'vit', 'class tokens', or a cnn with the part named."""

    def make(kind: str) -> Classifier:
        torch.manual_seed(0)
        backbone = TimmBackbone(VIT if kind in ("vit", "class tokens") else CNN)
        if kind == "class tokens":
            nn.init.normal_(backbone.net.cls_token)
            nn.init.normal_(backbone.net.pos_embed)
            add_class_tokens(backbone.net, 4)
            nn.init.normal_(backbone.net.cls_token)
        parts = [PARTS.settings(kind)()] if kind in PARTS.names() else []
        model = Classifier(backbone, ("a", "b", "c", "d"), parts=parts).eval()
        nn.init.normal_(model.head.weight)  # strong maps, so that differences show
        return model

    return make


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of a CLIP of three small blocks with random values, native to 32 x 32 pixels."""
    open_clip = pytest.importorskip("open_clip", reason="needs open_clip_torch")
    path = tmp_path_factory.mktemp("clip") / "tiny.json"
    sizes = {"width": 32, "layers": 3}
    vision = sizes | {"image_size": 32, "patch_size": 8, "head_width": 16}
    text = {"context_length": 24, "vocab_size": 49408, "heads": 2} | sizes
    path.write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(path)
    return {"model_name": "tiny", "weights": "none"}
