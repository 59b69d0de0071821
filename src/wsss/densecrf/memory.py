"""Memory that calls leave to the next ones."""

from wsss.densecrf import _native


def free_memory() -> int:
    """Return to the system what calls have left for the next ones to use, and say how many bytes.

    A call keeps up to 192 MiB of working memory, and `dense_crf` as much again for the CRF, for
    each thread that worked for it and for each core at most, to save the next one its page faults.
    What a running call uses is not touched.

    Example:
        >>> _ = free_memory()
        >>> free_memory()
        0
    """
    return _native.free_kept_memory()
