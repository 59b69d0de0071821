"""Learning rates and parameter groups."""

from itertools import pairwise

import pytest
import timm
from torch import nn

from wsss.config.sections import OptimizerSettings
from wsss.training.schedules import lr_factor, make_optimizer


def test_poly_matches_the_published_number() -> None:
    settings = OptimizerSettings(schedule="poly", poly_power=0.9)
    assert 0.1 * lr_factor(50, 100, settings) == pytest.approx(0.0535887, abs=1e-7)


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_warmup_rises_and_decay_falls_to_nearly_zero(schedule: str) -> None:
    settings = OptimizerSettings(schedule=schedule, warmup_share=0.1)
    factors = [lr_factor(step, 100, settings) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * index for index in range(1, 11)])
    assert all(item >= other for item, other in pairwise(factors[10:]))
    assert 0 < factors[-1] < 0.02


def test_groups_split_by_age_and_kind() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    settings = OptimizerSettings(lr=1, head_lr_factor=10, bias_lr_factor=2, weight_decay=0.5)
    groups = make_optimizer(model, [model[2]], settings).param_groups
    found = {
        tuple(sorted(tuple(tensor.shape) for tensor in group["params"])): (
            group["lr"],
            group["weight_decay"],
        )
        for group in groups
    }
    assert found == {
        ((4, 3, 3, 3),): (1, 0.5),  # old weights
        ((4,),): (1, 0),  # batch norm's weight
        ((4,), (4,)): (2, 0),  # old bias, and batch norm's
        ((2, 4),): (10, 0.5),
        ((2,),): (20, 0),
    }


def test_what_a_network_says_is_spared_from_decay() -> None:
    model = timm.create_model("test_vit", num_classes=2)
    groups = make_optimizer(model, [], OptimizerSettings(weight_decay=0.5)).param_groups
    decaying = {id(one) for group in groups if group["weight_decay"] for one in group["params"]}
    for name, parameter in model.named_parameters():
        spared = name in ("cls_token", "pos_embed") or parameter.ndim < 2
        assert (id(parameter) in decaying) != spared, name


def test_momentum_is_momentum() -> None:
    """Published code passed weight decay in momentum's place."""
    optimizer = make_optimizer(
        nn.Linear(2, 2), [], OptimizerSettings(momentum=0.9, weight_decay=1e-4)
    )
    assert all(group["momentum"] == 0.9 for group in optimizer.param_groups)


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    optimizer = make_optimizer(model, [], OptimizerSettings())
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]
