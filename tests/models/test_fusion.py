"""Folding batch norm keeps the function, and gives way where it would not."""

import pytest
import torch
from torch import nn

from wsss.config.params import BackboneSettings
from wsss.models.classifier import Classifier
from wsss.models.fusion import fuse_batchnorm
from wsss.models.timm_backbone import TimmBackbone


def trained(name: str) -> Classifier:
    """A classifier whose batch norms do something."""
    torch.manual_seed(0)
    model = Classifier(TimmBackbone(BackboneSettings(model_name=name)), ("a", "b"))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv2_050", "regnetx_002"])
def test_same_maps(name: str) -> None:
    model = trained(name)
    fused = fuse_batchnorm(model, torch.randn(1, 3, 64, 64))
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        wanted, found = model(images).maps, fused(images).maps
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_no_batchnorm_is_left_in_a_plain_network() -> None:
    fused = fuse_batchnorm(trained("mobilenetv2_050"), torch.randn(1, 3, 64, 64))
    assert not [m for m in fused.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def test_a_norm_that_only_looks_adjacent_is_kept() -> None:
    class Detour(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)  # runs before the convolution

        def forward(self, images: torch.Tensor) -> object:
            maps = self.conv(self.norm(images).relu())
            return type("Output", (), {"maps": maps})()

    model = Detour()
    nn.init.uniform_(model.norm.running_mean, 1, 2)
    model.eval()
    assert fuse_batchnorm(model, torch.randn(1, 3, 8, 8)) is model
