"""ResNet-38 has the published shapes, and computes what a plain reading of the paper computes."""

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional

from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier
from wsss.models.fusion import fuse_batchnorm
from wsss.models.timm_backbone import TimmBackbone

WIDTH = 1 / 16
TINY = BackboneSettings(
    model_name="resnet38d", output_stride=8, timm_kwargs={"width": WIDTH}, weights="none"
)
# stage: blocks, channels that come in, of its 3x3 (or 1x1, 3x3, 1x1) convolutions
PUBLISHED = {
    "b2": (3, 64, [(128, 3), (128, 3)]),
    "b3": (3, 128, [(256, 3), (256, 3)]),
    "b4": (6, 256, [(512, 3), (512, 3)]),
    "b5": (3, 512, [(512, 3), (1024, 3)]),
    "b6": (1, 1024, [(512, 1), (1024, 3), (2048, 1)]),
    "b7": (1, 2048, [(1024, 1), (2048, 3), (4096, 1)]),
}
STEPS = ["2a", "2b1", "2b2"]


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the trunk in the .pth files of PSA."""
    shapes: dict[str, tuple[int, ...]] = {"conv1a.weight": (64, 3, 3, 3)}

    def norm(name: str, channels: int) -> None:
        for value in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{value}"] = (channels,)

    for stage, (blocks, into, convolutions) in PUBLISHED.items():
        for number in range(blocks):
            block = f"{stage}_{number}" if number else stage
            channels = into
            for step, (out, kernel) in zip(STEPS, convolutions, strict=False):
                norm(f"{block}.bn_branch{step}", channels)
                shapes[f"{block}.conv_branch{step}.weight"] = (out, channels, kernel, kernel)
                channels = out
            if number == 0:
                shapes[f"{block}.conv_branch1.weight"] = (channels, into, 1, 1)
            into = channels
    norm("bn7", 4096)
    return shapes


def random_norms(module: torch.nn.Module) -> None:
    for item in module.modules():
        if isinstance(item, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(item.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(item.running_var, 0.5, 2)
            torch.nn.init.uniform_(item.weight, 0.5, 1.5)
            torch.nn.init.uniform_(item.bias, -0.5, 0.5)


@pytest.fixture
def backbone() -> TimmBackbone:
    torch.manual_seed(0)
    made = TimmBackbone(TINY).eval()
    random_norms(made)
    return made


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        net = timm.create_model("resnet38d", num_classes=0, global_pool="")
    found = {
        name: tuple(tensor.shape)
        for name, tensor in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert found == published_shapes()
    assert sum(tensor.numel() for tensor in net.parameters()) == 105_070_912
    assert net.num_features == 4096


def test_classifier_of_timm() -> None:
    net = timm.create_model("resnet38d", num_classes=5, width=1 / 64).eval()
    images = torch.randn(2, 3, 32, 32)
    pooled = net.forward_features(images).mean(dim=(2, 3))
    torch.testing.assert_close(net(images), net.get_classifier()(pooled))
    net.reset_classifier(2)
    assert net(images).shape == (2, 2)


def plain_resnet38d(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """The network as a list of operations: stride 2 in b2, b3, b4; then dilation 2, 4, 4."""

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        scale = weights[f"{name}.weight"] / (var + 1e-5).sqrt()
        shift = weights[f"{name}.bias"] - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).clamp_min(0)

    def conv(name: str, x: Tensor, stride: int, dilation: int) -> Tensor:
        weight = weights[f"{name}.weight"]
        if weight.shape[-1] == 1:
            return functional.conv2d(x, weight, stride=stride)
        return functional.conv2d(x, weight, None, stride, dilation, dilation)

    x = conv("conv1a", images, 1, 1)
    for stage, stride, dilation in [
        ("b2", 2, 1),
        ("b3", 2, 1),
        ("b4", 2, 1),
        ("b5", 1, 2),
        ("b6", 1, 4),
        ("b7", 1, 4),
    ]:
        blocks, _, convolutions = PUBLISHED[stage]
        for number in range(blocks):
            block = f"{stage}_{number}" if number else stage
            step_stride = 1 if number else stride
            before = norm(f"{block}.bn_branch2a", x)
            # b5 begins on the grid of b4: its first convolution is not yet dilated
            first_dilation = 1 if block == "b5" else dilation
            y = conv(f"{block}.conv_branch2a", before, step_stride, first_dilation)
            for step in STEPS[1 : len(convolutions)]:
                y = norm(f"{block}.bn_branch{step}", y)
                y = conv(f"{block}.conv_branch{step}", y, 1, dilation)
            x = y + (x if number else conv(f"{block}.conv_branch1", before, step_stride, 1))
    return norm("bn7", x)


def test_features_are_those_of_the_operations_one_by_one(backbone: TimmBackbone) -> None:
    backbone.double()
    images = torch.randn(2, 3, 72, 100, dtype=torch.float64)
    expected = plain_resnet38d(backbone.net.state_dict(), images)
    assert expected.shape == (2, 256, 9, 13)
    torch.testing.assert_close(backbone(images), expected)


def test_stages_are_where_the_resolution_or_the_width_grows(backbone: TimmBackbone) -> None:
    features, stages = backbone.with_stages(torch.randn(1, 3, 64, 64))
    assert [tuple(tensor.shape[1:]) for tensor in stages] == [
        (16, 16, 16),
        (32, 8, 8),
        (64, 8, 8),
        (256, 8, 8),
    ]
    torch.testing.assert_close(stages[-1], features)


def test_dropout_is_in_the_last_two_stages_only(backbone: TimmBackbone) -> None:
    rates = {
        name: item.p
        for name, item in backbone.net.named_modules()
        if isinstance(item, torch.nn.Dropout2d) and item.p
    }
    assert rates == {"b6.drop": 0.3, "b7.drop": 0.5}
    backbone.train()
    backbone.net.apply(lambda item: item.eval() if isinstance(item, torch.nn.BatchNorm2d) else None)
    images = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(backbone(images), backbone(images))


def test_two_frozen_stages_are_those_of_psa() -> None:
    backbone = TimmBackbone(TINY.model_copy(update={"frozen_stages": 2})).train()
    backbone(torch.randn(2, 3, 32, 32)).square().mean().backward()
    frozen = {name for name, item in backbone.net.named_parameters() if item.grad is None}
    names = {name for name, _ in backbone.net.named_parameters()}
    assert frozen == {name for name in names if name.startswith(("conv1a.", "b2.", "b2_"))}


@pytest.mark.parametrize("stride", [16, 32])
def test_other_strides_are_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=r"resnet38d .*stride 8.* set .*to 8"):
        TimmBackbone(TINY.model_copy(update={"output_stride": stride}))


@pytest.mark.parametrize("width", [0, 0.01, -1])
def test_widths_that_split_channels_are_refused(width: float) -> None:
    with pytest.raises(ValueError, match="multiple of 1/64"):
        timm.create_model("resnet38d", width=width)


def test_no_hub_weights() -> None:
    with pytest.raises(ValueError, match="No pretrained weights exist for resnet38d"):
        TimmBackbone(TINY.model_copy(update={"weights": "hub"}))


def test_norms_inside_blocks_are_folded_and_the_maps_stay(backbone: TimmBackbone) -> None:
    model = Classifier(backbone, ("a", "b")).eval()
    images = torch.randn(2, 3, 64, 48)
    fused = fuse_batchnorm(model, torch.randn(1, 3, 32, 32))
    with torch.inference_mode():
        wanted, found = model(images).maps, fused(images).maps
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    left = {n for n, item in fused.named_modules() if isinstance(item, torch.nn.BatchNorm2d)}
    assert len(left) == 18  # the first of each of 17 blocks, and bn7, follow a sum
    assert all(name.endswith(("bn_branch2a", "bn7")) for name in left)
