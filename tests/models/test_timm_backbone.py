"""Backbones: stride, frozen parts, feature grids, and errors for what does not fit."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from wsss.config.sections import BackboneSettings
from wsss.models.timm_backbone import TimmBackbone


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_stride(stride: int) -> None:
    backbone = TimmBackbone(BackboneSettings(model_name="resnet10t", output_stride=stride))
    assert backbone(torch.zeros(1, 3, 64, 96)).shape[2:] == (64 // stride, 96 // stride)


@pytest.mark.parametrize("name", ["mobilenetv2_050", "vit_tiny_patch16_224", "convnext_atto"])
def test_families_share_one_interface(name: str) -> None:
    backbone = TimmBackbone(
        BackboneSettings(
            model_name=name,
            output_stride=16,
            timm_kwargs={"dynamic_img_size": True} if "vit" in name else {},
        )
    )
    assert backbone(torch.zeros(2, 3, 96, 64)).shape == (2, backbone.num_features, 6, 4)


def test_patch_tokens_become_a_grid_in_reading_order() -> None:
    settings = BackboneSettings(
        model_name="vit_tiny_patch16_224", timm_kwargs={"dynamic_img_size": True}
    )
    backbone = TimmBackbone(settings).eval()
    image = torch.randn(1, 3, 32, 48)
    tokens = backbone.net.forward_features(image)[0, 1:]  # one class token
    grid = backbone(image)[0]
    torch.testing.assert_close(grid[:, 1, 2], tokens[1 * 3 + 2])


def test_transformer_stride_must_be_its_patch() -> None:
    with pytest.raises(ValueError, match="gives stride 16; set it to 16"):
        TimmBackbone(
            BackboneSettings(
                model_name="vit_tiny_patch16_224",
                output_stride=8,
                timm_kwargs={"dynamic_img_size": True},
            )
        )


def test_unknown_model_is_named() -> None:
    with pytest.raises(ValueError, match=r"resnet1O.*did you mean 'resnet1"):
        TimmBackbone(BackboneSettings(model_name="resnet1O"))


def test_frozen_batchnorm_keeps_its_statistics() -> None:
    settings = BackboneSettings(model_name="resnet10t", freeze_batchnorm=True)
    backbone = TimmBackbone(settings).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(torch.randn(4, 3, 64, 64)).sum().backward()
    for name, value in backbone.named_buffers():
        assert torch.equal(value, before[name]), name
    assert backbone.net.bn1.weight.grad is None


@pytest.mark.parametrize("last_stage", [0, 2])
@pytest.mark.parametrize("name", ["mobilenetv2_050", "test_vit", "resnet38d"])
def test_widths_are_those_of_the_stages_that_run(name: str, last_stage: int) -> None:
    backbone = TimmBackbone(
        BackboneSettings(
            model_name=name,
            output_stride=8 if name == "resnet38d" else 16,
            last_stage=last_stage if name != "mobilenetv2_050" else 0,
            timm_kwargs={"width": 1 / 16} if name == "resnet38d" else {},
        )
    ).eval()
    _, stages = backbone.with_stages(torch.zeros(1, 3, 64, 64))
    assert backbone.stage_widths() == [stage.shape[1] for stage in stages]


def test_frozen_stages_get_no_gradient_and_the_rest_does() -> None:
    backbone = TimmBackbone(BackboneSettings(model_name="resnet10t", frozen_stages=2)).train()
    before = backbone.net.bn1.running_mean.clone()
    backbone(torch.randn(4, 3, 64, 64)).square().mean().backward()
    assert all(parameter.grad is None for parameter in backbone.net.conv1.parameters())
    assert all(parameter.grad is None for parameter in backbone.net.layer1.parameters())
    assert all(parameter.grad is not None for parameter in backbone.net.layer2.parameters())
    assert torch.equal(backbone.net.bn1.running_mean, before)


# settings; where the maps of its stages have their channels
LAYOUTS = {
    "cnn": (BackboneSettings(model_name="resnet10t"), "first"),
    "convnext": (
        BackboneSettings(
            model_name="convnext_tiny",
            output_stride=32,
            timm_kwargs={"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 40)},
        ),
        "first",
    ),
    "swin": (
        BackboneSettings(
            model_name="swin_tiny_patch4_window7_224",
            output_stride=32,
            timm_kwargs={"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
        ),
        "last",
    ),
    "sam": (  # whose output has them first
        BackboneSettings(
            model_name="samvit_base_patch16",
            timm_kwargs={
                "img_size": 64,
                "embed_dim": 24,
                "depth": 4,
                "num_heads": 2,
                "neck_chans": 20,
                "use_abs_pos": False,
                "use_rel_pos": False,
            },
        ),
        "last",
    ),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_channels_come_first_and_are_turned_but_once(kind: str) -> None:
    """Rows and columns differ, and nothing has as many channels as these."""
    settings, where = LAYOUTS[kind]
    backbone = TimmBackbone(settings).eval()
    images = torch.randn(1, 3, 64, 160)
    stage, raw = backbone.stages()[0], []
    hook = stage.register_forward_hook(lambda _, inputs, output: raw.append(output))
    with torch.no_grad():
        features, stages = backbone.with_stages(images)
    hook.remove()
    stride = settings.output_stride
    assert features.shape == (1, backbone.num_features, 64 // stride, 160 // stride)
    assert backbone.as_map(features, images, backbone) is features
    assert torch.equal(stages[0], raw[0].permute(0, 3, 1, 2) if where == "last" else raw[0])
    for tensor in stages:
        assert tensor.shape[2] >= 2 and tensor.shape[2] * 5 == tensor.shape[3] * 2


def test_a_layer_inside_may_have_channels_last_where_the_network_has_them_first() -> None:
    backbone = TimmBackbone(LAYOUTS["convnext"][0]).eval()
    layer = backbone.net.stages[3].blocks[0].norm
    images, raw = torch.randn(1, 3, 64, 160), []
    hook = layer.register_forward_hook(lambda _, inputs, output: raw.append(output))
    with torch.no_grad():
        backbone(images)
    hook.remove()
    assert raw[0].shape == (1, 2, 5, 40)
    assert backbone.as_map(raw[0], images, layer).shape == (1, 40, 2, 5)


def test_a_map_as_wide_as_its_network_has_channels_is_not_turned() -> None:
    """The first stage has 512 columns of an image of 2048 pixels, and the network 512 channels."""
    backbone = TimmBackbone(BackboneSettings(model_name="resnet10t")).eval()
    with torch.no_grad():
        _, stages = backbone.with_stages(torch.zeros(1, 3, 16, 2048))
    assert stages[0].shape == (1, 64, 4, 512)


class TestWeightsFile:
    def test_is_loaded_and_a_head_is_passed_over(self, tmp_path: Path) -> None:
        torch.manual_seed(1)
        published = timm.create_model("resnet10t", num_classes=7)
        save_file(published.state_dict(), tmp_path / "w.safetensors")
        backbone = TimmBackbone(
            BackboneSettings(model_name="resnet10t", weights=str(tmp_path / "w.safetensors"))
        )
        for name, value in backbone.net.state_dict().items():
            assert torch.equal(value, published.state_dict()[name]), name
        assert backbone.weights_source == "file:w.safetensors"

    def test_of_another_model_is_refused(self, tmp_path: Path) -> None:
        torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "w.pth")
        settings = BackboneSettings(model_name="resnet18", weights=str(tmp_path / "w.pth"))
        with pytest.raises(ValueError, match=r"w\.pth does not fit ResNet.*(missing|shape)"):
            TimmBackbone(settings)

    def test_missing_file(self) -> None:
        with pytest.raises(ValueError, match="does not exist"):
            TimmBackbone(BackboneSettings(weights="/nowhere/w.safetensors"))

    def test_pickled_code_does_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return (open, (str(tmp_path / "ran"), "w"))  # type: ignore[return-value]

        torch.save({"model": Evil()}, tmp_path / "w.pth")
        with pytest.raises(ValueError, match="cannot be read as plain tensors"):
            TimmBackbone(BackboneSettings(weights=str(tmp_path / "w.pth")))
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["mobilenetv2_050", "resnet10t", "test_vit"])
def test_a_network_that_ends_at_a_stage_gives_what_the_whole_one_has_there(name: str) -> None:
    torch.manual_seed(0)
    whole = TimmBackbone(BackboneSettings(model_name=name)).eval()
    _, stages = whole.with_stages(torch.ones(1, 3, 64, 96))
    settings = BackboneSettings(
        model_name=name, last_stage=2, output_stride=round(64 / stages[1].shape[2])
    )
    short = TimmBackbone(settings).eval()
    short.load_state_dict(whole.state_dict())
    features, found = short.with_stages(torch.ones(1, 3, 64, 96))
    assert len(found) == 2 and short.num_features == stages[1].shape[1]
    torch.testing.assert_close(features, stages[1])
    torch.testing.assert_close(found, stages[:2])
    assert not any(module._forward_hooks for module in short.modules())
