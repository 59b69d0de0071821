"""The running mean of a network's weights."""

import copy

import torch
from torch import nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """An exponential moving average of weights; buffers are copied.

    The mean begins as a plain one, which keeps 1 - 1 / (n + 1) of itself in step n, until that
    share is `decay`: random first weights are soon forgotten.

    Args:
        model: whose copy the mean starts from.
        decay: share of itself that the mean keeps in each step, in [0, 1).

    Attributes:
        model: the network with the mean of the weights, in eval mode.

    References:
        Tarvainen & Valpola, Mean teachers are better role models, NeurIPS 2017.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step.

        Args:
            model: as it was trained.
            step: counted from 0 over all epochs.
        """
        kept = min(self.decay, 1 - 1 / (step + 1))
        with torch.no_grad():
            for mean, weights in zip(self.model.parameters(), model.parameters(), strict=True):
                mean.lerp_(weights, 1 - kept)
            for copied, value in zip(self.model.buffers(), model.buffers(), strict=True):
                copied.copy_(value)
