"""The head of the single-stage network: its gate, its cues and its grid."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.fusion import fuse_batchnorm
from wsss.models.segmentation_head import SegmentationHead, SegmentationHeadSettings, gated
from wsss.models.timm_backbone import TimmBackbone

CNN = BackboneSettings(model_name="resnet10t", timm_kwargs={"zero_init_last": False})
SMALL = SegmentationHeadSettings(channels=16, rates=(1, 2))
NETWORKS = {
    "cnn": (CNN, 4),
    "mobilenet": (BackboneSettings(model_name="mobilenetv2_050", output_stride=16), 4),
    "resnet38d": (
        BackboneSettings(model_name="resnet38d", output_stride=8, timm_kwargs={"width": 1 / 32}),
        4,
    ),
    "vit": (BackboneSettings(model_name="test_vit", output_stride=16), 16),
}
"""Backbones, and the pixels per cell of their first stage."""


def make(
    settings: SegmentationHeadSettings = SMALL, backbone: BackboneSettings = CNN
) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(TimmBackbone(backbone), ("a", "b", "c"), parts=[settings])
    for module in model.parts.modules():  # as after training: no batch norm is the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.weight is not None:
                nn.init.uniform_(module.weight, 0.5, 2)
    return model.eval()


def images(seed: int = 1) -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed))


def logits_of(model: Classifier, pictures: Tensor, rng: Any = None) -> Tensor:
    part: SegmentationHead = model.parts["segmentation_head"]
    with torch.no_grad():
        return part(*model.backbone.with_stages(pictures), rng)


def test_the_gate_keeps_the_mean_in_training_and_mixes_in_use() -> None:
    deep, shallow = torch.full((1000, 1000), 2.0), torch.tensor(5.0)
    found = gated(deep, shallow, 0.3, np.random.default_rng(0))
    assert sorted(set(found.flatten().tolist())) == pytest.approx([(2 - 1.5) / 0.7, 5])
    assert float((found == 5).float().mean()) == pytest.approx(0.3, abs=0.002)
    assert float(found.mean()) == pytest.approx(2, abs=0.005)
    assert float(gated(deep, shallow, 0.3)[0, 0]) == pytest.approx(2.9)
    assert torch.equal(gated(deep, shallow, 0, np.random.default_rng(0)), deep)
    again = gated(deep, shallow, 0.3, np.random.default_rng(0))
    assert torch.equal(again, found)


@pytest.mark.parametrize("name", NETWORKS)
def test_masks_have_the_grid_of_the_shallow_stage(name: str) -> None:
    backbone, cell = NETWORKS[name]
    model = make(backbone=backbone)
    logits = logits_of(model, images())
    assert logits.shape == (2, 3, 64 // cell, 96 // cell)
    assert logits.dtype == torch.float32
    assert logits.std() > 0
    part = model.parts["segmentation_head"]
    assert torch.equal(part.with_background(logits)[:, 0], torch.ones_like(logits[:, 0]))
    assert torch.equal(part.with_background(logits)[:, 1:], logits)


def test_the_head_by_hand() -> None:
    """In use: pyramid, skip, cues of all the image on the shallow features, gate, last layers."""
    model = make()
    part: SegmentationHead = model.parts["segmentation_head"]
    with torch.no_grad():
        features, stages = model.backbone.with_stages(images())
        found = part(features, stages)

        def layer(module: nn.Sequential, x: Tensor, rate: int = 1) -> Tensor:
            conv, norm = module[0], module[1]
            kernel = conv.weight.shape[-1]
            x = functional.conv2d(x, conv.weight, padding=rate * (kernel // 2), dilation=rate)
            mean, var = (value[:, None, None] for value in (norm.running_mean, norm.running_var))
            x = (x - mean) / (var + norm.eps).sqrt()
            return x if norm.weight is None else x * norm.weight[:, None, None]

        around = [
            layer(m, features, rate).relu() for m, rate in zip(part.around, (1, 2), strict=True)
        ]
        whole = layer(part.whole, features.mean((2, 3), keepdim=True)).relu()
        deep = layer(part.join, torch.cat([*around, whole.expand_as(around[0])], 1)).relu()
        deep = functional.interpolate(deep, (16, 24), mode="bilinear", align_corners=True)
        deep = layer(part.decode, torch.cat([deep, layer(part.skip, stages[0]).relu()], 1)).relu()
        cues = layer(part.cues, deep).relu().flatten(2).max(dim=2).values[:, :, None, None]
        gamma, beta = cues[:, :16], cues[:, 16:]
        value = layer(part.plain, stages[0])
        shallow = layer(part.inject, (value * (gamma + 1) + beta).relu()).relu()
        mixed = 0.7 * deep + 0.3 * shallow
        expected = part.last[2](layer(part.last[1], layer(part.last[0], mixed).relu()).relu())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert part.plain[1].weight is None and gamma.min() >= 0 and beta.min() >= 0


def test_training_draws_from_the_generator_alone() -> None:
    model = make()
    first = logits_of(model, images(), np.random.default_rng(3))
    torch.manual_seed(9)
    state = torch.get_rng_state()
    again = logits_of(model, images(), np.random.default_rng(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, logits_of(model, images(), np.random.default_rng(4)))


def test_scores_are_mean_logits_over_masks_and_a_penalty_of_small_ones() -> None:
    part = make().parts["segmentation_head"]
    logits = torch.tensor([[[[3.0, 1.0, -1.0]]]])
    assert float(part.scores(logits, 1)) == pytest.approx(1.20928 - 0.08417, abs=1e-5)
    without = make(SMALL.model_copy(update={"background": False})).parts["segmentation_head"]
    both = torch.cat([logits, torch.ones_like(logits)], dim=1)  # a class as sure as a background
    assert float(without.scores(both, 1)[0, 0]) == pytest.approx(1.12511, abs=1e-5)
    assert torch.equal(without.with_background(both), both)


def test_folding_batch_norms_leaves_the_masks() -> None:
    model = make()
    fused = fuse_batchnorm(model, torch.rand(1, 3, 64, 64))
    assert fused is not model
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.parts.modules())
    torch.testing.assert_close(
        logits_of(fused, images()), logits_of(model, images()), rtol=1e-3, atol=1e-4
    )


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    model = make()
    save_classifier(model, CNN, "multi_label", tmp_path)
    restored, _ = load_classifier(tmp_path)
    assert restored.part_settings == (SMALL,)
    torch.testing.assert_close(logits_of(restored, images()), logits_of(model, images()))


def test_a_stage_that_does_not_run_is_named() -> None:
    backbone = NETWORKS["vit"][0].model_copy(update={"last_stage": 1})
    with pytest.raises(ValueError, match=r"reads stage 2, but of the backbone 1 are run; choose"):
        make(SMALL.model_copy(update={"stage": 2}), backbone)


def test_the_published_sizes() -> None:
    backbone = NETWORKS["cnn"][0]
    part = make(SegmentationHeadSettings(), backbone).parts["segmentation_head"]
    shapes = {name: tuple(value.shape) for name, value in part.named_parameters()}
    assert [conv[0].dilation[0] for conv in part.around] == [1, 12, 24, 36]
    assert [conv[0].kernel_size[0] for conv in part.around] == [1, 3, 3, 3]
    assert shapes["join.0.weight"] == (256, 5 * 256, 1, 1)
    assert shapes["skip.0.weight"][0] == 48
    assert shapes["decode.0.weight"] == (256, 304, 3, 3)
    assert shapes["cues.0.weight"] == (512, 256, 1, 1)
    assert shapes["last.2.weight"] == (3, 256, 1, 1)
