"""Losses and weights that are not finite: training stops at them, and says where."""

import math
from itertools import chain

import torch
from torch import Tensor, nn

from wsss.checks import DivergedError, full_key
from wsss.loading.devices import gather

__all__ = ["FiniteLosses", "check_weights"]

STEPS_BETWEEN_CHECKS = 50
"""Losses are looked at together: to ask a GPU for one is to wait for it."""


class FiniteLosses:
    """Stops training at a loss that is not finite, without waiting for the device in every step.

    Args:
        epoch: 0-based.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.noted: list[tuple[int, Tensor, list[str]]] = []

    def note(self, loss: Tensor, names: list[str], step: int) -> None:
        """Keep the loss of a step, and now and then look at those that were kept."""
        self.noted.append((step, loss.detach(), names))
        if len(self.noted) == STEPS_BETWEEN_CHECKS:
            self.check()

    def check(self) -> None:
        """Raise DivergedError for the first loss that is not finite; forget the others."""
        if not self.noted:
            return
        values = torch.stack([loss for _, loss, _ in self.noted]).tolist()
        wrong = [
            (step, value, names)
            for value, (step, _, names) in zip(values, self.noted, strict=True)
            if not math.isfinite(value)
        ]
        self.noted = []
        # one process after the other breaks, and all have to stop
        for step, value, names in sorted(chain.from_iterable(gather(wrong[:1]))):
            raise DivergedError(
                f"the loss is {value} in epoch {self.epoch + 1}, step {step + 1}; "
                f"{_lower_the_rate()}. The batch: {', '.join(names)}"
            )


def check_weights(model: nn.Module, epoch: int) -> None:
    """Raise DivergedError if the last step, whose loss was finite, broke the network."""
    finite = torch.stack([weights.isfinite().all() for weights in model.parameters()])
    if not finite.all():
        raise DivergedError(f"weights are not finite after epoch {epoch + 1}; {_lower_the_rate()}")


def _lower_the_rate() -> str:
    return f"lower {full_key('optimizer.lr')} or set {full_key('optimizer.gradient_clip')}"
