"""The head of AffinityNet, what it reads of a backbone, and its files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from wsss.config.sections import BackboneSettings
from wsss.models.affinity_net import (
    AffinityNet,
    level_features,
    levels,
    load_affinity_net,
    network_input,
    save_network,
)
from wsss.models.timm_backbone import TimmBackbone

CNN = BackboneSettings(model_name="resnet10t")
VIT = BackboneSettings(
    model_name="vit_tiny_patch16_224",
    output_stride=4,
    timm_kwargs={"patch_size": 4, "img_size": 32, "embed_dim": 24, "depth": 4, "num_heads": 2},
)
RESNET38D = BackboneSettings(model_name="resnet38d", output_stride=8, timm_kwargs={"width": 1 / 16})


def images(height: int, width: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (CNN, [(64, 2), (64, 4), (128, 8), (256, 16), (512, 16)]),
        (RESNET38D, [(8, 2), (16, 4), (32, 8), (64, 8), (256, 8)]),
        (VIT, [(24, 4)] * 4),
    ],
)
def test_levels_are_the_stem_and_the_stages(
    settings: BackboneSettings, expected: list[tuple[int, int]]
) -> None:
    backbone = TimmBackbone(settings).eval()
    found = levels(backbone, at_least=4)
    with torch.no_grad():
        features = level_features(backbone, found, images(32, 64))
    assert [level.channels for level in found] == [channels for channels, _ in expected]
    assert [tensor.shape for tensor in features] == [
        (2, channels, 32 // stride, 64 // stride) for channels, stride in expected
    ]


def test_a_map_as_wide_as_its_network_has_channels_is_not_turned() -> None:
    """The stem has 512 columns of an image of 1024 pixels, and the network 512 channels."""
    backbone = TimmBackbone(CNN).eval()
    with torch.no_grad():
        features = level_features(backbone, levels(backbone, at_least=4), images(16, 1024, 1))
    assert features[0].shape == (1, 64, 8, 512)


def test_a_backbone_of_few_stages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = TimmBackbone.stages
    monkeypatch.setattr(TimmBackbone, "stages", lambda self: stages(self)[:2])
    with pytest.raises(ValueError, match="has 2 stages, but 3 are needed"):
        AffinityNet(CNN)


def test_features_are_the_formula() -> None:
    """Of the last three stages, by hand: means over 2x2 cells, matrix products, ELU."""
    torch.manual_seed(0)
    model = AffinityNet(CNN, (4, 5, 6)).eval()
    batch = images(32, 48)
    with torch.no_grad():
        found = model(batch)
        _, stages = model.backbone.with_stages(batch)
        fine = stages[1].reshape(2, 128, 2, 2, 3, 2).mean(dim=(3, 5))
        reduced = [
            functional.elu(torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], stage))
            for conv, stage in zip(model.reduce, (fine, *stages[2:]), strict=True)
        ]
        joined = torch.einsum("oc,bchw->bohw", model.join.weight[:, :, 0, 0], torch.cat(reduced, 1))
    assert found.shape == (2, 15, 2, 3)
    torch.testing.assert_close(found, functional.elu(joined), atol=1e-5, rtol=1e-4)


def test_what_is_new_and_what_learns() -> None:
    model = AffinityNet(CNN, (4, 5, 6))
    model(images(32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    own = {
        id(parameter) for module in (model.reduce, model.join) for parameter in module.parameters()
    }
    assert own < {
        id(parameter) for module in model.new_modules for parameter in module.parameters()
    }
    model.backbone.weights_source = "file:x"
    assert own == {
        id(parameter) for module in model.new_modules for parameter in module.parameters()
    }


@pytest.mark.parametrize(
    ("size", "expected"), [((32, 48), (32, 48)), ((33, 47), (48, 48)), ((1, 9), (16, 16))]
)
def test_an_image_fills_whole_cells(size: tuple[int, int], expected: tuple[int, int]) -> None:
    backbone = TimmBackbone(CNN.model_copy(update={"mean": (0.1, 0.5, 0.7), "std": (0.5, 1, 2)}))
    colour = np.array([0, 128, 255], np.uint8)
    pixels = network_input(np.broadcast_to(colour, (*size, 3)).copy(), backbone)
    assert pixels.shape == (1, 3, *expected) and pixels.dtype == torch.float32
    normal = (colour / 255 - (0.1, 0.5, 0.7)) / (0.5, 1, 2)
    np.testing.assert_allclose(pixels.mean(dim=(0, 2, 3)), normal, atol=1e-5)
    assert pixels.std(dim=(2, 3)).max() < 1e-5


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    settings = CNN.model_copy(update={"mean": (0.1, 0.2, 0.3), "weights": "$NOWHERE/w.pth"})
    torch.manual_seed(0)
    model = AffinityNet(settings, (4, 5, 6), load_weights=False).eval()
    save_network(model, tmp_path / "mine")
    again = load_affinity_net(tmp_path / "mine")
    assert not again.training and again.backbone.normalisation.mean == (0.1, 0.2, 0.3)
    with torch.no_grad():
        first, other = model(images(32, 32)), again(images(32, 32))
    torch.testing.assert_close(first, other, atol=1e-5, rtol=1e-5)  # another memory format


def test_what_is_not_there_or_of_another_kind_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no project of DVC
    with pytest.raises(ValueError, match=r"mine holds no trained network.*wsss run train_aff"):
        load_affinity_net(tmp_path / "mine")
    (tmp_path / "model.json").write_text(json.dumps({"kind": "irn"}))
    with pytest.raises(ValueError, match="a network of irn, but psa is asked for"):
        load_affinity_net(tmp_path)
