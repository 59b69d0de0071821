"""IRN's branches on a backbone that stays as it is."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from wsss.config.sections import BackboneSettings
from wsss.models.affinity_net import level_features, load_affinity_net, save_network
from wsss.models.irn import Irn, load_irn

CNN = BackboneSettings(model_name="resnet10t")
VIT = BackboneSettings(
    model_name="vit_tiny_patch16_224",
    output_stride=4,
    timm_kwargs={"patch_size": 4, "img_size": 32, "embed_dim": 24, "depth": 4, "num_heads": 2},
)


def make(settings: BackboneSettings = CNN) -> Irn:
    torch.manual_seed(0)
    return Irn(settings)


def images(height: int = 32, width: int = 48) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("settings", "levels"), [(CNN, 5), (VIT, 4)])
def test_both_branches_have_the_grid_of_the_first_stage(
    settings: BackboneSettings, levels: int
) -> None:
    model = make(settings).eval()
    logits, displacement = model(images())
    assert logits.shape == (2, 8, 12) and displacement.shape == (2, 2, 8, 12)
    assert len(model.edge.reduce) == levels
    assert torch.equal(model.boundary_logits(images()), logits)


def grouped(features: Tensor, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    """Group norm by its definition."""
    split = features.unflatten(1, (groups, -1))
    mean = split.mean(dim=(2, 3, 4), keepdim=True)
    variance = (split - mean).square().mean(dim=(2, 3, 4), keepdim=True)
    normal = ((split - mean) / (variance + 1e-5).sqrt()).flatten(1, 2)
    return normal * weight[:, None, None] + bias[:, None, None]


def test_boundaries_are_the_formula() -> None:
    model = make().eval()
    with torch.no_grad():
        for name, tensor in model.edge.named_parameters():
            tensor.add_(0.1 * torch.randn(tensor.shape) if "1." in name else 0)  # of group norm
        logits, _ = model(images())
        total = model.edge.join.bias[:, None, None].expand(1, 8, 12)
        features = level_features(model.backbone, model._levels, images())
        assert len(features) == 5
        for index, (item, part) in enumerate(zip(features, model.edge.reduce, strict=True)):
            reduced = torch.einsum("oc,bchw->bohw", part[0].weight[:, :, 0, 0], item)
            reduced = grouped(reduced, 4, part[1].weight, part[1].bias).relu()
            stretched = functional.interpolate(reduced, (8, 12), mode="bilinear")
            weight = model.edge.join.weight[0, 32 * index : 32 * (index + 1), 0, 0]
            total = total + torch.einsum("c,bchw->bhw", weight, stretched)
    torch.testing.assert_close(logits, total, atol=1e-4, rtol=1e-4)


def test_training_leaves_the_backbone_to_the_last_bit() -> None:
    model = make().train()
    before = {key: item.clone() for key, item in model.state_dict().items()}
    assert not model.backbone.training and model.edge.training
    logits, displacement = model(images())
    (logits.square().mean() + displacement.square().mean()).backward()
    torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1
    ).step()
    changed = {
        key for key, item in model.state_dict().items() if not torch.equal(item, before[key])
    }
    learns = {key for key in before if not key.startswith("backbone.")}
    assert changed == learns
    new = {id(parameter) for module in model.new_modules for parameter in module.parameters()}
    assert new == {id(parameter) for parameter in model.displacement.parameters()}


def test_the_mean_displacement_is_kept_and_taken_off_afterwards() -> None:
    model = make().train()
    with torch.no_grad():
        _, first = model(images())
        expected = 0.1 * first.mean(dim=(0, 2, 3))
        torch.testing.assert_close(model.displacement_mean, expected)
        _, again = model(images())
        assert torch.equal(first, again)  # not yet while training
        model.eval()
        _, centred = model(images())
        torch.testing.assert_close(centred, first - 0.19 * first.mean(dim=(0, 2, 3))[:, None, None])
        torch.testing.assert_close(model.displacement_mean, 1.9 * expected)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    model = make().eval()
    model.displacement_mean.copy_(torch.tensor([1.0, -2.0]))
    save_network(model, tmp_path / "mine")
    again = load_irn(tmp_path / "mine")
    assert not again.training
    with torch.no_grad():
        for item, other in zip(model(images()), again(images()), strict=True):
            torch.testing.assert_close(item, other, atol=1e-5, rtol=1e-5)  # another memory format
    with pytest.raises(ValueError, match="a network of irn, but psa is asked for"):
        load_affinity_net(tmp_path / "mine")
