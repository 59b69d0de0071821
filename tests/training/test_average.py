"""The running mean of weights: plain at first, then exponential; buffers are copied."""

import pytest
import torch
from torch import nn

from wsss.training.average import WeightAverage


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_mean_is_plain_until_it_keeps_its_share(decay: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average, expected = WeightAverage(model, decay), torch.zeros(2, 3)
    for step in range(25):
        nn.init.normal_(model[0].weight)
        model.train()(torch.randn(4, 3))
        kept = min(decay, step / (step + 1))
        expected = kept * expected + (1 - kept) * model[0].weight.detach()
        average.update(model, step)
        torch.testing.assert_close(average.model[0].weight, expected)
        for own, other in zip(average.model.buffers(), model.buffers(), strict=True):
            assert torch.equal(own, other)
    assert not average.model.training and model.training
    assert not any(weights.requires_grad for weights in average.model.parameters())


def test_weights_that_do_not_move_are_their_own_mean() -> None:
    model = nn.Linear(5, 5)
    average = WeightAverage(model, 0.99)
    for step in range(9):
        average.update(model, step)
    assert torch.equal(average.model.weight, model.weight)
