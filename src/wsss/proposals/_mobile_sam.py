"""MobileSAM: SAM with a small image encoder, from the parts of timm and segment-anything."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["mobile_sam", "renamed"]


def mobile_sam() -> Any:
    """SAM whose image encoder is TinyViT-5M at stride 16 (Zhang et al., arXiv 2306.14289)."""
    import timm
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    from segment_anything.modeling.common import LayerNorm2d
    from torch import nn

    net = timm.create_model("tiny_vit_5m_224", num_classes=0, drop_path_rate=0.0)
    net.stages[3].downsample.conv2.conv.stride = (1, 1)
    net.head = nn.Identity()
    encoder = nn.Sequential()
    encoder.add_module("net", net)
    encoder.add_module(
        "neck",
        nn.Sequential(
            nn.Conv2d(net.num_features, 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        ),
    )
    encoder.img_size = 1024  # type: ignore[assignment]
    prompts = PromptEncoder(256, (64, 64), (1024, 1024), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
    return Sam(encoder, prompts, MaskDecoder(transformer_dim=256, transformer=transformer)).eval()


def renamed(weights: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """A published state dict with the names of `mobile_sam`."""
    return {_renamed(name): tensor for name, tensor in weights.items()}


def _renamed(name: str) -> str:
    """The name of a tensor here, by its published one.

    Example:
        >>> _renamed("image_encoder.patch_embed.seq.2.c.weight")
        'image_encoder.net.patch_embed.conv2.conv.weight'
        >>> _renamed("image_encoder.layers.0.downsample.conv1.bn.bias")
        'image_encoder.net.stages.1.downsample.conv1.bn.bias'
        >>> _renamed("image_encoder.neck.0.weight")
        'image_encoder.neck.0.weight'
    """
    found = re.match(r"image_encoder\.(patch_embed\.seq|layers)\.(\d)\.(downsample\.)?", name)
    if not found:
        return name
    part = int(found[2])
    rest = re.sub(r"\bc\.", "conv.", name[found.end() :].removeprefix("."))
    if found[1] == "layers":  # timm has a stage begin with the merging, the paper's code end
        place = f"stages.{part + 1}.downsample" if found[3] else f"stages.{part}"
    else:
        place = f"patch_embed.conv{part // 2 + 1}"
    return f"image_encoder.net.{place}.{rest}"
