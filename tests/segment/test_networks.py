"""What every network of this project promises, and of some of segmentation-models-pytorch."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from timm.models.vgg import VGG
from torch import Tensor, nn
from torchvision.models.vgg import make_layers

from wsss.config.params import parse_params
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import SegmenterSettings
from wsss.loading.normalisation import Normalisation
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.deeplabv2 import DeepLabV2
from wsss.models.enc_dec_unpool import EncDecUnpool, VggEncoder
from wsss.models.frozen_backbones import FrozenBackbones
from wsss.models.frozen_decoder import FrozenDecoder
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import NETWORKS
from wsss.segment.network import Segmenter, load_segmenter, make_segmenter, save_segmenter
from wsss.settings import ConfigError

WIDTHS = (4, 6, 6, 8, 8)
VIT = {
    "model_name": "vit_tiny_patch16_224",
    "output_stride": 16,
    "timm_kwargs": {"depth": 3, "embed_dim": 24, "num_heads": 2},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
SMALL: dict[str, dict[str, Any]] = {
    "deeplabv2": {},
    "enc_dec_unpool": {"encoder_weights": "none", "arch_kwargs": {"widths": WIDTHS, "dropout": 0}},
    "frozen_decoder": {
        "arch_kwargs": {"backbones": ["classifier", VIT], "width": 16, "heads": 2, "layers": 1}
    },
    "unet_small": {"encoder_weights": "none", "arch_kwargs": {"widths": [4, 6, 8]}},
}
SMP: dict[str, dict[str, Any]] = {
    "unet": {"arch_kwargs": {"decoder_channels": [8] * 5}},
    "fpn": {},
    "deeplabv3plus": {},
}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifier")
    settings = BackboneSettings(model_name="resnet10t")
    model = Classifier(TimmBackbone(settings), ("a", "b"))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts the last of each block at 0
            nn.init.uniform_(module.weight, 0.5, 1.5)
    save_classifier(model, settings, "multi_label", folder)
    return folder


def made(arch: str, classifier: Path, **changes: Any) -> Segmenter:
    torch.manual_seed(1)
    return make_segmenter(
        SegmenterSettings(arch=arch, **({**SMALL, **SMP}[arch] | changes)), classifier
    )


def images_of(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def test_every_network_is_tested() -> None:
    assert sorted(SMALL) == NETWORKS.names()


@pytest.mark.parametrize("arch", [*SMALL, *SMP])
def test_logits_are_as_large_as_the_images(arch: str, classifier: Path) -> None:
    model = made(arch, classifier).eval()
    sizes = [(64, 64), (32, 96)]
    if arch in SMALL:
        sizes += [(65, 65), (37, 53), (64, 65), (33, 32), (20, 31)]
    for size in sizes:
        with torch.inference_mode():
            logits = model(images_of(2, 3, *size))
        assert logits.shape == (2, 3, *size) and logits.isfinite().all()


@pytest.mark.parametrize("arch", [*SMALL, *SMP])
def test_what_is_saved_gives_the_same_bytes(arch: str, classifier: Path, tmp_path: Path) -> None:
    model = made(arch, classifier).to(memory_format=torch.channels_last)
    model.train()(images_of(2, 3, 64, 64))  # statistics of batch norm that are not the first ones
    model.eval()
    save_segmenter(model, tmp_path)
    loaded = load_segmenter(tmp_path)
    images = images_of(1, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        logits = model(images)
        assert torch.equal(loaded(images), logits)
        assert torch.equal(model(images), logits)
    assert loaded.spec == model.spec


@pytest.mark.parametrize("arch", [*SMALL, "unet", "fpn"])
def test_a_batch_of_one_teaches_all_that_can_learn(arch: str, classifier: Path) -> None:
    model = made(arch, classifier).train()
    model(images_of(1, 3, 64, 64)).square().mean().backward()
    for name, weights in model.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.isfinite().all(), name
        if weights.ndim > 1:  # batch norm takes what a bias before it adds
            assert weights.grad.any(), name


@pytest.mark.parametrize("arch", [*SMALL, *SMP])
def test_reduced_precision_teaches_and_predicts_nearly_the_same(
    arch: str, classifier: Path
) -> None:
    model, images = made(arch, classifier).train(), images_of(2, 3, 64, 96)
    with torch.autocast("cpu", torch.bfloat16):
        model(images).float().square().mean().backward()
    assert all(
        weights.grad is None or weights.grad.isfinite().all() for weights in model.parameters()
    )
    model.eval()
    with torch.inference_mode():
        exact = model(images).float()
        with torch.autocast("cpu", torch.bfloat16):
            coarse = model(images).float()
    assert (coarse - exact).abs().mean() < 0.05 * exact.abs().mean() + 0.01


@pytest.mark.parametrize("arch", [*SMALL, "unet"])
@pytest.mark.parametrize("level", [0.0, 2.5])
def test_a_constant_image_has_finite_logits(arch: str, level: float, classifier: Path) -> None:
    model = made(arch, classifier)
    for training in (True, False):
        assert model.train(training)(torch.full((2, 3, 64, 64), level)).isfinite().all()


@pytest.mark.parametrize("arch", ["deeplabv2", "enc_dec_unpool", "unet_small"])
def test_frozen_stages_and_batch_norm(arch: str, classifier: Path) -> None:
    model = made(arch, classifier, frozen_stages=2, freeze_batchnorm=True).train()
    encoder = model.net.encoder
    maps = encoder(images_of(2, 3, 64, 64))[1:]
    assert [stage.requires_grad for stage in maps] == [False] * 2 + [True] * (len(maps) - 2)
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    model(images_of(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())


# enc_dec_unpool

LAYOUT = [2, 2, 3, 3, 3]
CONFIG = [
    part
    for width, count in zip(WIDTHS, LAYOUT, strict=True)
    for part in [*[width] * count, "M"]  # "M" is a pooling
]


def vgg_state(library: str) -> dict[str, Tensor]:
    """Of a narrow VGG-16 as a library makes it, every value at random."""
    net: nn.Module
    if library == "torchvision":
        net = nn.ModuleDict({"features": make_layers(CONFIG, batch_norm=True)})
    else:
        net = VGG(CONFIG, norm_layer=nn.BatchNorm2d)
    draw = torch.Generator().manual_seed(3)
    return {
        name: torch.rand(value.shape, generator=draw) if value.is_floating_point() else value
        for name, value in net.state_dict().items()
    }


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_every_tensor_of_the_encoder_is_that_of_the_file(
    library: str, classifier: Path, tmp_path: Path
) -> None:
    weights = vgg_state(library)
    torch.save(weights, tmp_path / "vgg.pth")
    model = made("enc_dec_unpool", classifier, encoder_weights=str(tmp_path / "vgg.pth"))
    state = model.net.encoder.state_dict()
    assert len(state) == sum(LAYOUT) * 7
    assert all(torch.equal(value, weights[name]) for name, value in state.items())
    assert model.weights_source == "file:vgg.pth"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("features.40.bias"), r"1 of .* missing: features\.40\.bias"),
        (
            lambda weights: weights.update({"features.3.weight": torch.zeros(4, 3, 3, 3)}),
            r"features\.3\.weight: \(4, 3, 3, 3\) in the file, \(4, 4, 3, 3\) in the network",
        ),
    ],
)
def test_a_file_without_a_tensor_is_refused_by_its_name(
    change: Any, message: str, classifier: Path, tmp_path: Path
) -> None:
    weights = vgg_state("torchvision")
    change(weights)
    torch.save(weights, tmp_path / "vgg.pth")
    with pytest.raises(ValueError, match=message):
        made("enc_dec_unpool", classifier, encoder_weights=str(tmp_path / "vgg.pth"))


def test_names_and_shapes_are_those_of_vgg16_bn() -> None:
    with torch.device("meta"):
        own = VggEncoder((64, 128, 256, 512, 512)).state_dict()
        others = [
            torchvision.models.vgg16_bn(init_weights=False),
            timm.create_model("vgg16_bn", num_classes=0),
        ]
    for other in others:
        named = {
            name: value.shape
            for name, value in other.state_dict().items()
            if name.startswith("features.")
        }
        assert {name: value.shape for name, value in own.items()} == named


def test_maps_are_those_of_timm() -> None:
    net = VGG(CONFIG, norm_layer=nn.BatchNorm2d).eval()
    weights = vgg_state("timm")
    net.load_state_dict(weights)
    encoder = VggEncoder(WIDTHS).eval()
    encoder.load_state_dict({k: v for k, v in weights.items() if k.startswith("features.")})
    images = images_of(1, 3, 75, 64)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images)[-1], net.forward_features(images))


def test_poolings_and_unpoolings_have_the_same_sizes() -> None:
    model = EncDecUnpool(3, WIDTHS, 0.5).eval()
    found: list[int] = []
    model.unpool.register_forward_hook(lambda layer, given, out: found.append(out.shape[2]))
    images = images_of(1, 3, 200, 200)
    assert [stage.shape[2] for stage in model.encoder(images)] == [200, 100, 50, 25, 12, 6]
    assert model(images).shape == (1, 3, 200, 200)
    assert found == [12, 25, 50, 100, 200]


def test_dropout_follows_each_unpooling() -> None:
    calls: list[str] = []
    model = EncDecUnpool(3, WIDTHS, 0.5).train()
    model.unpool.register_forward_hook(lambda *_: calls.append("unpool"))
    model.dropout.register_forward_hook(lambda *_: calls.append("dropout"))
    model(images_of(2, 3, 32, 32))
    assert calls == ["unpool", "dropout"] * 5 and model.dropout.p == 0.5


# deeplabv2


class Given(nn.Module):
    """A backbone whose features are the first channel of the images."""

    num_features, output_stride = 1, 1

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1]

    def covered(self, images: Tensor) -> tuple[int, int]:
        return images.shape[2], images.shape[3]


def test_logits_are_a_sum_over_dilated_neighbours() -> None:
    net: Any = DeepLabV2(2, Given(), (2, 5))  # type: ignore[arg-type]
    dot = torch.zeros(1, 3, 21, 21)
    dot[0, 0, 10, 10] = 1
    with torch.inference_mode():
        logits = net(dot)[0]
    seen = set(map(tuple, logits[0].nonzero().tolist()))
    steps = {(dy * rate, dx * rate) for rate in (2, 5) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    assert seen == {(10 + dy, 10 + dx) for dy, dx in steps}
    centre = sum(layer.weight[:, 0, 1, 1] for layer in net.head)
    torch.testing.assert_close(logits[:, 10, 10], centre)


def test_the_classifiers_weights_at_another_stride(classifier: Path) -> None:
    model = made("deeplabv2", classifier)
    trained = load_classifier(classifier)[0].backbone.net.state_dict()
    own = model.net.encoder.model.state_dict()
    assert own.keys() == trained.keys()
    assert all(torch.equal(own[name], trained[name]) for name in own)
    assert model.net.encoder(torch.zeros(1, 3, 64, 64))[-1].shape[2] == 8  # a stride of 8


@pytest.mark.parametrize("encoder", ["resnet38d", "tu-vgg11_bn"])
def test_a_backbone_by_name(
    encoder: str, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        monkeypatch.setattr(TimmBackbone, "_probe", lambda *_: (16, 8))
        model = made("deeplabv2", classifier, encoder=encoder, encoder_weights="none")
    assert model.spec.backbones[0]["model_name"] == encoder.removeprefix("tu-")


def test_a_stride_that_there_is_not_is_named_where_it_is_set(classifier: Path) -> None:
    wanted = r"^model.arch_kwargs.output_stride is 8, but .* set it to 16"
    with pytest.raises(ValueError, match=wanted):
        made("deeplabv2", classifier, encoder="vit_tiny_patch16_224", encoder_weights="none")


# frozen_decoder


def test_backbones_learn_nothing_and_are_kept_once(classifier: Path, tmp_path: Path) -> None:
    model = made("frozen_decoder", classifier).train()
    encoder: FrozenBackbones = model.net.encoder
    before = {name: value.clone() for name, value in encoder.tensors().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(images_of(2, 3, 48, 64)).square().mean().backward()
    optimizer.step()
    after = encoder.tensors()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert not any(backbone.training for backbone in (encoder[0], encoder[1]))
    addresses = {value.data_ptr() for value in after.values()}
    assert not any(value.data_ptr() in addresses for value in model.state_dict().values())
    assert copy.deepcopy(model).net.encoder is encoder
    save_segmenter(model, tmp_path)
    saved = load_file(tmp_path / "weights.safetensors")
    assert len(saved) == len(model.state_dict()) + len(after)
    assert model.weights_source == "classifier, none"


def test_backbones_go_where_the_network_goes(classifier: Path) -> None:
    model = made("frozen_decoder", classifier).to(torch.float64)
    assert model(images_of(1, 3, 32, 32).double()).dtype == torch.float64


def test_each_backbone_sees_images_in_its_own_normalisation(classifier: Path) -> None:
    model = made("frozen_decoder", classifier)
    encoder: FrozenBackbones = model.net.encoder
    pixels = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    found = encoder.blocks(model.normalisation(pixels))
    half = Normalisation((0.5,) * 3, (0.5,) * 3)
    with torch.inference_mode():
        expected, blocks = encoder[1].with_blocks(half(pixels))
    assert len(found[0]) == 4 and len(found[1]) == len(blocks) == 3
    torch.testing.assert_close(found[1][-1], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1][0], blocks[0], rtol=1e-4, atol=1e-5)


def test_two_backbones_give_the_mean_of_their_logits() -> None:
    torch.manual_seed(0)
    normalisation = Normalisation((0.5,) * 3, (0.5,) * 3)
    backbones = [TimmBackbone(BackboneSettings.model_validate(VIT)) for _ in range(2)]
    both = FrozenDecoder(3, FrozenBackbones(backbones, normalisation), 16, 1, 2).eval()
    single = []
    for number in range(2):
        encoder = FrozenBackbones(backbones[number : number + 1], normalisation)
        net = FrozenDecoder(3, encoder, 16, 1, 2).eval()
        state = both.state_dict()
        own = {
            name: state[name.replace("heads.0.", f"heads.{number}.")] for name in net.state_dict()
        }
        net.load_state_dict(own)
        single.append(net)
    images = images_of(1, 3, 33, 50)
    with torch.inference_mode():
        torch.testing.assert_close(both(images), (single[0](images) + single[1](images)) / 2)


# settings


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"arch": "enc_dec_unpool", "arch_kwargs": {"dropuot": 0}},
            "train_segmenter.model: arch_kwargs has no key 'dropuot'; did you mean 'dropout'?",
        ),
        (
            {"arch": "enc_dec_unpool", "arch_kwargs": {"dropout": 1, "widths": [4, 4]}},
            "arch_kwargs.dropout must be less than 1, but is 1; arch_kwargs.widths.2 is missing",
        ),
        (
            {"arch": "unet_small"},
            "encoder_weights is 'classifier', but unet_small starts from random values; set it to "
            "'none'",
        ),
        (
            {"arch": "enc_dec_unpool", "encoder": "resnet18"},
            "encoder is 'resnet18', but enc_dec_unpool has its own; leave it at 'classifier'",
        ),
        (
            {"arch": "deeplabv2", "encoder_weights": "imagenett"},
            "encoder_weights is 'imagenett', but deeplabv2 takes classifier, backbone, hub, none "
            "or a file",
        ),
        (
            {"arch": "frozen_decoder", "encoder_weights": "none"},
            "but frozen_decoder has weights where arch_kwargs.backbones names them",
        ),
        (
            {"arch": "frozen_decoder", "frozen_stages": 1},
            "no backbone of frozen_decoder learns; set frozen_stages to 0",
        ),
        (
            {"arch": "frozen_decoder", "arch_kwargs": {"width": 20}},
            "arch_kwargs: heads is 8, which does not divide width, 20; set width to 24",
        ),
        (
            {"arch": "frozen_decoder", "arch_kwargs": {"backbones": [{"modelname": "x"}]}},
            "arch_kwargs.backbones.0 has no key 'modelname'; did you mean 'model_name'?",
        ),
    ],
)
def test_settings_that_can_not_be_are_refused_before_any_work(
    model: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_params({"train_segmenter": {"model": model}})
    assert message in str(caught.value)


def test_an_architecture_that_there_is_not(classifier: Path) -> None:
    with pytest.raises(ValueError, match=r"'enc_dec_unpol'; did you mean 'enc_dec_unpool'\?"):
        make_segmenter(SegmenterSettings(arch="enc_dec_unpol"), classifier)
