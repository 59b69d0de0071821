"""The image classifier whose last layer reads as class activation maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wsss.artifacts import read_json, write_json
from wsss.config.sections import BackboneSettings, HeadSettings
from wsss.models.pooling import pool
from wsss.models.timm_backbone import TimmBackbone
from wsss.models.weights import load_matching, read_weights
from wsss.registry import PARTS
from wsss.settings import Named

__all__ = ["Classifier", "ClassifierOutput", "load_classifier", "save_classifier"]


@dataclass
class ClassifierOutput:
    """What a forward pass gives; L classes are the K of the data and extra ones after them.

    Attributes:
        logits: (B, L) before sigmoid or softmax.
        maps: (B, L, h, w) the head applied to every cell; pooled they are `logits`.
        features: (B, D, h, w) of the backbone.
        stages: (B, D_i, h_i, w_i) of the backbone's stages, shallow to deep, if asked for.
    """

    logits: Tensor
    maps: Tensor
    features: Tensor
    stages: tuple[Tensor, ...] = ()


class Classifier(nn.Module):
    """Backbone, then a convolution without bias, then pooling over cells.

    As the head is linear, pooling by the mean before or after it is the same: the logit of a
    class is the mean of its activation map (Zhou et al., CVPR 2016).

    Args:
        backbone: gives (B, D, h, w) features.
        class_names: of the K foreground classes.
        head: its kernel, dropout and pooling.
        num_extra: classes that only training knows, such as that of background images; their
            logits and maps come after the others.
        parts: settings of further modules that a training method needs, entries of `PARTS`.

    Attributes:
        parts: those modules by their names.
    """

    def __init__(
        self,
        backbone: TimmBackbone,
        class_names: tuple[str, ...],
        head: HeadSettings | None = None,
        *,
        num_extra: int = 0,
        parts: Sequence[Named] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.class_names = class_names
        self.head_settings = head or HeadSettings()
        self.num_extra = num_extra
        self.part_settings = tuple(parts)
        kernel = self.head_settings.kernel_size
        outputs = len(class_names) + num_extra
        self.head = nn.Conv2d(
            backbone.num_features, outputs, kernel, padding=kernel // 2, bias=False
        )
        nn.init.normal_(self.head.weight, std=0.01)
        self.dropout = nn.Dropout2d(self.head_settings.dropout)
        built = {settings.name: PARTS.build(settings, backbone, outputs) for settings in parts}
        self.parts: Any = nn.ModuleDict(built)

    def forward(self, images: Tensor, *, with_stages: bool = False) -> ClassifierOutput:
        """(B, 3, H, W) normalised images."""
        stages: tuple[Tensor, ...] = ()
        if with_stages:
            features, stages = self.backbone.with_stages(images)
        else:
            features = self.backbone(images)
        maps = self.head(self.dropout(features))
        return ClassifierOutput(pool(maps, self.head_settings), maps, features, stages)

    def part(self, name: str, setting: str) -> Any:
        """The part of that name; a ValueError that names `setting` if training made none."""
        if name not in self.parts:
            raise ValueError(
                f"{setting} needs a classifier with the part '{name}', but this one was trained "
                f"with {sorted(self.parts) or 'none'}; train one with a method that makes "
                "it"
            )
        return self.parts[name]


def save_classifier(model: Classifier, settings: BackboneSettings, loss: str, folder: Path) -> None:
    """Write weights.safetensors and model.json, all that `load_classifier` needs."""
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    backbone = settings.model_dump(mode="json") | vars(model.backbone.normalisation)
    write_json(
        folder / "model.json",
        {
            "backbone": backbone,
            "class_names": model.class_names,
            "head": model.head_settings.model_dump(mode="json"),
            "num_extra": model.num_extra,
            "parts": [settings.model_dump(mode="json") for settings in model.part_settings],
            "loss": loss,
        },
    )


def load_classifier(folder: Path) -> tuple[Classifier, str]:
    """Read what `save_classifier` wrote.

    Returns:
        The classifier in eval mode on the CPU, and its loss: multi_label or single_label.
    """
    spec = read_json(folder / "model.json")
    settings = BackboneSettings.model_validate(spec["backbone"])
    model = Classifier(
        TimmBackbone(settings, load_weights=False),
        tuple(spec["class_names"]),
        HeadSettings.model_validate(spec["head"]),
        num_extra=spec["num_extra"],
        parts=[PARTS.settings(part["name"]).model_validate(part) for part in spec["parts"]],
    )
    load_matching(model, read_weights(folder / "weights.safetensors"), f"{folder}")
    return model.eval().to(memory_format=torch.channels_last), spec["loss"]
