"""Vision transformers: any image size, prefix tokens, positions, and the size of a patch."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier
from wsss.models.fusion import fuse_batchnorm
from wsss.models.timm_backbone import TimmBackbone

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2}
# patch, prefix tokens
MODELS = {
    "vit_small_patch16_224": (16, 1),
    "vit_base_patch16_224": (16, 1),
    "deit_small_patch16_224": (16, 1),
    "deit_small_distilled_patch16_224": (16, 2),
    "vit_small_patch14_dinov2": (14, 1),
    "vit_small_patch14_reg4_dinov2": (14, 5),
    "vit_base_patch14_reg4_dinov2": (14, 5),
}


def make(name: str, img_size: int = 0, **kwargs: Any) -> TimmBackbone:
    torch.manual_seed(0)
    patch = MODELS[name][0]
    settings = BackboneSettings(
        model_name=name,
        output_stride=patch,
        timm_kwargs={**SMALL, "img_size": img_size or 4 * patch, **kwargs},
    )
    backbone = TimmBackbone(settings).eval()
    torch.nn.init.normal_(backbone.net.pos_embed)
    return backbone


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(64, 64), (33, 70), (1, 100), (56, 84)])
def test_the_map_covers_images_of_any_size(name: str, size: tuple[int, int]) -> None:
    patch = MODELS[name][0]
    backbone = make(name)
    features = backbone(torch.randn(2, 3, *size))
    assert features.shape == (2, 24, -(-size[0] // patch), -(-size[1] // patch))


@pytest.mark.parametrize("name", MODELS)
def test_padding_is_zeros_right_and_below(name: str) -> None:
    patch, backbone = MODELS[name][0], make(name)
    images = torch.randn(1, 3, 2 * patch, 3 * patch)
    images[:, :, -3:] = 0
    images[..., -5:] = 0
    torch.testing.assert_close(backbone(images[:, :, :-3, :-5]), backbone(images))


@pytest.mark.parametrize("name", MODELS)
def test_native_size_needs_no_interpolation(name: str) -> None:
    dynamic, fixed = make(name), make(name, dynamic_img_size=False)
    fixed.load_state_dict(dynamic.state_dict())
    images = torch.randn(2, 3, *[4 * MODELS[name][0]] * 2)
    torch.testing.assert_close(dynamic(images), fixed(images))


def tokens_into_the_blocks(backbone: TimmBackbone, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    block = backbone.net.blocks[0]
    hook = block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    backbone(images)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("name", MODELS)
def test_only_positions_of_patches_are_interpolated(name: str) -> None:
    patch, prefix = MODELS[name]
    backbone = make(name)
    net = backbone.net
    torch.nn.init.zeros_(net.patch_embed.proj.weight)
    torch.nn.init.zeros_(net.patch_embed.proj.bias)
    cells = net.pos_embed.shape[1] - 16  # what stands ahead of the 4 x 4 grid
    ramp = torch.linspace(0, 3, 4)
    net.pos_embed.data[:, cells:] = (ramp[:, None] + 10 * ramp).reshape(1, 16, 1)
    native = tokens_into_the_blocks(backbone, torch.zeros(1, 3, 4 * patch, 4 * patch))
    larger = tokens_into_the_blocks(backbone, torch.zeros(1, 3, 8 * patch, 8 * patch - 3))
    assert native.shape[1] == prefix + 16
    assert larger.shape[1] == prefix + 64
    assert torch.equal(native[:, prefix:], net.pos_embed[:, cells:])
    assert torch.equal(larger[:, :prefix], native[:, :prefix])
    # a bicubic of a ramp is the ramp, away from the border
    grid = larger[0, prefix:, 0].reshape(8, 8)
    fine = (torch.arange(8) + 0.5) / 2 - 0.5
    expected = fine[:, None] + 10 * fine
    torch.testing.assert_close(grid[3:5, 3:5], expected[3:5, 3:5], rtol=1e-3, atol=1e-3)
    assert grid[0, 7] > 27
    assert grid[7, 0] < 5  # rows and columns are not swapped


@pytest.mark.parametrize("name", MODELS)
def test_the_grid_is_without_the_prefix_and_in_reading_order(name: str) -> None:
    patch, prefix = MODELS[name]
    backbone = make(name)
    images = torch.randn(1, 3, 2 * patch, 3 * patch - 1)
    padded = torch.nn.functional.pad(images, (0, 1))
    tokens = backbone.net.forward_features(padded)[0]
    assert len(tokens) == prefix + 6
    torch.testing.assert_close(backbone(images)[0, :, 1, 2], tokens[prefix + 1 * 3 + 2])
    layer = tokens[None]
    assert torch.equal(backbone.as_map(layer, images)[0, :, 0, 1], tokens[prefix + 1])


def test_default_stride_is_refused_with_the_one_to_set() -> None:
    with pytest.raises(ValueError, match=r"output_stride is 16.* gives stride 14; set it to 14"):
        TimmBackbone(
            BackboneSettings(
                model_name="vit_small_patch14_dinov2", timm_kwargs={**SMALL, "img_size": 56}
            )
        )


def test_a_fixed_size_is_said_before_the_network_runs() -> None:
    backbone = make("vit_small_patch16_224", dynamic_img_size=False)
    with pytest.raises(ValueError, match="does not take images of 64 x 80 pixels"):
        backbone(torch.zeros(1, 3, 64, 80))


def test_pyramids_take_any_size_too() -> None:
    backbone = TimmBackbone(
        BackboneSettings(
            model_name="swin_tiny_patch4_window7_224",
            output_stride=32,
            timm_kwargs={"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
        )
    ).eval()
    features, stages = backbone.with_stages(torch.randn(1, 3, 70, 101))
    assert features.shape == (1, 96, 3, 4)
    assert [tuple(tensor.shape[2:]) for tensor in stages] == [(18, 26), (9, 13), (5, 7), (3, 4)]


def test_fusion_returns_a_network_without_batch_norm_as_it_is() -> None:
    model = Classifier(make("vit_small_patch14_dinov2"), ("a",)).eval()
    assert fuse_batchnorm(model, torch.rand(1, 3, 56, 56)) is model


@pytest.mark.parametrize("name", ["crossvit_tiny_240", "coat_tiny"])
def test_models_without_a_map_are_refused_when_made(name: str) -> None:
    with pytest.raises(ValueError, match=r"no feature map.*choose a convolutional network or a pl"):
        TimmBackbone(BackboneSettings(model_name=name))


@pytest.mark.parametrize(
    ("name", "stride", "channels"),
    [
        ("poolformer_s12", 32, 512),
        ("efficientformer_l1", 32, 448),
        ("efficientvit_b0", 32, 128),
        ("gmlp_ti16_224", 16, 128),
    ],
)
def test_other_families_have_a_map(name: str, stride: int, channels: int) -> None:
    backbone = TimmBackbone(BackboneSettings(model_name=name, output_stride=stride)).eval()
    features = backbone(torch.zeros(1, 3, 224, 224))
    assert features.shape == (1, channels, 224 // stride, 224 // stride)


@pytest.mark.parametrize(("name", "stride"), [("resnet50", 8), ("resnet50", 16), ("resnet101", 16)])
def test_resnets_of_the_papers_at_their_strides(name: str, stride: int) -> None:
    kwargs = {"layers": (1, 1, 2, 2), "channels": (8, 8, 16, 32)}
    backbone = TimmBackbone(
        BackboneSettings(model_name=name, output_stride=stride, timm_kwargs=kwargs)
    ).eval()
    coarse = timm.create_model(name, num_classes=0, global_pool="", **kwargs).eval()
    coarse.load_state_dict(backbone.net.state_dict())
    images = torch.randn(1, 3, 64, 96)
    features = backbone(images)
    assert features.shape == (1, 128, 64 // stride, 96 // stride)
    step = 32 // stride
    torch.testing.assert_close(
        features[:, :, ::step, ::step], coarse.forward_features(images), rtol=1e-3, atol=1e-3
    )
