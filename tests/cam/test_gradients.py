"""Gradient methods: the formulas' numbers, the linear head as oracle, and a plain loop."""

from collections.abc import Callable

import pytest
import torch
from timm.layers import SqueezeExcite
from torch import nn

from wsss.cam._gradients import without_backward
from wsss.cam.cam import LinearHeadCam, LinearHeadCamSettings
from wsss.cam.grad_cam import grad_cam_maps
from wsss.cam.grad_cam_plus_plus import grad_cam_plus_plus_maps
from wsss.cam.layer_cam import layer_cam_maps
from wsss.checks import naming
from wsss.config.sections import BackboneSettings, HeadSettings
from wsss.models.classifier import Classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import CAM_METHODS

MAPS_OF = {
    "grad_cam": grad_cam_maps,
    "grad_cam_plus_plus": grad_cam_plus_plus_maps,
    "layer_cam": layer_cam_maps,
}
# the second image has no tag, the third three
ROWS = torch.tensor([0, 0, 2, 2, 2])
COLUMNS = torch.tensor([0, 2, 1, 2, 3])
BACKBONES = {
    "cnn": BackboneSettings(model_name="resnet10t", output_stride=16),
    "vit": BackboneSettings(
        model_name="test_vit", output_stride=16, timm_kwargs={"dynamic_img_size": True}
    ),
    "swin": BackboneSettings(
        model_name="swin_tiny_patch4_window7_224",
        output_stride=32,
        timm_kwargs={"embed_dim": 16, "depths": [1, 1, 1, 1], "strict_img_size": False},
    ),
}
INNER = {"cnn": "stage4", "vit": "blocks.5.norm1", "swin": "layers.3.blocks.0.norm2"}


def make_model(kind: str) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(TimmBackbone(BACKBONES[kind]), ("a", "b", "c", "d")).eval()
    nn.init.normal_(model.head.weight)
    return model


@pytest.fixture(scope="module")
def model() -> Classifier:
    return make_model("cnn")


def build(name: str, *layers: str):
    return CAM_METHODS.build(CAM_METHODS.settings(name)(layers=layers or ("last",)))


def test_grad_cam_of_a_linear_head_is_the_cam(model: Classifier) -> None:
    # Catches a gradient of the wrong class or image, and a mean that ought to be a sum.
    images = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        expected, logits = LinearHeadCam(LinearHeadCamSettings())(model, images, ROWS, COLUMNS)
    maps, scores = build("grad_cam")(model, images, ROWS, COLUMNS)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores, logits)
    assert not maps.requires_grad and not scores.requires_grad


def test_layer_cam_of_a_positive_linear_head_is_the_cam() -> None:
    model = make_model("cnn")  # its last activation is a ReLU's
    nn.init.uniform_(model.head.weight, 0, 1)
    images = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        expected, _ = LinearHeadCam(LinearHeadCamSettings())(model, images, ROWS, COLUMNS)
    maps, _ = build("layer_cam")(model, images, ROWS, COLUMNS)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


def test_weights_of_grad_cam_plus_plus() -> None:
    activations, gradients = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[0.5, 0.0]]]])
    maps = grad_cam_plus_plus_maps(activations, gradients)
    torch.testing.assert_close(maps, 0.14286 * activations[0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", MAPS_OF)
@pytest.mark.parametrize("kind", BACKBONES)
def test_batches_equal_one_image_and_class_at_a_time(kind: str, name: str) -> None:
    # The oracle captures by itself and goes back through the whole network for one score.
    model = make_model(kind)
    size = (224, 224) if kind == "swin" else (64, 96)
    images = torch.randn(3, 3, *size)
    layer = dict(model.backbone.net.named_modules())["layer4" if kind == "cnn" else INNER[kind]]
    expected = []
    for row, column in zip(ROWS.tolist(), COLUMNS.tolist(), strict=True):
        kept = []
        hook = layer.register_forward_hook(lambda _m, _i, output, kept=kept: kept.append(output))
        score = model(images[row : row + 1]).logits[0, column]
        hook.remove()
        (gradient,) = torch.autograd.grad(score, kept[0])
        grids = []
        for values in (kept[0], gradient):
            if kind == "vit":  # one class token, then the grid
                values = values[:, 1:].reshape(1, 4, 6, -1)
            if kind == "swin":
                values = values.reshape(1, 7, 7, -1)
            if kind != "cnn":
                values = values.permute(0, 3, 1, 2)
            grids.append(values.detach())
        cells = 1 if name == "grad_cam_plus_plus" else grids[0][0, 0].numel()
        expected.append(MAPS_OF[name](*grids)[0] * cells)
    maps, _ = build(name, INNER[kind])(model, images, ROWS, COLUMNS)
    torch.testing.assert_close(maps, torch.stack(expected), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", MAPS_OF)
@pytest.mark.parametrize("kind", BACKBONES)
def test_no_backward_pass_gives_the_same_maps(kind: str, name: str) -> None:
    model, images = make_model(kind), torch.randn(3, 3, 64, 96)
    method = build(name)
    wanted, logits = method(model, images, ROWS, COLUMNS)
    known = without_backward(method, model)
    assert method.needs_gradients and not known.needs_gradients
    with torch.inference_mode():
        maps, scores = known(model, images, ROWS, COLUMNS)
        none, _ = known(model, images, ROWS[:0], COLUMNS[:0])
    torch.testing.assert_close(maps, wanted, rtol=1e-5, atol=1e-6 * float(wanted.max()))
    torch.testing.assert_close(scores, logits)
    assert none.shape == (0, *maps.shape[1:])


@pytest.mark.parametrize("name", MAPS_OF)
def test_where_gradients_are_not_known_there_is_a_backward_pass(name: str) -> None:
    backbone = TimmBackbone(BACKBONES["cnn"])
    for head in (HeadSettings(kernel_size=3), HeadSettings(pooling="max")):
        method = build(name)
        assert without_backward(method, Classifier(backbone, ("a",), head)) is method
    for layers in (("stage4",), ("stage3", "last")):
        method = build(name, *layers)
        assert without_backward(method, Classifier(backbone, ("a",))) is method


@pytest.mark.parametrize("name", MAPS_OF)
def test_several_layers_are_averaged_on_the_finest_grid(model: Classifier, name: str) -> None:
    images = torch.randn(2, 3, 64, 96)
    rows, columns = torch.tensor([0, 1]), torch.tensor([1, 3])
    both, _ = build(name, "stage3", "last")(model, images, rows, columns)
    fine, _ = build(name, "stage3")(model, images, rows, columns)
    coarse, _ = build(name, "last")(model, images, rows, columns)
    parts = [
        nn.functional.interpolate(
            (part / part.amax((1, 2), keepdim=True).clamp_min(1e-12))[:, None],
            fine.shape[1:],
            mode="bilinear",
        )[:, 0]
        for part in (fine, coarse)
    ]
    strength = (fine.amax((1, 2), keepdim=True) + coarse.amax((1, 2), keepdim=True)) / 2
    torch.testing.assert_close(both, (parts[0] + parts[1]) / 2 * strength)


@pytest.mark.parametrize("name", ["grad_cam", "layer_cam"])
def test_a_class_three_times_as_strong_has_maps_three_times_as_high(name: str) -> None:
    # Catches maps stretched within one call, which would make windows without the class peak.
    model = make_model("cnn")
    images = torch.randn(2, 3, 64, 96)
    rows, columns = torch.tensor([0, 1]), torch.tensor([1, 3])
    for layers in (("last",), ("stage3", "last")):
        maps, _ = build(name, *layers)(model, images, rows, columns)
        model.head.weight.data *= 3
        stronger, _ = build(name, *layers)(model, images, rows, columns)
        torch.testing.assert_close(stronger, 3 * maps, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MAPS_OF)
def test_half_precision_keeps_the_gradients_of_many_cells(
    classifier: Callable[[str], Classifier], name: str
) -> None:
    # Catches a gradient of w / cells, which float16 rounds to a handful of steps, or to 0.
    model = classifier("cells")
    model.head.weight.data *= 1e-3
    images = torch.randn(1, 3, 512, 512)
    rows, columns = torch.tensor([0, 0]), torch.tensor([0, 3])
    wanted, _ = build(name)(model, images, rows, columns)
    with torch.autocast("cpu", torch.float16):
        maps, _ = build(name)(model, images, rows, columns)
    torch.testing.assert_close(maps, wanted, rtol=0, atol=5e-3 * float(wanted.max()))


@pytest.mark.parametrize("name", MAPS_OF)
def test_a_map_that_is_nowhere_positive_stays_empty(name: str) -> None:
    # Catches a stretch from least to most, which makes a full range of noise.
    maps = MAPS_OF[name](torch.rand(1, 3, 4, 4), -torch.rand(1, 3, 4, 4))
    assert (maps == 0).all()


@pytest.mark.parametrize(
    ("kind", "layer", "message"),
    [
        ("cnn", "stage9", r"'stage9', but ResNet has no such layer; did you mean 'stage\d'\?"),
        ("cnn", "xyz", r"'xyz', .* take 'last', 'stage1', .*'stage4', or a module's path"),
        ("cnn", "", r"'', but ResNet has no such layer"),
        ("cnn", "fc", r"'fc', which gives nothing on the way .*; take 'last', 'stage1'"),
        ("cnn", "global_pool", r"'global_pool', which gives nothing on the way to the logits"),
        ("squeezed", "layer1.0.se.fc1", r"'layer1.0.se.fc1', which gives .*, no map of the image"),
        ("vit", "blocks.5.attn.q_norm", r"'blocks.5.attn.q_norm', which gives .*, no map of"),
        ("vit", "fc_norm", r"'fc_norm', which gives nothing"),
        ("aside", "aside", r"'aside', on which the logits do not depend; take 'last'"),
        ("aside", "pair", r"'pair', which gives nothing on the way"),
        ("aside", "flat", r"'flat', which gives \(1, 64\), no map"),
    ],
)
@pytest.mark.parametrize("name", MAPS_OF)
def test_a_layer_that_gives_no_map_is_refused_with_those_that_do(
    kind: str, layer: str, message: str, name: str
) -> None:
    """A module that there is not, that does not run, or that gives something else."""
    model = make_model("vit" if kind == "vit" else "cnn")
    net = model.backbone.net
    if kind == "squeezed":
        net.layer1[0].se = SqueezeExcite(64)
    if kind == "aside":
        net.aside, net.flat, net.pair = nn.ReLU(), Flat(), Pair()

        def forward_features(images: torch.Tensor) -> torch.Tensor:
            features = type(net).forward_features(net, images)
            net.aside(features), net.pair(features), net.flat(net.conv1(images))
            return features

        net.forward_features = forward_features
    with pytest.raises(ValueError, match=message):
        build(name, layer)(model, torch.randn(1, 3, 64, 96), ROWS[:1], COLUMNS[:1])
    assert not any(module._forward_hooks for module in model.modules())


class Pair(nn.Module):
    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return features, features


class Flat(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean(dim=(2, 3)).repeat(1, 64)[:, :64]


def test_messages_name_the_setting_where_the_caller_says_it_stands(model: Classifier) -> None:
    with (
        naming("generate_cams"),
        pytest.raises(ValueError, match=r"^generate_cams\.method\.layers "),
    ):
        build("grad_cam", "fc")(model, torch.randn(1, 3, 64, 64), ROWS[:1], COLUMNS[:1])
