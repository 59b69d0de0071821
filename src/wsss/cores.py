"""The cores that this process may run on, and its place among processes that run one stage.

The launcher of several processes (`machine.devices`, torchrun) says in environment variables who
is who.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

__all__ = [
    "is_first",
    "local_rank",
    "processes_here",
    "rank",
    "share",
    "tasks_here",
    "usable_cores",
    "world_size",
]

Item = TypeVar("Item")


def usable_cores() -> int:
    """The cores for this process, of those that the machine has; at least 1.

    Processes that run one stage on this machine share them, and so do tasks beside one another.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores // (processes_here() * tasks_here()))


def world_size() -> int:
    """How many processes run the stage."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def processes_here() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def tasks_here() -> int:
    """How many tasks run beside one another on this machine; see `wsss.launch`."""
    return int(os.environ.get("WSSS_TASKS_HERE", "1"))


def rank() -> int:
    """This process's number among those that run the stage, from 0."""
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    return int(os.environ.get("NODE_RANK", "0")) * processes_here() + local_rank()


def local_rank() -> int:
    """Its number among those on this machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def share(items: Sequence[Item]) -> Sequence[Item]:
    """The items that this process does, of those that all do: every n-th of n processes."""
    return items[rank() :: world_size()]


def is_first() -> bool:
    """Whether this process writes, records and reports: rank 0."""
    return rank() == 0
