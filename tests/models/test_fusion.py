"""Folding batch norm keeps the function, and gives way where it would not."""

from types import SimpleNamespace

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier
from wsss.models.fusion import ActivatedConv2d, fuse_batchnorm
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


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU6(), nn.SiLU()])
@pytest.mark.parametrize("groups", [1, 6])
def test_convolution_and_activation_in_one_pass(act: nn.Module, groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 12, 3, stride=2, padding=2, dilation=2, groups=groups)
    joined = ActivatedConv2d(conv, act)
    maps = 5 * torch.randn(2, 6, 17, 20)
    wanted = act(conv(maps))
    with torch.inference_mode():
        torch.testing.assert_close(joined(maps), wanted)
        with torch.autocast("cpu", torch.bfloat16):
            found = joined(maps)
            assert found.dtype == torch.bfloat16
            torch.testing.assert_close(found, act(conv(maps)), rtol=0.02, atol=0.02)
    assert joined(maps).requires_grad  # gradients need both steps


@pytest.mark.parametrize("size", [(16, 16), (17, 20), (1, 2), (7, 31)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [(3, 2, 1), (5, 2, 1), (7, 2, 1), (3, 3, 1), (3, 2, 2), (1, 2, 1), (2, 2, 1), (4, 4, 1)],
)
def test_padding_of_tensorflow_in_one_pass(
    kernel: int, stride: int, dilation: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    conv, act = Conv2dSame(6, 12, kernel, stride, dilation=dilation), nn.ReLU6()
    joined = ActivatedConv2d(conv, act).to(memory_format=torch.channels_last)
    maps = 5 * torch.randn(2, 6, *size)
    with torch.inference_mode():
        torch.testing.assert_close(joined(maps), act(conv(maps)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_kinds_of_numbers_that_a_processor_has_no_instructions_for(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps in reduced precision run on any processor: PyTorch has other means of its own."""
    lacking = SimpleNamespace(
        _is_mkldnn_bf16_supported=lambda: False, _is_mkldnn_fp16_supported=lambda: False
    )
    monkeypatch.setattr(torch.ops, "mkldnn", lacking)  # to call its operator would fail
    conv = nn.Conv2d(6, 12, 3)
    joined = ActivatedConv2d(conv, nn.ReLU6())
    maps = 5 * torch.randn(2, 6, 17, 20)
    with torch.inference_mode():
        if dtype == torch.float64:
            assert joined.double()(maps.double()).dtype == dtype
            return
        with torch.autocast("cpu", dtype):
            assert joined(maps).dtype == dtype
        assert joined.to(dtype)(maps.to(dtype)).dtype == dtype


def test_activations_go_with_their_convolutions() -> None:
    """Else half of the speed is gone, and no other test would notice."""
    fused = fuse_batchnorm(trained("mobilenetv2_050"), torch.randn(1, 3, 64, 64))
    assert len([module for module in fused.modules() if isinstance(module, ActivatedConv2d)]) == 35


def test_steps_that_run_one_after_the_other_are_joined() -> None:
    """As in decoders: a separable convolution is a sequence, whose norm and activation follow."""
    torch.manual_seed(0)
    separable = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 8, 1, bias=False))
    network = nn.Sequential(
        separable, nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4), nn.Sigmoid(),
        nn.Conv2d(4, 4, 1), nn.ReLU6(),
    ).eval()  # fmt: skip
    for norm in (network[1], network[4]):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    images = torch.randn(2, 3, 20, 24)
    fused = fuse_batchnorm(network, images[:1])
    with torch.inference_mode():
        torch.testing.assert_close(fused(images), network(images), rtol=1e-4, atol=1e-5)
    kinds = [type(module) for module in fused.modules()]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(ActivatedConv2d) == 2


def test_a_network_that_takes_no_small_image_runs_as_it_is() -> None:
    class OfOneSize(nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.shape[2] != 224:
                raise AssertionError("Input height (64) doesn't match model (224)")
            maps: torch.Tensor = super().forward(images)
            return maps

    network = OfOneSize(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    assert fuse_batchnorm(network, torch.randn(1, 3, 64, 64)) is network


@pytest.mark.parametrize(
    ("conv", "act"),
    [
        (nn.Conv2d(3, 3, 3, padding="same"), nn.ReLU()),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
        (nn.Conv2d(3, 3, 3), nn.Hardswish()),
    ],
)
def test_what_one_pass_can_not_do_stays_as_it_is(conv: nn.Conv2d, act: nn.Module) -> None:
    assert not ActivatedConv2d.fits(conv, act)


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
