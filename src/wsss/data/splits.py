"""Holding samples out: by a hash of their names, so that a sample's place rarely changes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from wsss.data._base import RawSample
from wsss.seeding import derive_seed

__all__ = ["draw", "hold_out", "stratified", "subset"]


def hold_out(
    samples: Sequence[RawSample],
    share: float,
    maximum: int,
    rng_seed: int,
    purpose: str = "selection",
    *,
    spare_masks: bool = False,
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
        spare_masks: where only some samples have a mask, leave half of those, as masks are to be
            learned from, too.

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
    wanted = min(max(1, round(share * len(samples))), maximum, len(samples) - 1)
    if spare_masks and len(with_mask) == 1:
        with_mask = [sample for sample in samples if sample.mask is None]
    elif spare_masks and len(with_mask) < len(samples):
        wanted = min(wanted, max(1, len(with_mask) // 2))
    order = sorted(with_mask or samples, key=lambda item: derive_seed(rng_seed, purpose, item.name))
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


def stratified(samples: Sequence[RawSample], rng_seed: int) -> Iterator[RawSample]:
    """Give the samples in an order of which every beginning has each class in about its share.

    The next sample is the first, by a hash of (rng_seed, name), of the class with the largest
    quotient n / (2 m + 1), where m of its n samples were given before (Webster, Sainte-Laguë). A
    sample counts for all of its classes, and those without any are a class of their own.

    Args:
        samples: with unique names.
        rng_seed: of the hash.
    """
    order = sorted(samples, key=lambda item: derive_seed(rng_seed, "labelled", item.name))
    waiting: dict[int, list[RawSample]] = {}
    for sample in reversed(order):  # the next one is the last of its list
        for tag in _strata(sample):
            waiting.setdefault(tag, []).append(sample)
    size = {tag: len(members) for tag, members in waiting.items()}
    got: Counter[int] = Counter()
    given: set[str] = set()
    for _ in order:
        open_tags = [tag for tag in size if got[tag] < size[tag]]
        tag = min(open_tags, key=lambda tag: (-size[tag] / (2 * got[tag] + 1), size[tag], tag))
        while waiting[tag][-1].name in given:
            waiting[tag].pop()
        sample = waiting[tag].pop()
        given.add(sample.name)
        got.update(_strata(sample))
        yield sample


def draw(
    lists: Mapping[str, Sequence[RawSample]], count: int, rng_seed: int
) -> dict[str, list[RawSample]]:
    """Draw samples of train and selection, each list and each class in its share.

    More samples of the same seed hold all of fewer. The first is one of train.

    Args:
        lists: what is there of "train", at least 1, and of "selection"; with unique names.
        count: from 1 to how many there are.
        rng_seed: see `stratified`.

    Returns:
        By list what was drawn, sorted by name.
    """
    train, selection = lists["train"], lists["selection"]
    total = len(train) + len(selection)
    held = min((2 * count * len(selection) + total) // (2 * total), count - 1)
    counts = {"train": count - held, "selection": held}
    return {
        name: _by_name(islice(stratified(lists[name], rng_seed), wanted))
        for name, wanted in counts.items()
    }


def _strata(sample: RawSample) -> tuple[int, ...]:
    return sample.class_ids or (0,)


def _by_name(samples: Iterable[RawSample]) -> list[RawSample]:
    return sorted(samples, key=lambda sample: sample.name)
