"""The image classifier whose last layer reads as class activation maps."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wsss.artifacts import read_json, write_json
from wsss.config.params import BackboneSettings
from wsss.models.timm_backbone import TimmBackbone
from wsss.models.weights import load_matching, read_weights

__all__ = ["Classifier", "ClassifierOutput", "load_classifier", "save_classifier"]


@dataclass
class ClassifierOutput:
    """What a forward pass gives.

    Attributes:
        logits: (B, K) before sigmoid or softmax.
        maps: (B, K, h, w) the head applied to every cell; its spatial mean is `logits`.
        features: (B, D, h, w) of the backbone.
    """

    logits: Tensor
    maps: Tensor
    features: Tensor


class Classifier(nn.Module):
    """Backbone, then a 1x1 convolution without bias, then the mean over cells.

    As the head is linear, pooling before or after it is the same: the logit of a class is
    the mean of its activation map (Zhou et al., CVPR 2016).

    Args:
        backbone: gives (B, D, h, w) features.
        class_names: of the K foreground classes.
    """

    def __init__(self, backbone: TimmBackbone, class_names: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.class_names = class_names
        self.head = nn.Conv2d(backbone.num_features, len(class_names), 1, bias=False)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, images: Tensor) -> ClassifierOutput:
        """(B, 3, H, W) normalised images."""
        features = self.backbone(images)
        maps = self.head(features)
        return ClassifierOutput(maps.mean(dim=(2, 3)), maps, features)


def save_classifier(model: Classifier, settings: BackboneSettings, loss: str, folder: Path) -> None:
    """Write weights.safetensors and model.json, all that `load_classifier` needs."""
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    backbone = settings.model_dump(mode="json")
    backbone |= {"mean": model.backbone.mean, "std": model.backbone.std}
    write_json(
        folder / "model.json",
        {"backbone": backbone, "class_names": model.class_names, "loss": loss},
    )


def load_classifier(folder: Path) -> tuple[Classifier, str]:
    """Read what `save_classifier` wrote.

    Returns:
        The classifier in eval mode on the CPU, and its loss: multi_label or single_label.
    """
    spec = read_json(folder / "model.json")
    settings = BackboneSettings.model_validate(spec["backbone"])
    model = Classifier(TimmBackbone(settings, load_weights=False), tuple(spec["class_names"]))
    load_matching(model, read_weights(folder / "weights.safetensors"), f"{folder}")
    return model.eval().to(memory_format=torch.channels_last), spec["loss"]
