"""Losses add up, and what counts nothing gets no gradient."""

import torch

from wsss.methods.losses import Losses


def test_the_loss_is_the_weighted_sum_and_the_terms_are_recorded_unweighted() -> None:
    losses = Losses()
    losses.add("classification", torch.tensor(0.5))
    assert dict(losses) == {"loss": torch.tensor(0.5)}, "one term needs no second name"
    losses.add("ecs", torch.tensor(3.0), 0.5)
    assert {name: float(value) for name, value in losses.items()} == {
        "loss": 2.0,
        "classification": 0.5,
        "ecs": 3.0,
    }
    assert next(iter(losses)) == "loss" and len(losses) == len(list(losses))


def test_a_term_without_weight_is_recorded_and_teaches_nothing() -> None:
    taught, untaught = torch.ones((), requires_grad=True), torch.ones((), requires_grad=True)
    losses = Losses()
    losses.add("classification", untaught * 7, 0)
    losses.add("contrast", taught * 2)
    assert losses["classification"] == 7
    losses["loss"].backward()
    assert taught.grad == 2 and untaught.grad is None


def test_the_mean_of_two_views_keeps_the_weights() -> None:
    first, second = Losses(), Losses()
    for losses, value in ((first, 1.0), (second, 3.0)):
        losses.add("classification", torch.tensor(value))
        losses.add("entropy", torch.tensor(10 * value), 0.1)
    mean = first.mean_with(second)
    assert (mean["classification"], mean["entropy"], mean["loss"]) == (2, 20, 4)
