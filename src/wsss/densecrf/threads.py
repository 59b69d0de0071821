"""How many threads a call uses when it does not say."""

import numpy as np

from wsss.cores import usable_cores

_MOST_THREADS = 256  # that the core starts
_default: int | None = None


def get_num_threads() -> int:
    """The number of threads used where `num_threads` is None: as set, or the usable cores."""
    if _default is not None:
        return _default
    return usable_cores()


def set_num_threads(num_threads: int | None) -> None:
    """Set what `num_threads=None` means in this process; None restores the usable cores.

    Raises:
        ValueError: `num_threads` is below 1.
    """
    global _default
    _default = None if num_threads is None else resolve_num_threads(num_threads)


def resolve_num_threads(num_threads: int | None) -> int:
    """`num_threads`, or the default for None.

    Raises:
        ValueError: `num_threads` is not an integer or is below 1.
    """
    if num_threads is None:
        return get_num_threads()
    whole = isinstance(num_threads, int | np.integer) and not isinstance(num_threads, bool)
    if not whole or num_threads < 1:
        raise ValueError(
            f"num_threads must be an integer of at least 1, or None for all cores, "
            f"but is {num_threads!r}"
        )
    return min(int(num_threads), _MOST_THREADS)
