"""Class tokens: the loss by hand, what the tokens learn, and who can have them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsss.config.sections import BackboneSettings, HeadSettings
from wsss.methods.base import Start
from wsss.methods.class_tokens import ClassTokens, ClassTokensSettings
from wsss.methods.objective import Objective
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.pooling import ranked_mean
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import CAM_METHODS, PARTS
from wsss.seeding import Step

OBJECTIVE = Objective("multi_label")
STEP = Step(np.random.default_rng(0), 0.5, list("abcd"))
VIT = BackboneSettings(model_name="test_vit")


def make(head: HeadSettings | None = None, backbone: BackboneSettings = VIT) -> Classifier:
    torch.manual_seed(0)
    parts = [PARTS.settings("class_tokens")()]
    model = Classifier(TimmBackbone(backbone), ("a", "b", "c"), head, parts=parts).eval()
    for parameter in model.backbone.net.norm.parameters():
        nn.init.normal_(parameter)  # as those of trained networks, not all equal
    return model


def losses(model: Classifier, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return ClassTokens(ClassTokensSettings())(model, images, labels, OBJECTIVE, STEP)


def test_the_method_asks_for_the_part(make_start: Callable[..., Start]) -> None:
    (part,) = ClassTokens(ClassTokensSettings()).begin(make_start())
    assert part == PARTS.settings("class_tokens")()


@pytest.mark.parametrize("pooling", ["mean", "ranked"])
def test_both_losses_by_hand(images: Tensor, labels: Tensor, pooling: Any) -> None:
    model = make(HeadSettings(pooling=pooling))
    tokens = model.backbone.net.forward_features(images)  # (4, 3 + 6, 64)
    assert tokens.shape[1] == 9
    maps = torch.einsum("bnd,cd->bcn", tokens[:, 3:], model.head.weight[:, :, 0, 0])
    patches = maps.mean(dim=2) if pooling == "mean" else ranked_mean(maps, 0.996)
    classes = torch.stack([tokens[:, c].mean(dim=1) for c in range(3)], dim=1)
    found = losses(model, images, labels)
    expected = OBJECTIVE.classification(patches, labels)
    torch.testing.assert_close(found["classification"], expected)
    torch.testing.assert_close(found["tokens"], OBJECTIVE.classification(classes, labels))
    torch.testing.assert_close(found["loss"], found["classification"] + found["tokens"])
    torch.testing.assert_close(model(images).maps.flatten(2), maps)


def test_tokens_that_begin_alike_become_different(images: Tensor, labels: Tensor) -> None:
    model = make()
    tokens = model.backbone.net.cls_token
    tokens.data[:] = tokens.data[:, :1]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    before = losses(model, images, labels)["tokens"].item()
    for _ in range(5):
        optimizer.zero_grad()
        torch.autograd.backward(losses(model, images, labels)["loss"])
        optimizer.step()
    assert losses(model, images, labels)["tokens"].item() < before
    assert (tokens[0, 0] - tokens[0, 1]).abs().max() > 0
    assert (tokens[0, 1] - tokens[0, 2]).abs().max() > 0


def test_it_comes_back_from_a_file_and_has_maps(images: Tensor, tmp_path: Path) -> None:
    model = make()
    nn.init.normal_(model.backbone.net.cls_token)
    save_classifier(model, VIT, "multi_label", tmp_path)
    restored, _ = load_classifier(tmp_path)
    assert restored.backbone.net.cls_token.shape == (1, 3, 64)
    torch.testing.assert_close(restored(images).maps, model(images).maps)
    method = CAM_METHODS.build(CAM_METHODS.settings("class_token_attention")())
    rows, columns = torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1])
    with torch.inference_mode():
        maps, _ = method(restored, images, rows, columns)
    assert maps.shape == (3, 3, 2) and maps.max() > 0


def test_the_tokens_are_the_backbones() -> None:
    model = make()
    assert not list(model.parts.parameters())
    assert "backbone.net.cls_token" in dict(model.named_parameters())


@pytest.mark.parametrize("name", ["resnet10t", "swin_tiny_patch4_window7_224"])
def test_other_networks_are_refused(name: str) -> None:
    stride = 32 if "swin" in name else 16
    kwargs = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    backbone = BackboneSettings(
        model_name=name, output_stride=stride, timm_kwargs=kwargs if "swin" in name else {}
    )
    with pytest.raises(ValueError, match=r"method class_tokens: .* need a plain vision"):
        make(backbone=backbone)


@pytest.mark.parametrize("decay", [0.5, 0.996, 0.999])
def test_ranks_count_the_same_in_bfloat16(decay: float) -> None:
    """Which has no number between 0.996 and 1."""
    values = torch.randn(3, 784, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = ranked_mean(values, decay)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), ranked_mean(values.float(), decay), rtol=0.01, atol=0)
