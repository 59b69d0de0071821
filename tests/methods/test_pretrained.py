"""Frozen weights: nothing of the backbone moves, and the head is the one that they came with."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from wsss.cam.pretrained import PretrainedCam, PretrainedCamSettings
from wsss.config.sections import BackboneSettings
from wsss.methods.objective import Objective
from wsss.methods.pretrained import Pretrained, PretrainedSettings
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.pretrained_head import PretrainedHeadSettings
from wsss.models.timm_backbone import TimmBackbone
from wsss.seeding import Step

NAME = "resnet10t"
PICTURES = torch.randn(5, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def whole(tmp_path: Path) -> torch.nn.Module:
    """A network that sees a class of its own in each of PICTURES, saved to weights.safetensors."""
    torch.manual_seed(0)
    net = timm.create_model(NAME, zero_init_last=False).eval()
    with torch.no_grad():
        features = net.forward_features(PICTURES).mean(dim=(2, 3))
        centred = functional.normalize(features - features.mean(dim=0))
        net.fc.weight[: len(PICTURES)] = centred
        net.fc.weight[len(PICTURES) :] = 0
        net.fc.bias.copy_(-(net.fc.weight @ features.mean(dim=0)))
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    return net


@pytest.fixture
def settings(tmp_path: Path) -> BackboneSettings:
    weights = str(tmp_path / "weights.safetensors")
    return BackboneSettings(model_name=NAME, output_stride=32, weights=weights)


def make(settings: BackboneSettings) -> Classifier:
    return Classifier(TimmBackbone(settings), ("a", "b", "c"), parts=[PretrainedHeadSettings()])


def test_the_maps_are_of_the_class_that_the_network_names(
    whole: torch.nn.Module, settings: BackboneSettings
) -> None:
    model = make(settings).eval()
    with torch.no_grad():
        maps = model.parts["pretrained_head"](model.backbone(PICTURES))
        logits = whole(PICTURES)
    assert logits.argmax(dim=1).tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(maps.mean(dim=(1, 2)), logits.amax(dim=1), rtol=1e-4, atol=1e-4)
    rows, columns = torch.tensor([1, 1, 4]), torch.tensor([0, 2, 1])
    with torch.inference_mode():
        cams, _ = PretrainedCam(PretrainedCamSettings())(model, PICTURES, rows, columns)
    assert torch.equal(cams[0], cams[1])
    torch.testing.assert_close(cams[2], maps[4].relu())


def test_a_step_moves_the_head_alone(
    whole: torch.nn.Module, settings: BackboneSettings, images: Tensor, labels: Tensor
) -> None:
    model = make(settings).train()
    before = {name: item.clone() for name, item in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    step = Step(np.random.default_rng(0), 0.0, list("abcd"))
    method = Pretrained(PretrainedSettings())
    method(model, images, labels, Objective("multi_label"), step)["loss"].backward()
    optimizer.step()
    changed = {
        name for name, item in model.state_dict().items() if not torch.equal(item, before[name])
    }
    assert changed == {"head.weight"}


def test_a_saved_classifier_keeps_the_head(
    whole: torch.nn.Module, settings: BackboneSettings, tmp_path: Path
) -> None:
    model = make(settings)
    save_classifier(model, settings, "multi_label", tmp_path)
    loaded, _ = load_classifier(tmp_path)
    saved = model.parts["pretrained_head"].conv.weight
    torch.testing.assert_close(loaded.parts["pretrained_head"].conv.weight, saved)


def test_a_file_without_a_head_is_refused(
    whole: torch.nn.Module, settings: BackboneSettings, tmp_path: Path
) -> None:
    weights = {
        name: item for name, item in whole.state_dict().items() if not name.startswith("fc.")
    }
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"holds no fc\.weight and fc\.bias"):
        make(settings)
