"""Mixup on images and on features: what mixing must and must not change."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import wsss.methods._mixing as mixing
from wsss.config.sections import BackboneSettings
from wsss.methods._mixing import Mix, draw_mix
from wsss.methods.manifold_mixup import ManifoldMixupSettings, _forward
from wsss.methods.objective import Objective, entropy
from wsss.models.classifier import Classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import METHODS
from wsss.seeding import Step

MakeModel = Callable[[], Classifier]
MIXING = [
    name for name in METHODS.names() if issubclass(METHODS.settings(name), mixing.MixSettings)
]
OBJECTIVE = Objective("multi_label")
LAYERS = ("input", 1, 2, 3, 4)


def make_step(seed: int = 0) -> Step:
    return Step(np.random.default_rng(seed), 0.5, list("abcd"))


def losses(
    name: str, model: Classifier, images: Tensor, labels: Tensor, seed: int = 0, **values: Any
) -> dict[str, Tensor]:
    method = METHODS.build(METHODS.settings(name)(**values))
    found: dict[str, Tensor] = method(model, images, labels, OBJECTIVE, make_step(seed))
    return found


def test_the_mixing_methods_are_all_tested() -> None:
    assert {"mixup", "manifold_mixup", "fmix"} <= set(MIXING)


@pytest.fixture
def fixed_share(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the share that every method draws."""

    def fix(share: float) -> None:
        def draw(images: Tensor, alpha: float, rng: np.random.Generator) -> Mix:
            return Mix(share, draw_mix(images, alpha, rng).order)

        for name in MIXING:
            monkeypatch.setattr(f"wsss.methods.{name}.draw_mix", draw)

    return fix


@pytest.mark.parametrize("name", MIXING)
def test_a_share_of_one_is_plain_training(
    name: str, make_model: MakeModel, images: Tensor, labels: Tensor, fixed_share: Any
) -> None:
    fixed_share(1.0)
    model = make_model().eval()
    weights = {"entropy_weight": 0.02, "concentration_weight": 2e-4}
    plain = losses("cam", model, images, labels, **weights)
    for seed in range(5):  # other layers, masks, partners
        mixed = losses(name, model, images, labels, seed, **weights)
        torch.testing.assert_close(mixed, plain, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", MIXING)
def test_equal_images_mix_to_themselves(name: str, make_model: MakeModel, images: Tensor) -> None:
    model = make_model().eval()
    same, labels = images[:1].expand(4, -1, -1, -1), torch.tensor([[1.0, 0, 1]]).expand(4, -1)
    plain = losses("cam", model, same, labels)
    for seed in range(5):
        mixed = losses(name, model, same, labels, seed, entropy_weight=0, concentration_weight=0)
        torch.testing.assert_close(mixed["loss"], plain["loss"])


def test_equal_labels_give_the_loss_of_the_mixture(make_model: MakeModel, images: Tensor) -> None:
    model, labels = make_model().eval(), torch.tensor([[1.0, 0, 1]]).expand(4, -1)
    mix = draw_mix(images, 0.2, np.random.default_rng(0))
    logits = model(mix.blend(images)).logits
    torch.testing.assert_close(
        losses("mixup", model, images, labels)["classification"],
        OBJECTIVE.classification(logits, labels),
    )


def test_mixup_by_hand(make_model: MakeModel, images: Tensor, labels: Tensor) -> None:
    model = make_model().eval()
    mix = draw_mix(images, 0.2, np.random.default_rng(1))
    share, order = mix.share, mix.order.tolist()
    assert 0 < share < 1 and order != [0, 1, 2, 3]
    mixed = torch.stack([share * images[i] + (1 - share) * images[j] for i, j in enumerate(order)])
    logits = model(mixed).logits
    expected = share * OBJECTIVE.classification(logits, labels) + (
        1 - share
    ) * OBJECTIVE.classification(logits, labels[order])
    found = losses("mixup", model, images, labels, 1)
    torch.testing.assert_close(found["classification"], expected)
    torch.testing.assert_close(found["entropy"], entropy(logits.sigmoid()))


def test_shares_follow_their_distribution() -> None:
    rng, images = np.random.default_rng(0), torch.zeros(3, 1)
    for alpha in (0.2, 1.0):
        shares = np.array([draw_mix(images, alpha, rng).share for _ in range(4000)])
        variance = 1 / (4 * (2 * alpha + 1))
        assert shares.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / 4000))
        assert shares.var() == pytest.approx(variance, rel=0.05)
    orders = {tuple(draw_mix(images, 1.0, rng).order.tolist()) for _ in range(200)}
    assert len(orders) == 6


@pytest.mark.parametrize("name", MIXING)
def test_compat_entropy_is_a_constant_of_the_labels(
    name: str, make_model: MakeModel, images: Tensor, labels: Tensor
) -> None:
    model = make_model()
    options = {"compat_entropy": True, "concentration_weight": 0, "entropy_weight": 1}
    found = losses(name, model, images, labels, **options)
    # 2 of 3 labels are 0, one is 1, in every row and so in every mixture
    assert found["entropy"].item() == pytest.approx((2 * 0.6931 + 0.5822) / 3, abs=1e-4)
    assert not found["entropy"].requires_grad
    assert losses(name, model, images, labels, entropy_weight=1)["entropy"].requires_grad


def test_mixing_the_input_layer_is_mixup(
    make_model: MakeModel, images: Tensor, labels: Tensor
) -> None:
    model = make_model().eval()
    for seed in range(3):
        manifold = losses("manifold_mixup", model, images, labels, seed, layers=("input",))
        torch.testing.assert_close(manifold, losses("mixup", model, images, labels, seed))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("model_name", ["resnet10t", "mobilenetv2_050", "convnext_atto", "vgg11"])
def test_each_layer_is_mixed_where_it_ends(layer: int | str, model_name: str) -> None:
    """A share of 1 is the identity, one of 0 permutes; half of both is neither."""
    torch.manual_seed(0)
    stride = 32 if model_name == "vgg11" else 16
    backbone = TimmBackbone(BackboneSettings(model_name=model_name, output_stride=stride))
    model = Classifier(backbone, ("a", "b")).eval()
    images, order = torch.randn(3, 3, 64, 64), torch.tensor([1, 2, 0])
    plain = model(images)
    torch.testing.assert_close(_forward(model, images, Mix(1.0, order), layer), plain)
    swapped = _forward(model, images, Mix(0.0, order), layer)
    torch.testing.assert_close(swapped.maps, plain.maps[order])
    half = _forward(model, images, Mix(0.5, order), layer).maps
    assert not torch.allclose(half, plain.maps, rtol=1e-3, atol=1e-7)
    assert not torch.allclose(half, plain.maps[order], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(model(images), plain)  # no hook stays


@pytest.mark.parametrize("layer", [1, 2, 3, 4])
def test_features_are_mixed_at_the_layer_and_not_before(
    layer: int, make_model: MakeModel, images: Tensor
) -> None:
    model, mix = make_model().eval(), Mix(0.3, torch.tensor([2, 0, 3, 1]))
    seen: list[Tensor] = []
    for stage in model.backbone.stages():
        stage.register_forward_hook(lambda _, inputs, found: seen.append(inputs[0]))
    head = model.head.register_forward_hook(lambda _, inputs, found: seen.append(inputs[0]))
    _forward(model, images, Mix(1.0, mix.order), layer)
    plain, seen = seen, []
    _forward(model, images, mix, layer)
    head.remove()
    for stage in range(layer):  # what goes into the stages up to this one
        assert torch.equal(seen[stage], plain[stage])
    torch.testing.assert_close(seen[layer], mix.blend(plain[layer]))


def test_stages_are_where_the_resolution_halves() -> None:
    backbone = TimmBackbone(BackboneSettings(model_name="mobilenetv2_050", output_stride=32)).eval()
    sizes: list[int] = []
    for stage in backbone.stages():
        stage.register_forward_hook(lambda _, inputs, found: sizes.append(found.shape[2]))
    backbone(torch.zeros(1, 3, 64, 64))
    assert sizes == [16, 8, 4, 2]


def test_stages_of_a_transformer_are_its_quarters() -> None:
    backbone = TimmBackbone(
        BackboneSettings(model_name="vit_tiny_patch16_224", timm_kwargs={"dynamic_img_size": True})
    )
    blocks = backbone.net.blocks
    assert backbone.stages() == (blocks[2], blocks[5], blocks[8], blocks[11])


def test_layers_are_all_drawn(
    make_model: MakeModel, images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    model = make_model().eval()
    monkeypatch.setattr(
        "wsss.methods.manifold_mixup._forward",
        lambda model, images, mix, layer: (
            seen.append(layer) or model(images[:1].expand(4, -1, -1, -1))
        ),
    )
    for seed in range(25):
        losses("manifold_mixup", model, images, labels, seed)
    assert set(seen) == set(ManifoldMixupSettings().layers)


def test_a_stage_that_is_not_there_is_named(
    make_model: MakeModel, images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    monkeypatch.setattr(model.backbone, "stages", lambda: ())
    with pytest.raises(ValueError, match=r"layers has 2, but the backbone has 0 stages"):
        losses("manifold_mixup", model, images, labels, layers=(2,))
