"""A part of an epoch that is kept: after which step it may be, and what goes on from there."""

import logging
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from wsss.cores import is_first, rank, world_size
from wsss.loading.devices import gather

__all__ = ["KEEP", "Agreement", "KeepTime", "go_on", "part_of_epoch"]

log = logging.getLogger(__name__)

KEEP = 1
"""Below the numbers of signals: the state is kept, and training goes on."""


class Agreement:
    """What all processes do after a step: the most that any of them asks for."""

    def __init__(self) -> None:
        self._asked = torch.zeros(1, dtype=torch.int64)
        self._work: Any = None

    def after_step(self, own: int) -> int:
        """Ask, and give what was agreed on in the step before, so that nobody has to wait.

        Args:
            own: the number of a signal, `KEEP`, or 0.
        """
        if world_size() == 1:
            return own
        found = self._found()
        import torch.distributed as dist

        self._asked = torch.tensor([own])
        self._work = dist.all_reduce(
            self._asked, dist.ReduceOp.MAX, group=_on_the_cpu(), async_op=True
        )
        return found

    def now(self, own: int) -> int:
        """Ask, and wait for the others; what was agreed on and is not known yet counts, too."""
        before = self.after_step(own)
        return max(before, self._found()) if world_size() > 1 else before

    def _found(self) -> int:
        if self._work is None:
            return 0
        self._work.wait()
        self._work = None
        return int(self._asked)


@cache
def _on_the_cpu() -> Any:
    """The processes as a group that waits for no GPU."""
    import torch.distributed as dist

    return dist.new_group(backend="gloo")


class KeepTime:
    """Says when the state is to be kept again, by the clock of the first process.

    Args:
        minutes: from one time to the next.
    """

    def __init__(self, minutes: float) -> None:
        self._seconds = 60 * minutes
        self.start()

    def start(self) -> None:
        """The state has been kept."""
        self._last = time.monotonic()

    def asks(self) -> int:
        """Give `KEEP` once when it is time, in the first process; 0 otherwise."""
        if not is_first() or time.monotonic() - self._last <= self._seconds:
            return 0
        self.start()
        return KEEP


def part_of_epoch(steps: int, sums: Mapping[str, Tensor], device: torch.device) -> dict[str, Any]:
    """What is kept besides networks and optimiser, of all processes, which wait for one another.

    Args:
        steps: that are done of the epoch.
        sums: of losses so far.
        device: whose generator is kept.
    """
    own = {name: value.cpu() for name, value in sums.items()}
    both = gather((own, _random_state(device)))
    return {
        "steps": steps,
        "sums": [part[0] for part in both],
        "random": [part[1] for part in both],
    }


def go_on(part: Mapping[str, Any], device: torch.device) -> tuple[int, dict[str, Tensor]]:
    """Restore this process's part of what `part_of_epoch` gave.

    With another number of processes the order of the images is the same, but not what is drawn
    besides, such as dropout; the log says so.

    Returns:
        How many steps are done, and the sums of losses.
    """
    processes = len(part["sums"])
    if processes == world_size():
        _restore_random(part["random"][rank()], device)
        return part["steps"], {k: v.to(device) for k, v in part["sums"][rank()].items()}
    log.warning(
        "the epoch was begun in %d processes and goes on in %d: the images are those of an "
        "undisturbed run, what is drawn besides, such as dropout, is not",
        processes,
        world_size(),
    )
    # means are taken over processes in the end: each takes an equal part of the whole
    return part["steps"], {
        name: sum((sums[name] for sums in part["sums"]), torch.zeros(())).to(device) / processes
        for name in part["sums"][0]
    }


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """Of PyTorch's generators; all else that is drawn comes from `wsss.seeding`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _restore_random(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
