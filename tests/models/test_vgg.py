"""VGG networks with smaller strides: same weights, and the old values where the old cells were."""

import pytest
import timm
import torch
from torch import nn

from wsss.config.sections import BackboneSettings
from wsss.models.timm_backbone import TimmBackbone
from wsss.models.vgg import dilate_vgg

NAMES = ["vgg11", "vgg11_bn", "vgg16"]
SMALL = {"mlp_ratio": 1 / 4096}  # of the layers after the map, which are dropped


def make(name: str, stride: int) -> TimmBackbone:
    settings = BackboneSettings(model_name=name, output_stride=stride, timm_kwargs=SMALL)
    torch.manual_seed(0)
    return TimmBackbone(settings).eval()


@pytest.mark.parametrize("name", NAMES)
def test_stride_32_is_timm_untouched(name: str) -> None:
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0, global_pool="", **SMALL).eval()
    images = torch.randn(1, 3, 75, 96)
    assert torch.equal(make(name, 32)(images), net.forward_features(images))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stride", [8, 16])
def test_every_second_or_fourth_cell_is_that_of_stride_32(name: str, stride: int) -> None:
    # For whole multiples of 32 pixels this holds at all cells, up to the border.
    images = torch.randn(1, 3, 96, 64)
    coarse, fine = make(name, 32)(images), make(name, stride)(images)
    assert fine.shape[2:] == (96 // stride, 64 // stride)
    step = 32 // stride
    torch.testing.assert_close(fine[:, :, ::step, ::step], coarse, rtol=1e-4, atol=1e-6)


def test_stride_8_has_the_cells_of_stride_16() -> None:
    images = torch.randn(1, 3, 64, 64)
    fine = make("vgg11", 8)(images)[:, :, ::2, ::2]
    torch.testing.assert_close(fine, make("vgg11", 16)(images), rtol=1e-4, atol=1e-6)


def test_cells_in_between_are_those_of_the_moved_image() -> None:
    # The network with skipping, on an image moved by 16 pixels, looks at the cells in between.
    images = torch.randn(1, 3, 320, 320)
    fine = make("vgg11", 16)(images)
    moved = make("vgg11", 32)(torch.roll(images, (-16, -16), (2, 3)))
    inner = slice(3, -4)  # of vgg11 a cell sees about 150 pixels
    torch.testing.assert_close(
        fine[:, :, 1::2, 1::2][:, :, inner, inner], moved[:, :, inner, inner], rtol=1e-4, atol=1e-6
    )


def test_names_of_weights_stay_and_the_big_layers_after_the_map_go() -> None:
    published = timm.create_model("vgg16", **SMALL).state_dict()
    found = make("vgg16", 8).net.state_dict()
    assert {name for name in published if name.startswith("features.")} == set(found)
    assert all(found[name].shape == published[name].shape for name in found)


def test_pooling_at_negative_values_takes_nothing_from_beyond_the_border() -> None:
    backbone = make("vgg11", 16)
    pool = next(
        module for module in backbone.net.features.modules() if "DensePool" in repr(type(module))
    )
    below = -1 - torch.rand(1, 1, 5, 4)
    pooled = pool(below)
    assert pooled.shape == below.shape
    assert torch.isfinite(pooled).all()
    assert pooled[0, 0, -1, -1] == below[0, 0, -1, -1]


@pytest.mark.parametrize("stride", [4, 12, 64])
def test_other_strides_are_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"8, 16 or 32, got {stride}"):
        make("vgg11", stride)
    with pytest.raises(ValueError, match="8, 16 or 32"):
        dilate_vgg(timm.create_model("vgg11", **SMALL), stride)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_frozen_stages_end_at_poolings(name: str) -> None:
    settings = BackboneSettings(
        model_name=name, output_stride=16, timm_kwargs=SMALL, frozen_stages=2
    )
    backbone = TimmBackbone(settings).train()
    layers = list(backbone.net.features)
    second_pool = [i for i, item in enumerate(layers) if isinstance(item, nn.MaxPool2d)][1]
    for i, layer in enumerate(layers):
        for parameter in layer.parameters():
            assert parameter.requires_grad == (i > second_pool), i
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.training == (i > second_pool), i
