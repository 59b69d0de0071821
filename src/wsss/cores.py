"""The cores that this process may run on."""

import os

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """The cores this process may run on, of those that the machine has; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
