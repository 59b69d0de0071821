"""The rules of SEPL, smoke and votes on masks made by hand, and against loops over dense masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsss.artifacts import Proposals, ScoreMap, write_proposals
from wsss.config.params import parse_params
from wsss.refine import Chain, Context
from wsss.refine.regions import (
    RegionsSettings,
    average_in_regions,
    sepl_labels,
    smoke_labels,
)
from wsss.settings import ConfigError

IMAGE = np.zeros((2, 10, 3), np.uint8)


def masks_of(*rows: str) -> np.ndarray:
    """Each mask as text, '#' where it is; lines of an image are separated by '/'."""
    return np.array([[[c == "#" for c in line] for line in row.split("/")] for row in rows])


def seeds_of(text: str, classes: int = 2) -> np.ndarray:
    """(classes, H, W) bool: the digit of a pixel is its class, counted from 1."""
    digits = np.array([[int(c) if c.isdigit() else 0 for c in line] for line in text.split("/")])
    seeds: np.ndarray = digits == np.arange(1, classes + 1)[:, None, None]
    return seeds


def drawn(labels: np.ndarray) -> str:
    return "/".join("".join(".123"[label + 1] for label in line) for line in labels)


def sepl(text: str, *rows: str, **values: Any) -> str:
    seeds = seeds_of(text)
    masks = masks_of(*rows) if rows else np.zeros((0, *seeds.shape[1:]), np.bool_)
    chosen = RegionsSettings(rule="sepl", **values)
    return drawn(sepl_labels(seeds * 0.9, seeds, Proposals.from_masks(masks), chosen))


def smoke(text: str, *rows: str, classes: int = 1, **values: Any) -> str:
    seeds = seeds_of(text, classes)
    masks = masks_of(*rows) if rows else np.zeros((0, *seeds.shape[1:]), np.bool_)
    chosen = RegionsSettings(rule="smoke", **values)
    return drawn(smoke_labels(seeds * 0.9, seeds, Proposals.from_masks(masks), chosen))


def test_sepl_keeps_seeds_that_are_a_mask() -> None:
    assert sepl("..111...../..111.....", "..###...../..###.....") == "..111...../..111....."


@pytest.mark.parametrize("rule", [sepl, smoke])
def test_without_proposals_the_seeds_are_the_result(rule: Any) -> None:
    assert rule("..1.1...../......11..") == "..1.1...../......11.."


def test_sepl_a_mask_of_which_60_percent_are_seeds_grows_the_class() -> None:
    # four other seeds are not in it, so that it holds too few of all for the second rule
    seeds, mask = "111.....1./111...111.", "#####...../#####....."
    assert sepl(seeds, mask) == "11111...1./11111.111."


def test_sepl_a_mask_of_which_40_percent_are_seeds_does_not() -> None:
    # and its seeds are lost, while those that no mask covers stay
    assert sepl("11......1./11....111.", "#####...../#####.....") == "........1./......111."


def test_sepl_unless_it_holds_85_percent_of_all_seeds() -> None:
    assert sepl("11......../11........", "#####...../#####.....") == "11111...../11111....."
    # 17 of 20 seeds are in a mask of 40 pixels: 85 %, just enough
    seeds = f"{'1' * 10}{'.' * 20}111/{'1' * 7}{'.' * 26}"
    mask = f"{'#' * 20}{'.' * 13}/{'#' * 20}{'.' * 13}"
    assert sepl(seeds, mask) == f"{'1' * 20}{'.' * 10}111/{'1' * 20}{'.' * 13}"
    assert sepl(seeds, mask, seed_share=0.86) == f"{'.' * 30}111/{'.' * 33}"


def test_sepl_a_mask_goes_to_the_class_with_the_most_seeds_in_it() -> None:
    seeds, mask = "1122222.../1.........", "########../.........."
    assert sepl(seeds, mask) == "22222222../1........."
    # as published: with a lower share, 1 fits and comes first, and 2 is gone
    values = {"mask_share": 0.2, "compat_first_match": True}
    assert sepl(seeds, mask, **values) == "11111111../1........."


def test_sepl_a_class_that_would_vanish_keeps_its_seeds() -> None:
    seeds, masks = "1....1.222/.....1....", ("###......./##########", "....####../..........")
    assert sepl(seeds, *masks) == "1....1..22/.....1...."
    assert sepl(seeds, *masks, compat_first_match=True) == "........22/.........."


@pytest.mark.parametrize(("surer", "wanted"), [(0, "111112222."), (1, "111222222.")])
def test_sepl_the_surer_class_wins_where_masks_overlap(surer: int, wanted: str) -> None:
    seeds = seeds_of("111...222.")
    proposals = Proposals.from_masks(masks_of("#####.....", "...######."))
    scores = seeds * np.where(np.arange(2) == surer, 0.9, 0.6)[:, None, None]
    assert drawn(sepl_labels(scores, seeds, proposals, RegionsSettings())) == wanted
    published = RegionsSettings(compat_first_match=True)  # the later class
    assert drawn(sepl_labels(scores, seeds, proposals, published)) == "111222222."


def test_smoke_takes_masks_that_are_like_the_seeds() -> None:
    seeds = "1111........../1111.........."
    assert smoke(seeds, "######......../######........") == "111111......../111111........"
    assert smoke(seeds, "######......../######........", min_iou=0.7) == seeds  # it is 8/12
    assert smoke(seeds, "..####......../..####........") == seeds  # 4/12
    # 4/10 is not above 0.4, 4/9 is
    assert smoke("1111....../..........", "#####...../#####.....") == "1111....../.........."
    assert smoke("1111....../..........", "#####...../####......") == "11111...../1111......"


def test_smoke_passes_over_masks_of_more_than_half_the_image() -> None:
    seeds = "1111........../1111.........."
    half, more = "#######......./#######.......", "#######......./########......"
    assert smoke(seeds, half) == "1111111......./1111111......."
    assert smoke(seeds, more) == seeds
    assert smoke(seeds, more, max_area_share=1) == "1111111......./11111111......"


def test_smoke_a_seed_stays_of_its_class() -> None:
    found = smoke("1111.22......./1111.22.......", "######......../######........", classes=2)
    assert found == "1111122......./1111122......."


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores of classes and masks, both with many coincidences."""
    count, masks = draw(st.integers(1, 3)), draw(st.integers(0, 4))
    size = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    levels = hnp.arrays(
        np.float32, (count, *size), elements=st.sampled_from([0.0, 0.25, 0.5, 0.875])
    )
    return draw(levels), draw(hnp.arrays(np.bool_, (masks, *size)))


def seeds_in(scores: np.ndarray, threshold: float) -> np.ndarray:
    seeds = np.zeros(scores.shape, np.bool_)
    for y, x in np.ndindex(scores.shape[1:]):
        best = int(scores[:, y, x].argmax())
        seeds[best, y, x] = scores[best, y, x] > threshold
    return seeds


def confidence(scores: np.ndarray, seeds: np.ndarray, index: int) -> float:
    own = [float(score) for score in scores[index][seeds[index]]]
    return sum(own) / max(len(own), 1)


@settings(max_examples=150)
@given(cases(), st.booleans(), st.sampled_from([0.5, 0.85, 1.0]))
def test_sepl_is_the_loop_over_masks(
    case: tuple[np.ndarray, np.ndarray], first: bool, share: float
) -> None:
    scores, masks = case
    seeds = seeds_in(scores, 0.3)
    claims: list[set[int]] = [set() for _ in range(scores[0].size)]
    for mask in masks:
        shared = [int((mask & own).sum()) for own in seeds]
        fitting = [
            index
            for index, own in enumerate(seeds)
            if shared[index] > 0.5 * mask.sum()
            or (own.any() and shared[index] >= share * own.sum())
        ]
        if fitting:
            chosen = (
                fitting[0] if first else max(fitting, key=lambda class_index: shared[class_index])
            )
            for pixel in np.flatnonzero(mask):
                claims[pixel].add(chosen)
    for pixel in np.flatnonzero(~masks.any(axis=0)):
        claims[pixel].update(index for index, own in enumerate(seeds) if own.flat[pixel])
    rank = [index if first else confidence(scores, seeds, index) for index in range(len(seeds))]
    wanted = [max(sorted(indices), key=lambda index: rank[index], default=-1) for indices in claims]
    labels = np.reshape(wanted, scores.shape[1:])
    settings = RegionsSettings(seed_share=share, compat_first_match=first)
    found = sepl_labels(scores, seeds, Proposals.from_masks(masks), settings)
    lost = [i for i, own in enumerate(seeds) if own.any() and not (labels == i).any()]
    if first or not lost:
        np.testing.assert_array_equal(found, labels)
    else:
        given_back = np.any([seeds[index] for index in lost], axis=0)
        assert all((found == i).any() for i, own in enumerate(seeds) if own.any())
        assert all((found[seeds[index]] == index).all() for index in lost)
        changed = (found != labels) & ~given_back
        assert not changed.any() or len(seeds) > 2  # a class may lose its last pixel by that


@settings(max_examples=100)
@given(cases(), st.sampled_from([0.2, 0.4]))
def test_smoke_is_the_loop_over_masks(case: tuple[np.ndarray, np.ndarray], least: float) -> None:
    scores, masks = case
    seeds = seeds_in(scores, 0.3)
    labels = np.full(scores.shape[1:], -1)
    order = sorted(range(len(seeds)), key=lambda i: (confidence(scores, seeds, i), -i))
    for index in order:
        for mask in masks:
            union = (mask | seeds[index]).sum()
            like = union and (mask & seeds[index]).sum() / union > least
            if like and mask.mean() <= 0.5:
                labels[mask] = index
    for index, own in enumerate(seeds):
        labels[own] = index
    found = smoke_labels(scores, seeds, Proposals.from_masks(masks), RegionsSettings(min_iou=least))
    np.testing.assert_array_equal(found, labels)


@settings(max_examples=100)
@given(cases())
def test_voting_is_the_mean_of_means(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, masks = case
    expected = scores.astype(np.float64)
    for index, y, x in np.ndindex(scores.shape):
        means = [scores[index][mask].mean(dtype=np.float64) for mask in masks if mask[y, x]]
        if means:
            expected[index, y, x] = np.mean(means)
    found = average_in_regions(scores, Proposals.from_masks(masks))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_voting_on_a_partition_decides_on_whole_regions() -> None:
    """The class of a region is the best on average, or background: at any threshold."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, (9, 14))
    scores = rng.random((3, 9, 14)).astype(np.float32)
    found = average_in_regions(scores, Proposals.from_labels(labels))
    for theta in (0.45, 0.5, 0.52):
        guess = np.where(found.max(axis=0) > theta, found.argmax(axis=0), -1)
        for region in range(6):
            means = [score[labels == region].mean() for score in scores]
            wanted = int(np.argmax(means)) if max(means) > theta else -1
            assert (guess[labels == region] == wanted).all()


def score_map(scores: np.ndarray) -> ScoreMap:
    ids = np.arange(1, len(scores) + 1, dtype=np.uint8)
    return ScoreMap(ids, scores.astype(np.float32), scores.shape[1:], np.ones(len(ids), np.float32))


def refined(folder: Path, scores: np.ndarray, masks: np.ndarray, **values: Any) -> np.ndarray:
    write_proposals(folder / "mine/a.npz", Proposals.from_masks(masks))
    chain = Chain([RegionsSettings(proposals="mine", **values)], Context(proposals=folder))
    return chain([np.zeros((*scores.shape[1:], 3), np.uint8)], [score_map(scores)], ["a"])[0].scores


@pytest.mark.parametrize("rule", ["sepl", "smoke"])
def test_one_half_gives_the_rules_mask_and_scores_keep_their_order(
    tmp_path: Path, rule: Any
) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((2, 6, 9)).astype(np.float32)
    scores[:, 0] = 0
    masks = rng.random((4, 6, 9)) < 0.3
    masks[:, 0] = True  # so that pixels without any score are added
    found = refined(tmp_path, scores, masks, rule=rule, mask_share=0.2, min_iou=0.1)
    seeds = seeds_in(scores, 0.3)
    function = sepl_labels if rule == "sepl" else smoke_labels
    chosen = RegionsSettings(mask_share=0.2, min_iou=0.1)
    labels = function(scores, seeds, Proposals.from_masks(masks), chosen)
    assert (labels == -1).any() and (labels[0] >= 0).any()
    for theta in (0.495, 0.5, 0.505):  # whatever rounding to a file's 255 steps does
        guess = np.where(found.max(axis=0) > theta, found.argmax(axis=0), -1)
        np.testing.assert_array_equal(guess, labels)
    for index in range(2):
        for part in (labels == index, labels != index):
            order = np.argsort(scores[index][part], kind="stable")
            assert (np.diff(found[index][part][order]) >= 0).all()


def test_ties_between_classes_go_to_the_lower_id(tmp_path: Path) -> None:
    scores = np.full((2, 2, 10), 0.5)
    masks = np.ones((1, 2, 10), np.bool_)
    found = refined(tmp_path, scores, masks, rule="sepl")
    assert (found[0] > 0.5).all() and (found[1] < 0.5).all()
    cam = score_map(scores)
    swapped = ScoreMap(cam.class_ids[::-1], cam.scores, cam.size, cam.class_probs)
    chain = Chain([RegionsSettings(proposals="mine", rule="sepl")], Context(proposals=tmp_path))
    assert (chain([IMAGE], [swapped], ["a"])[0].scores[1] > 0.5).all()


def test_what_is_missing_or_stale_is_named(tmp_path: Path) -> None:
    cam = score_map(np.zeros((1, 2, 10)))
    context = Context(proposals=tmp_path)
    with pytest.raises(ValueError, match=r"'mine', but .*mine does not exist; run make_proposals"):
        Chain([RegionsSettings(proposals="mine")], context)
    write_proposals(tmp_path / "mine/a.npz", Proposals.from_masks(np.ones((1, 2, 9), np.bool_)))
    chain = Chain([RegionsSettings(proposals="mine")], context)
    with pytest.raises(ValueError, match=r"mine has no proposals of 'b'; run make_proposals"):
        chain([IMAGE] * 2, [cam] * 2, ["a", "b"])  # before a is read
    with pytest.raises(ValueError, match=r"\(2, 9\) pixels for an image of \(2, 10\); rerun"):
        chain([IMAGE], [cam], ["a"])
    untagged = score_map(np.zeros((0, 2, 10)))
    assert chain([IMAGE], [untagged], ["b"]) == [untagged]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "which make_proposals does not have; add it there"),
        ({"superpixel": {"name": "superpixels"}}, "did you mean 'superpixel'?"),
        ({"superpixels": {"name": "superpixels"}, "a b": {"name": "superpixels"}}, "'a b'"),
    ],
)
def test_a_source_that_is_not_made_is_refused_with_the_settings(
    sources: dict[str, Any], message: str
) -> None:
    values = {"make_proposals": sources, "refine": {"chains": {"crf": [{"name": "regions"}]}}}
    with pytest.raises(ConfigError) as caught:
        parse_params(values)
    assert message in str(caught.value)
    if "a b" not in sources:
        assert "refine.chains.crf.0.proposals names 'superpixels'" in str(caught.value)


def test_a_source_that_is_made_is_found() -> None:
    values = {
        "make_proposals": {"superpixels": {"name": "superpixels", "slic_segments": [50]}},
        "refine": {"chains": {"crf": [{"name": "regions"}]}},
    }
    assert parse_params(values).refine.chains["crf"][0] == RegionsSettings()
