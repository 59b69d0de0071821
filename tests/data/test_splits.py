"""Holding out: disjoint, complete, stratified, and steady when the data grows."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss.data import RawSample
from wsss.data.splits import draw, hold_out, stratified, subset

tags = st.lists(st.sets(st.integers(1, 4), max_size=3), min_size=2, max_size=60)


def _samples(tag_sets, masks=()):
    return [
        RawSample(
            f"n{i:03d}", Path(f"{i}.png"), tuple(sorted(item)), Path("m") if i in masks else None
        )
        for i, item in enumerate(tag_sets)
    ]


@given(tags, st.floats(0.01, 0.9), st.integers(1, 50), st.integers(0, 5))
def test_parts_are_disjoint_complete_and_keep_a_training_image_of_each_class(
    tag_sets, share, maximum, rng_seed
):
    samples = _samples(tag_sets)
    left, held = hold_out(samples, share, maximum, rng_seed)
    assert sorted(left + held, key=lambda item: item.name) == samples
    assert 1 <= len(held) <= max(1, min(maximum, round(share * len(samples))))
    assert left
    if len(held) > 1:
        assert {c for sample in left for c in sample.class_ids} == {
            c for sample in samples for c in sample.class_ids
        }
    assert (left, held) == hold_out(samples[::-1], share, maximum, rng_seed)


def test_each_class_gets_its_share():
    samples = _samples([{1}] * 300 + [{2}] * 60 + [{1, 3}] * 20 + [set()] * 20)
    _, held = hold_out(samples, 0.1, 1000, 7)
    counts = Counter(sample.class_ids for sample in held)
    assert counts == {(1,): 30, (2,): 6, (1, 3): 2, (): 2}


def test_masks_come_first():
    """Thresholds are chosen on the held-out masks: without any, nothing can be chosen."""
    samples = _samples([{1}] * 50, masks=range(5, 12))
    _, held = hold_out(samples, 0.1, 1000, 0)
    assert len(held) == 5
    assert all(item.mask for item in held)


def test_another_seed_holds_out_others():
    samples = _samples([{1}] * 100)
    assert hold_out(samples, 0.2, 100, 1) != hold_out(samples, 0.2, 100, 2)


def test_one_image_can_not_be_split():
    with pytest.raises(ValueError, match="at least 2 training images"):
        hold_out(_samples([{1}]), 0.1, 10, 0)


def test_subsets_are_nested():
    samples = _samples([{1}] * 50)
    small, large = subset(samples, 10, 3), subset(samples, 20, 3)
    assert len(small) == 10
    assert set(small) < set(large)
    assert small != samples[:10]


@given(tags, st.integers(0, 5))
def test_every_beginning_of_a_stratified_order_has_each_class_in_its_share(tag_sets, rng_seed):
    """The bound of Webster's quotients, by which each class is at most a place behind."""
    samples = _samples(tag_sets)
    order = list(stratified(samples, rng_seed))
    assert sorted(order, key=lambda item: item.name) == samples
    assert order == list(stratified(samples[::-1], rng_seed))
    size = Counter(tag for sample in samples for tag in sample.class_ids or (0,))
    for count in range(1, len(order) + 1):
        got = Counter(tag for sample in order[:count] for tag in sample.class_ids or (0,))
        for tag, members in size.items():
            wanted = members * (count - len(size) / 2) / size.total() - 0.5
            assert got[tag] == members or got[tag] >= wanted


def test_every_class_of_few_images_is_in_a_small_part():
    samples = _samples([{1}] * 800 + [{2}] * 60 + [{3}] * 20 + [{1, 4}] * 20 + [set()] * 100)
    first = Counter(sample.class_ids for sample in islice(stratified(samples, 3), 50))
    assert first == {(1,): 40, (2,): 3, (3,): 1, (1, 4): 1, (): 5}


@given(tags, tags, st.data(), st.integers(0, 5))
def test_a_larger_draw_has_all_of_a_smaller_one_in_each_list(train, selection, data, rng_seed):
    lists = {"train": _samples(train), "selection": _samples(selection)}
    total = len(train) + len(selection)
    small = data.draw(st.integers(1, total))
    large = data.draw(st.integers(small, total))
    drawn = [draw(lists, count, rng_seed) for count in (small, large)]
    for part, count in zip(drawn, (small, large), strict=True):
        assert sum(map(len, part.values())) == count
        share = len(part["selection"]) - count * len(selection) / total
        assert part["train"] and (abs(share) <= 0.5 or len(part["train"]) == 1)
    for name in lists:
        assert {item.name for item in drawn[0][name]} <= {item.name for item in drawn[1][name]}
    assert draw(lists, total, rng_seed) == lists


def test_masks_to_be_learned_from_are_not_all_held_out():
    samples = _samples([{1}] * 50, masks=range(5, 12))
    for spare, masks in ((False, 5), (True, 3)):
        left, held = hold_out(samples, 0.1, 1000, 0, spare_masks=spare)
        assert len(held) == masks and all(item.mask for item in held)
        assert sum(item.mask is not None for item in left) == 7 - masks
