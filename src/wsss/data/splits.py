"""Holding samples out: by a hash of their names, so that a sample's place rarely changes."""

from collections import Counter
from collections.abc import Iterable, Sequence

from wsss.data._base import RawSample
from wsss.seeding import derive_seed

__all__ = ["hold_out", "subset"]


def hold_out(
    samples: Sequence[RawSample],
    share: float,
    maximum: int,
    rng_seed: int,
    purpose: str = "selection",
) -> tuple[list[RawSample], list[RawSample]]:
    """Split samples in two, each class in about the same share.

    Classes take turns, the rarest first, and each takes its samples in the order of a hash of
    (rng_seed, name); a class's last sample is never held out. Where only some samples have a
    mask, those are held out, since a threshold can only be chosen on masks.

    Args:
        samples: at least 2, with unique names.
        share: of the samples, in (0, 1).
        maximum: at most this many are held out.
        rng_seed: of the hash.
        purpose: a word that makes another hash.

    Returns:
        What is left and what is held out (at least 1), each sorted by name.

    Raises:
        ValueError: fewer than 2 samples.
    """
    if len(samples) < 2:
        raise ValueError(
            f"holding out a {purpose} split needs at least 2 training images, but there are "
            f"{len(samples)}; add images, or name a {purpose} split in the data set's settings"
        )
    with_mask = [sample for sample in samples if sample.mask is not None]
    order = sorted(with_mask or samples, key=lambda item: derive_seed(rng_seed, purpose, item.name))
    wanted = min(max(1, round(share * len(samples))), maximum, len(samples) - 1)
    left = Counter(tag for sample in samples for tag in _strata(sample))
    quota = {tag: round(count * wanted / len(samples)) for tag, count in left.items()}
    held: dict[str, RawSample] = {}
    got: Counter[int] = Counter()

    def take(sample: RawSample, *, even_last: bool = False) -> None:
        strata = _strata(sample)
        if sample.name in held or len(held) == wanted:
            return
        if even_last or all(left[tag] > 1 for tag in strata):
            held[sample.name] = sample
            left.subtract(strata)
            got.update(strata)

    for tag in sorted(left, key=lambda tag: (left[tag], tag)):
        for sample in order:
            if got[tag] < quota[tag] and tag in _strata(sample):
                take(sample)
    for sample in order:
        take(sample)
    if not held:
        take(order[0], even_last=True)
    rest = [sample for sample in samples if sample.name not in held]
    return _by_name(rest), _by_name(held.values())


def subset(samples: Sequence[RawSample], maximum: int, rng_seed: int) -> list[RawSample]:
    """At most `maximum` samples, the first by a hash of (rng_seed, name), sorted by name.

    A larger subset of the same seed contains a smaller one.
    """
    order = sorted(samples, key=lambda sample: derive_seed(rng_seed, "subset", sample.name))
    return _by_name(order[:maximum])


def _strata(sample: RawSample) -> tuple[int, ...]:
    return sample.class_ids or (0,)


def _by_name(samples: Iterable[RawSample]) -> list[RawSample]:
    return sorted(samples, key=lambda sample: sample.name)
