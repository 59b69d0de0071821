"""The network that gives features, the index, and their files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from wsss.artifacts import read_json, write_json
from wsss.checks import full_key
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import RetrievalSettings
from wsss.models.classifier import load_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.models.weights import load_matching, read_weights
from wsss.segment.retrieval.index import RegionIndex, read_index, write_index

__all__ = [
    "RetrievalModel",
    "cell_features",
    "is_retrieval",
    "load_retrieval",
    "make_backbone",
    "save_retrieval",
]

KIND = "retrieval"
"""In model.json, where a network has the name of its architecture."""


@dataclass(frozen=True)
class RetrievalModel:
    """All that prediction needs beside proposals.

    Attributes:
        settings: how regions and proposals are compared.
        class_names: K names.
        backbone: gives the features; in eval mode.
        backbone_settings: of the backbone.
        index: the regions of training images.
    """

    settings: RetrievalSettings
    class_names: tuple[str, ...]
    backbone: TimmBackbone
    backbone_settings: BackboneSettings
    index: RegionIndex


def make_backbone(
    settings: RetrievalSettings, classifier: Path
) -> tuple[TimmBackbone, BackboneSettings]:
    """The backbone that settings name, in eval mode on the CPU, and what makes it again.

    Args:
        settings: name it.
        classifier: the folder of the trained classifier, for 'classifier'.
    """
    if settings.backbone == "classifier":
        backbone = load_classifier(classifier)[0].backbone
        backbone.weights_source = "classifier"
        trained = read_json(classifier / "model.json")["backbone"]
        return backbone, BackboneSettings.model_validate(trained)
    try:
        return TimmBackbone(settings.backbone).eval(), settings.backbone
    except ValueError as error:
        place = full_key("retrieval.backbone.")
        raise ValueError(str(error).replace("backbone.", place)) from None


def cell_features(backbone: TimmBackbone, images: Tensor) -> tuple[np.ndarray, tuple[float, float]]:
    """What a backbone sees of images.

    Args:
        backbone: in eval mode.
        images: (B, 3, H, W) in its normalisation, on its device.

    Returns:
        (B, D, h, w) float32, and the share of the grid's height and width that the images cover;
        the rest is padding.
    """
    with torch.inference_mode():
        features = backbone(images).float().cpu().numpy()
    height, width = backbone.covered(images)
    return features, (images.shape[2] / height, images.shape[3] / width)


def save_retrieval(model: RetrievalModel, folder: Path) -> None:
    """Write index.npz, weights.safetensors and model.json, all that `load_retrieval` needs."""
    write_index(folder / "index.npz", model.index)
    state = model.backbone.net.state_dict()
    weights = {name: tensor.contiguous().cpu() for name, tensor in state.items()}
    save_file(weights, folder / "weights.safetensors")
    spec: dict[str, Any] = {
        "arch": KIND,
        "class_names": model.class_names,
        "settings": model.settings.model_dump(mode="json"),
        "backbone": model.backbone_settings.model_dump(mode="json")
        | vars(model.backbone.normalisation),
    }
    write_json(folder / "model.json", spec)


def is_retrieval(folder: Path) -> bool:
    """Whether a folder holds what `save_retrieval` wrote, and no network."""
    return bool(read_json(folder / "model.json")["arch"] == KIND)


def load_retrieval(folder: Path) -> RetrievalModel:
    """Read what `save_retrieval` wrote: on the CPU."""
    spec = read_json(folder / "model.json")
    settings = BackboneSettings.model_validate(spec["backbone"])
    backbone = TimmBackbone(settings, load_weights=False).eval()
    load_matching(backbone.net, read_weights(folder / "weights.safetensors"), str(folder))
    return RetrievalModel(
        RetrievalSettings.model_validate(spec["settings"]),
        tuple(spec["class_names"]),
        backbone,
        settings,
        read_index(folder / "index.npz"),
    )
