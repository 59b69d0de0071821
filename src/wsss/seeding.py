"""One `rng_seed` to independent, reproducible generators."""

import hashlib
from typing import NamedTuple

import numpy as np

__all__ = ["Step", "derive_seed", "generator"]


def derive_seed(rng_seed: int, *parts: int | str) -> int:
    """A 63-bit seed for one purpose, such as (rng_seed, "augment", epoch, index).

    The parts are hashed, so neighbouring purposes are unrelated and nothing depends on
    the order in which workers come to their turn.

    Example:
        >>> derive_seed(1, "augment", 0) == derive_seed(1, "augment", 0)
        True
        >>> derive_seed(1, "augment", 0) == derive_seed(1, "augment", 1)
        False
    """
    text = "\x1f".join(str(part) for part in (rng_seed, *parts))
    return (
        int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "little")
        >> 1
    )


def generator(rng_seed: int, *parts: int | str) -> np.random.Generator:
    """A NumPy generator for one purpose; see `derive_seed`."""
    return np.random.default_rng(derive_seed(rng_seed, *parts))


class Step(NamedTuple):
    """Where training stands, and what it may draw from."""

    rng: np.random.Generator
    """This step's own; all that is drawn in it comes from here."""
    progress: float
    """Share of all steps that are done, in [0, 1)."""
    names: list[str]
    """Names of the images of the batch."""
