"""Frozen batch norm in the convolution before it: the same network to whoever trains it."""

import copy
from collections.abc import Iterator

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from wsss.config.sections import BackboneSettings
from wsss.models.frozen_batchnorm import folded_batchnorm
from wsss.models.timm_backbone import TimmBackbone


def norms(network: nn.Module) -> Iterator[nn.Module]:
    return (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


def used(network: nn.Module) -> nn.Module:
    """As after a training: batch norms that do something; in numbers that tell rounding apart."""
    torch.manual_seed(0)
    for norm in norms(network):
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    return network.double()


def backbone(name: str, **settings: object) -> TimmBackbone:
    torch.manual_seed(0)
    values = {"model_name": name, "freeze_batchnorm": True} | settings
    network = used(TimmBackbone(BackboneSettings.model_validate(values)))
    assert isinstance(network, TimmBackbone)
    return network


def learned(network: nn.Module) -> tuple[list[Tensor], dict[str, Tensor]]:
    """What a network gives while it trains, and the gradients of its weights."""
    network.train()
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)).double()
    found = network(images)
    outputs = [found] if torch.is_tensor(found) else list(found)
    network.zero_grad()
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    return [output.detach() for output in outputs], gradients


def assert_alike(one: nn.Module, other: nn.Module) -> None:
    outputs, gradients = learned(one)
    found, slopes = learned(other)
    assert slopes.keys() == gradients.keys()
    for a, b in [*zip(found, outputs, strict=True), *zip(slopes.values(), gradients.values())]:
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6 * float(b.abs().max() + 1e-3))


@pytest.mark.parametrize(
    ("name", "settings", "number"),
    [
        ("mobilenetv2_050", {}, 52),
        ("mobilenetv2_050", {"frozen_stages": 3, "freeze_batchnorm": False}, 9),
        ("mobilenetv2_050", {"output_stride": 16, "timm_kwargs": {"pad_type": "same"}}, 52),
        ("resnet10t", {}, 14),
        ("regnetx_002", {}, 44),
        ("densenet121", {"output_stride": 32}, 59),  # half of its norms stand before a convolution
    ],
)
def test_outputs_and_gradients_are_the_same(
    name: str, settings: dict[str, object], number: int
) -> None:
    network = backbone(name, **settings)
    plain = copy.deepcopy(network)
    with folded_batchnorm(network) as folded:
        assert folded == number
        assert_alike(plain, network)
    assert_alike(plain, network)


def test_an_encoder_whose_norms_train_all_the_same_is_as_it_was() -> None:
    encoder = used(smp.encoders.get_encoder("resnet18", weights=None))
    for norm in norms(encoder):
        norm.requires_grad_(False)
    plain = copy.deepcopy(encoder)
    with folded_batchnorm(encoder) as folded:
        assert folded == 20
        assert_alike(plain, encoder)  # by the statistics of the batch
    assert all(map(torch.equal, plain.state_dict().values(), encoder.state_dict().values()))


def test_states_and_copies() -> None:
    network = backbone("mobilenetv2_050")
    names, kinds = list(network.state_dict()), [type(module) for module in network.modules()]
    plain = copy.deepcopy(network)
    with folded_batchnorm(network):
        assert list(network.state_dict()) == names
        copied = copy.deepcopy(network)
        for parameter in network.parameters():
            parameter.data.zero_()
        assert_alike(plain, copied)
    assert [type(module) for module in network.modules()] == kinds


def test_it_ends_with_an_error() -> None:
    network = backbone("resnet10t")
    with pytest.raises(KeyboardInterrupt), folded_batchnorm(network):
        raise KeyboardInterrupt
    assert {type(module) for module in norms(network)} == {nn.BatchNorm2d}


class Both(nn.Module):
    """What the convolution gives is used besides, which only a run can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, maps: Tensor) -> Tensor:
        convolved = self.conv(maps)
        both: Tensor = convolved + self.norm(convolved)
        return both


def test_a_wrong_guess_folds_nothing() -> None:
    network = used(Both())
    network.norm.requires_grad_(False)
    plain = copy.deepcopy(network.eval())
    with folded_batchnorm(network) as folded:
        assert folded == 0
        image = torch.rand(1, 3, 8, 8).double()
        assert torch.equal(network(image), plain(image))


def test_nothing_frozen_is_nothing_folded() -> None:
    with folded_batchnorm(backbone("resnet10t", freeze_batchnorm=False)) as folded:
        assert folded == 0


class OfOneSize(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (224, 224):
            raise ValueError("no image of another size")
        maps: Tensor = super().forward(images)
        return maps


def test_a_network_that_takes_no_small_image_trains_as_it_is() -> None:
    network = used(OfOneSize(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).eval()
    network[1].requires_grad_(False)
    images = torch.rand(1, 3, 224, 224).double()
    wanted = network(images)
    with folded_batchnorm(network) as folded:
        assert folded == 0
        assert torch.equal(network(images), wanted)
