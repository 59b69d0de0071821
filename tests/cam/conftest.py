"""Small random classifiers of each kind that CAM methods are for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models import register_model
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


class CellNet(nn.Module):
    """A timm model that looks at every cell of 16 x 16 pixels alone, in four stages of one grid."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 12
        self.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "num_classes": 7}
        self.feature_info = []
        width = 3
        for stage in range(4):
            side = 1 if stage else 16
            layer = nn.Sequential(nn.Conv2d(width, 12, side, stride=side), nn.ReLU())
            self.add_module(f"layer{stage}", layer)
            width = 12
            info = {"num_chs": width, "reduction": 16, "module": f"layer{stage}"}
            self.feature_info.append(info)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            images = layer(images)
        return images


@register_model
def cells(**kwargs: Any) -> CellNet:
    """For timm.create_model("cells")."""
    del kwargs
    return CellNet()


CELLS = BackboneSettings(model_name="cells", output_stride=16)


@pytest.fixture(scope="session")
def classifier() -> Callable[[str], Classifier]:
    """Makes one of four classes: 'cnn', 'vit', 'class tokens', or a cnn with the part named.

    'cells' has all the parts, and no cell of its maps depends on another.
    """

    def make(kind: str) -> Classifier:
        torch.manual_seed(0)
        settings = {"vit": VIT, "class tokens": VIT, "cells": CELLS}.get(kind, CNN)
        backbone = TimmBackbone(settings)
        if kind == "class tokens":
            nn.init.normal_(backbone.net.cls_token)
            nn.init.normal_(backbone.net.pos_embed)
            add_class_tokens(backbone.net, 4)
            nn.init.normal_(backbone.net.cls_token)
        names = (
            ["disentangler", "pcm", "pretrained_head", "segmentation_head"]
            if kind == "cells"
            else [kind]
        )
        parts = [PARTS.settings(name)() for name in names if name in PARTS.names()]
        model = Classifier(backbone, ("a", "b", "c", "d"), parts=parts).eval()
        nn.init.normal_(model.head.weight)  # strong maps, so that differences show
        if kind == "cells":
            disentangler = model.parts["disentangler"]
            disentangler.conv.weight.data *= torch.eye(9)[4].view(3, 3)
            nn.init.ones_(disentangler.norm.bias)
            for module in model.parts["segmentation_head"].modules():
                if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                    module.weight.data *= torch.eye(9)[4].view(3, 3)
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


@pytest.fixture(scope="session")
def sam3_parts() -> tuple[Any, Any]:
    """A SAM 3 of random weights for images of 64 pixels, and a tokenizer that knows few letters."""
    transformers = pytest.importorskip("transformers", reason="SAM 3 needs transformers")
    words = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in "abcdxyz")]
    small = {"hidden_size": 16, "num_attention_heads": 2}
    backbone = {
        "model_type": "sam3_vit_model", **small, "intermediate_size": 16,
        "num_hidden_layers": 2, "image_size": 64, "patch_size": 8,
        "window_size": 4, "global_attn_indexes": [1], "pretrain_image_size": 32,
    }  # fmt: skip
    vision = {
        "model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }  # fmt: skip
    layers = {**small, "num_layers": 1, "intermediate_size": 16}
    text = {
        "model_type": "clip_text_model", **small, "intermediate_size": 16, "num_hidden_layers": 1,
        "vocab_size": len(words), "max_position_embeddings": 6, "projection_dim": 8,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    config = transformers.Sam3Config(
        vision_config=vision, text_config=text, geometry_encoder_config=layers,
        detr_encoder_config=layers, detr_decoder_config={**layers, "num_queries": 5},
        mask_decoder_config=small,
    )  # fmt: skip
    torch.manual_seed(0)
    network = transformers.Sam3Model(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    vocabulary = {word: at for at, word in enumerate(words)}
    return network.eval(), transformers.CLIPTokenizer(vocab=vocabulary, merges=[])


@pytest.fixture(scope="session")
def sam3_folder(sam3_parts: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both of them as a checkpoint."""
    path = tmp_path_factory.mktemp("sam3")
    for part in sam3_parts:
        part.save_pretrained(path)
    return path
