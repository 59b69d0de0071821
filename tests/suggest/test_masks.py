"""What is undecided, and that a choice stands for what there is without repeating itself."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    read_score_map,
    write_json,
    write_score_map,
)
from wsss.config.params import load_params
from wsss.suggest.masks import choose, drawn, read_undecided, undecided, weights_of

ROOT = Path(__file__).parents[2]


def score_map(scores: list[list[list[float]]]) -> ScoreMap:
    array = np.array(scores, np.float32)
    ids = np.arange(1, len(array) + 1, dtype=np.uint8)
    return ScoreMap(ids, array, (array.shape[1], array.shape[2]), np.ones(len(array), np.float32))


def test_undecided_by_hand() -> None:
    # threshold 0.4: 0.4 is on it, 0.7 half way up, 0.2 half way down
    assert undecided(score_map([[[0.4, 0.7, 0.2]]]), 0.4)[1] == pytest.approx((1 + 0.5 + 0.5) / 3)
    # two classes that are alike above the threshold are undecided, however high
    both = undecided(score_map([[[1.0]], [[0.9]]]), 0.4)
    assert both[1] == pytest.approx(0.9) and both[2] == pytest.approx(0.9)
    assert undecided(score_map([[[1.0, 0.0]], [[0.0, 0.0]]]), 0.4)[1] == 0


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_thresholds_at_the_ends(threshold: float) -> None:
    rng = np.random.default_rng(0)
    found = undecided(score_map(rng.random((2, 5, 4)).tolist()), threshold)
    assert all(0 <= value <= 1 for value in found.values())


@pytest.mark.parametrize(
    ("chain", "wanted", "reported", "threshold"),
    [
        ("crf", "usual", None, 0.5),
        ("crf", "selected", None, 0.5),
        ("none", "usual", None, 0.4),
        ("none", "selected", None, 0.4),
        ("none", 0.3, None, 0.3),
        ("none", "selected", 0.37, 0.37),
    ],
)
def test_without_a_report_the_threshold_is_that_of_masks(
    chain: str, wanted: float | str, reported: float | None, threshold: float, tmp_path: Path
) -> None:
    params = load_params(ROOT / "params.yaml")
    masks = params.make_pseudo_masks.model_copy(update={"chain": chain, "threshold": wanted})
    params = params.model_copy(update={"make_pseudo_masks": masks})
    paths = Paths(tmp_path)
    write_score_map(paths.refined(chain) / "i.npz", score_map([[[0.45, 0.2]]]))
    if reported is not None:
        write_json(paths.report("make_pseudo_masks"), {"threshold": reported})
    found = read_undecided(params, paths, [Sample("i", "i.jpg", (1, 2), (1,))])
    assert found == {"i": undecided(read_score_map(paths.refined(chain) / "i.npz"), threshold)}


def samples(count: int) -> list[Sample]:
    return [Sample(f"i{at:02}", f"i{at:02}.jpg", (4, 4), (1 + at % 2,)) for at in range(count)]


def test_one_of_each_group_is_chosen_first() -> None:
    rng = np.random.default_rng(3)
    centres = np.eye(3, 8) * 10
    groups = np.repeat([0, 1, 2], [12, 6, 3])
    features = (centres[groups] + rng.normal(0, 0.1, (21, 8))).astype(np.float32)
    found, factor = choose(samples(21), features, np.ones(21, np.float32), 3, 0)
    assert sorted(groups[int(name[1:])] for name in found) == [0, 1, 2]
    assert factor > 1.1
    every, same = choose(samples(21), features, np.ones(21, np.float32), 30, 0)
    assert every[:3] == found and len({*every}) == 21
    assert same == pytest.approx(1)  # all images stand for as much in any order


def test_greedy_is_near_the_best_choice() -> None:
    rng = np.random.default_rng(5)
    features, weights = rng.normal(size=(9, 4)).astype(np.float32), rng.random(9).astype(np.float32)
    rows = features - features.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    likeness = np.maximum(rows @ rows.T, 0) * weights[:, None]

    def value(chosen: tuple[int, ...]) -> float:
        return float(likeness[:, chosen].max(axis=1).sum())

    found = tuple(int(name[1:]) for name in choose(samples(9), features, weights, 3, 0)[0])
    best = max(value(chosen) for chosen in combinations(range(9), 3))
    assert (1 - 1 / np.e) * best <= value(found) <= best + 1e-6


def test_what_counts_more_is_chosen() -> None:
    features = np.eye(6, dtype=np.float32)
    weights = np.ones(6, np.float32)
    weights[4] = 5
    assert choose(samples(6), features, weights, 1, 0)[0] == ["i04"]


def test_rare_and_undecided_classes_count_more() -> None:
    own = (*(Sample(f"a{i}", "", (4, 4), (1,)) for i in range(9)), Sample("b", "", (4, 4), (2,)))
    manifest = Manifest(("one", "two"), {"train": own, "selection": (), "val": ()})
    weights = weights_of(manifest, own, {"a0": {1: 0.1}, "a1": {1: 0.9}})
    assert weights.mean() == pytest.approx(1)
    assert weights[9] == pytest.approx(3 * weights[2])  # a class of nine times fewer images
    assert weights[1] == pytest.approx(9 * weights[0])


def test_every_beginning_of_a_draw_has_each_class() -> None:
    order = drawn(samples(20), 1)
    assert sorted(order) == [sample.name for sample in samples(20)]
    odd = [int(name[1:]) % 2 for name in order]
    assert all(abs(sum(odd[:count]) - count / 2) <= 1 for count in range(1, 21))
    assert order == drawn(samples(20), 1) != drawn(samples(20), 2)
