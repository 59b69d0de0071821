"""Which images an epoch shows, in which order: shuffled passes, mixtures, and classes by choice.

All of it is decided by (rng_seed, epoch) alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, overload

import numpy as np

from wsss.seeding import generator

__all__ = ["Draw", "Mixture", "epoch_draws", "part_of_batch"]


class Draw(NamedTuple):
    """What a crop is asked for by."""

    epoch: int
    sample: int
    """Index of the sample."""
    repeat: int = 0
    """How often the epoch has had that sample before."""
    class_id: int = 0
    """Of the class that the crop must show a pixel of; 0 leaves it to chance."""


@dataclass(frozen=True)
class Mixture:
    """What an epoch is made of, where it is not simply one pass over all samples.

    Attributes:
        images_per_epoch: crops in an epoch; 0 is as many as there are samples.
        given: indices of the samples with a mask of an annotator.
        given_share: share of them in every batch, to within one image; 0 leaves it to chance.
        class_share: share of the crops that are drawn for a class.
        with_class: indices of the samples that have a class, by its id, of those to draw for.
    """

    images_per_epoch: int = 0
    given: Sequence[int] = ()
    given_share: float = 0
    class_share: float = 0
    with_class: Mapping[int, Sequence[int]] = field(default_factory=dict)


def epoch_draws(count: int, mixture: Mixture, *, rng_seed: int, epoch: int) -> Sequence[Draw]:
    """The crops of an epoch, of all processes that train together.

    Samples come in shuffled passes that go on from epoch to epoch, so that all are seen equally
    often whatever the length of an epoch. Where masks are given to all samples, or to none, their
    share has no effect.

    Args:
        count: of samples, above 0.
        mixture: what an epoch is made of.
        rng_seed: of the order.
        epoch: counted from 0.

    Example:
        >>> [draw.sample for draw in epoch_draws(3, Mixture(4), rng_seed=0, epoch=0)]
        [0, 1, 2, 0]
        >>> halves = Mixture(6, given=[0], given_share=0.5)
        >>> [draw.sample for draw in epoch_draws(3, halves, rng_seed=0, epoch=0)]
        [2, 0, 1, 0, 1, 0]
    """
    length = mixture.images_per_epoch or count
    given = np.zeros(count, bool)
    given[list(mixture.given)] = True
    indices = np.empty(length, int)
    share = mixture.given_share if 0 < given.sum() < count else 0
    if share:
        turn = np.arange(length)
        slots = np.floor((turn + 1) * share + 1e-9) > np.floor(turn * share + 1e-9)
        for kind, name in ((True, "given"), (False, "others")):
            pool, where = np.flatnonzero(given == kind), np.flatnonzero(slots == kind)
            start = epoch * len(where)
            indices[where] = _passes(pool, start, start + len(where), rng_seed, name)
    else:
        indices[:] = _passes(np.arange(count), epoch * length, (epoch + 1) * length, rng_seed)
    classes = np.zeros(length, int)
    if mixture.class_share and mixture.with_class:
        rng = generator(rng_seed, "class crops", epoch)
        for at in np.flatnonzero(rng.random(length) < mixture.class_share):
            class_id = int(rng.choice(sorted(mixture.with_class)))
            pool = np.asarray(mixture.with_class[class_id])
            if share:
                pool = pool[given[pool] == given[indices[at]]]
            if len(pool):
                indices[at], classes[at] = rng.choice(pool), class_id
    return _Draws(epoch, indices, _repeats(indices), classes)


@dataclass(frozen=True, eq=False)
class _Draws(Sequence[Draw]):
    """Draws as arrays, of which one is made when it is asked for: an epoch may have millions."""

    epoch: int
    samples: np.ndarray
    repeats: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, at: int) -> Draw: ...
    @overload
    def __getitem__(self, at: slice) -> "_Draws": ...
    def __getitem__(self, at: int | slice) -> "Draw | _Draws":
        columns = self.samples[at], self.repeats[at], self.classes[at]
        if isinstance(at, slice):
            return _Draws(self.epoch, *columns)
        return Draw(self.epoch, *map(int, columns))


def _repeats(indices: np.ndarray) -> np.ndarray:
    """How often each index has come before.

    Example:
        >>> _repeats(np.array([4, 1, 4, 4, 1]))
        array([0, 0, 1, 2, 1])
    """
    order = np.argsort(indices, kind="stable")
    same = indices[order]
    repeats = np.empty(len(indices), int)
    repeats[order] = np.arange(len(indices)) - np.searchsorted(same, same)
    return repeats


def part_of_batch(batch: Sequence[Draw], rank: int, world_size: int) -> Sequence[Draw]:
    """The part of a batch that one of several processes loads; parts differ by one image at most.

    What stands beside one another stays together, so that each part has its share of given masks.

    Example:
        >>> [len(part_of_batch([Draw(0, 0)] * 7, rank, 3)) for rank in range(3)]
        [2, 2, 3]
    """
    start, stop = (len(batch) * edge // world_size for edge in (rank, rank + 1))
    return batch[start:stop]


def _passes(pool: np.ndarray, start: int, stop: int, rng_seed: int, *purpose: str) -> np.ndarray:
    """What stands from `start` to `stop` in an endless sequence of shuffled passes over a pool."""
    if start == stop:
        return pool[:0]
    first, last = start // len(pool), -(-stop // len(pool))
    passes = [
        pool[generator(rng_seed, "order", *purpose, number).permutation(len(pool))]
        for number in range(first, last)
    ]
    skipped = first * len(pool)
    return np.concatenate(passes)[start - skipped : stop - skipped]
