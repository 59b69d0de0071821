"""Networks that begin with the same layers: these run once, and nothing else changes."""

import copy

import pytest
import torch
from torch import nn

from wsss.config.sections import BackboneSettings
from wsss.loading.normalisation import Normalisation
from wsss.models.classifier import Classifier, ClassifierOutput
from wsss.models.common_start import begin_alike, join_starts
from wsss.models.fusion import fuse_batchnorm
from wsss.models.timm_backbone import TimmBackbone

# activations that work in place, fused ones, a pyramid, a plain transformer, channels last
NAMES = ["resnet10t", "mobilenetv2_050", "regnetx_002", "vit_tiny_patch16_224", "swin_s3_tiny_224"]


def pair(name: str, frozen_stages: int = 2) -> tuple[Classifier, Classifier]:
    """Classifiers that differ where they learned, and have frozen stages in common."""
    torch.manual_seed(0)
    kwargs = {"img_size": 64} if name.startswith("swin") else {}
    stride = 16 if name.startswith("vit") else 32
    settings = BackboneSettings(
        model_name=name, frozen_stages=frozen_stages, output_stride=stride, timm_kwargs=kwargs
    )
    first = Classifier(TimmBackbone(settings), ("a", "b"))
    second = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in second.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return first.eval(), second.eval()


def outputs(found: ClassifierOutput) -> list[torch.Tensor]:
    return [found.logits, found.maps, found.features, *found.stages]


class Runs:
    """Which layers with weights of their own were computed, in order."""

    def __init__(self, *models: nn.Module) -> None:
        self.of: list[str] = []
        for at, model in enumerate(models):
            for name, layer in model.backbone.named_modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.register_forward_hook(
                        lambda *_, name=f"{at} {name}": self.of.append(name)
                    )

    def taken(self) -> list[str]:
        taken = self.of.copy()
        self.of.clear()
        return taken


@pytest.mark.parametrize("name", NAMES)
def test_layers_in_common_run_once_and_give_the_same(name: str) -> None:
    first, second = pair(name)
    example = torch.rand(1, 3, 64, 64)
    first, second = fuse_batchnorm(first, example), fuse_batchnorm(second, example)
    assert begin_alike(first, second)
    batches = [torch.rand(2, 3, 64, 64) for _ in range(3)]
    with torch.inference_mode():
        wanted = [
            [outputs(model(images, with_stages=True)) for model in (first, second)]
            for images in batches
        ]
        runs = Runs(first, second)
        for images in batches:
            first(images), second(images)
        apart = runs.taken()
        assert join_starts(first, second, example)
        runs.taken()
        for images, of_both in zip(batches, wanted, strict=True):
            for model, alone in zip((first, second), of_both, strict=True):
                found = outputs(model(images, with_stages=True))
                assert all(map(torch.equal, found, alone))
        together = runs.taken()
        assert set(together) < set(apart)
        assert len(together) < len(apart)
        # asked alone, and the other way round, each gives what it gave
        for model, alone in zip((second, first), reversed(wanted[0]), strict=True):
            assert all(map(torch.equal, outputs(model(batches[0], with_stages=True)), alone))


def test_networks_that_differ_from_the_start_share_nothing() -> None:
    first, second = pair("mobilenetv2_050", frozen_stages=0)
    assert not begin_alike(first, second)
    assert not join_starts(first, second, torch.rand(1, 3, 64, 64))
    assert not any("forward" in vars(layer) for layer in (*first.modules(), *second.modules()))


def test_images_that_are_shown_otherwise_are_not_alike() -> None:
    first, second = pair("mobilenetv2_050")
    second.backbone.normalisation = Normalisation((0.1, 0.2, 0.3), (1, 1, 1))
    assert not begin_alike(first, second)


class Doubled(nn.Conv2d):
    """A layer that a setting changes which neither its text nor its weights tell."""

    factor = 1.0

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.factor * super().forward(maps)


def test_layers_that_only_look_alike_are_not_shared() -> None:
    first, second = pair("resnet10t")
    for model, factor in ((first, 1.0), (second, 2.0)):
        conv = model.backbone.net.conv1[0]
        conv.__class__ = Doubled
        conv.factor = factor
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        wanted = outputs(second(images))
        assert begin_alike(first, second)
        assert not join_starts(first, second, torch.rand(1, 3, 64, 64))
        first(images)
        assert all(map(torch.equal, outputs(second(images)), wanted))
    assert not any("forward" in vars(layer) for layer in (*first.modules(), *second.modules()))


def test_a_network_that_shares_nothing_leaves_what_two_others_share() -> None:
    first, second = pair("resnet10t")
    other = copy.deepcopy(first)
    for model, factor in ((first, 1.0), (second, 1.0), (other, 2.0)):
        conv = model.backbone.net.conv1[0]
        conv.__class__ = Doubled
        conv.factor = factor
    example = torch.rand(1, 3, 64, 64)
    assert join_starts(first, second, example)
    assert not join_starts(first, other, example)
    runs, images = Runs(first, second), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        first(images), second(images)
    computed = runs.taken()
    assert "0 net.layer1.0.conv1" in computed and "1 net.layer1.0.conv1" not in computed
