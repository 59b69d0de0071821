"""Pseudo masks against a pixel loop, and the promises they make."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    as_stored,
    read_label_png,
    write_score_map,
)
from wsss.config.params import parse_params
from wsss.config.segmentation import PseudoMaskSettings
from wsss.evaluate import ThresholdCurve, confusion_matrix, score_histogram
from wsss.report.overlays import mask_above
from wsss.stages import run_stage
from wsss.stages.make_pseudo_masks import pseudo_mask


def score_map(scores: np.ndarray, class_ids: list[int]) -> ScoreMap:
    ids = np.array(class_ids, np.uint8)
    return ScoreMap(ids, scores.astype(np.float32), scores.shape[1:], np.ones(len(ids), np.float32))


def by_hand(
    found: ScoreMap, settings: PseudoMaskSettings, threshold: float, objects: ScoreMap
) -> np.ndarray:
    mask = np.zeros(found.size, np.uint8)
    for y, x in np.ndindex(found.size):
        values = {int(c): float(found.scores[i, y, x]) for i, c in enumerate(found.class_ids)}
        best = max(values.values())
        if settings.background == "constant":
            # odds over the threshold's odds; a score of 1 has endless odds
            odds = {c: v / (1 - v) if v < 1 else float("inf") for c, v in values.items()}
            limit = threshold / (1 - threshold)
            values = {c: 1.0 if o == float("inf") else o / (o + limit) for c, o in odds.items()}
            values[0] = 0.5
        elif settings.background == "power":
            values[0] = (1 - best) ** settings.alpha
        else:
            values[0] = min(1 - float(score) for score in objects.scores[:, y, x])
        # the background wins ties, then the lower class
        ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))
        doubtful = ranked[0][1] - ranked[1][1] < settings.ignore_margin
        mask[y, x] = 255 if doubtful else ranked[0][0]
    return mask


@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 4),
    background=st.sampled_from(["constant", "power", "object"]),
    margin=st.sampled_from([0.0, 0.1]),
)
def test_equals_a_pixel_loop(seed: int, classes: int, background: str, margin: float) -> None:
    rng = np.random.default_rng(seed)
    # float32 sums of quarters are exact, so no tie is decided by rounding
    scores = rng.integers(0, 5, (classes, 3, 4)) / 4
    result = score_map(
        scores, sorted(rng.choice(np.arange(1, 21), classes, replace=False).tolist())
    )
    objects = score_map(rng.integers(0, 5, (classes, 3, 4)) / 4, result.class_ids.tolist())
    settings = PseudoMaskSettings(
        background=background,  # type: ignore[arg-type]
        alpha=2,
        object_source="ccam",
        ignore_margin=margin,
    )
    found = pseudo_mask(result, settings, 0.25, objects if background == "object" else None)
    np.testing.assert_array_equal(found, by_hand(result, settings, 0.25, objects))


@given(
    seed=st.integers(0, 10**6),
    background=st.sampled_from(["constant", "power", "object"]),
    limit=st.integers(1, 150),
)
def test_blocks_of_rows_make_the_same_mask(seed: int, background: str, limit: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 14, 2).tolist()
    found, objects = (
        ScoreMap(
            np.array([2, 5, 9], np.uint8),
            rng.random((3, *rng.integers(1, 9, 2)), np.float32),
            (height, width),
            np.ones(3, np.float32),
        )
        for _ in range(2)
    )
    settings = PseudoMaskSettings(
        background=background,  # type: ignore[arg-type]
        object_source="ccam",
        ignore_below=0.4,
        min_area_share=0.2,
    )
    with pytest.MonkeyPatch.context() as patch:
        whole = pseudo_mask(found, settings, 0.3, objects)
        patch.setattr("wsss.artifacts.score_map.BLOCK_PIXELS", limit)
        np.testing.assert_array_equal(pseudo_mask(found, settings, 0.3, objects), whole)


@pytest.mark.parametrize(("alpha", "background"), [(4, 0.2401), (16, 0.00332), (32, 1.10e-5)])
def test_power_background_at_the_published_points(alpha: float, background: float) -> None:
    """(1 - .3)^alpha; a second class just above or below it decides the pixel's fate."""
    settings = PseudoMaskSettings(background="power", alpha=alpha, ignore_margin=0.0)
    found = score_map(np.array([[[0.3]]]), [1])
    assert (1 - 0.3) ** alpha == pytest.approx(background, rel=5e-3)
    assert pseudo_mask(found, settings, 0)[0, 0] == 1
    low = score_map(np.array([[[0.05]]]), [1])
    assert pseudo_mask(low, settings, 0)[0, 0] == (0 if 0.95**alpha > 0.05 else 1)


def test_a_threshold_near_one_leaves_room_above_it() -> None:
    """Saturated scores of a CRF, whose best threshold lies beyond 1 - margin."""
    found = score_map(np.array([[[1.0, 0.999, 0.5, 0.0]]]), [2])
    mask = pseudo_mask(found, PseudoMaskSettings(ignore_margin=0.1), 0.98)
    assert mask.tolist() == [[2, 2, 0, 0]]


unit = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 0.01, 0.99, 1e-30, 1 - 2**-24]),
    st.floats(0, 1, width=32),
)


@given(scores=st.lists(st.tuples(unit, unit), min_size=1, max_size=6), threshold=unit)
def test_masks_hold_what_evaluation_scores_at_every_threshold(
    scores: list[tuple[float, float]], threshold: float
) -> None:
    """The score above the threshold, as float32, and nothing else, decides; ends and ties too."""
    of_classes = np.array(scores, np.float32).T[:, None]
    thresholds = [threshold, *np.unique(of_classes).tolist(), 0.0, 1.0]
    for limit in thresholds:
        found = pseudo_mask(
            score_map(of_classes, [3, 7]), PseudoMaskSettings(ignore_margin=0), limit
        )
        first, second = of_classes[:, 0]
        wanted = np.where(second > first, 7, 3) * (np.maximum(first, second) > np.float32(limit))
        np.testing.assert_array_equal(found[0], wanted)


@pytest.mark.parametrize("step", [0.01, 0.3, 0.5])
def test_masks_score_what_the_curve_of_evaluation_says(step: float) -> None:
    """Maps as files hold them: whole steps, many at 0 and at 1, some of tiny height."""
    rng = np.random.default_rng(1)
    gt_mask = rng.choice([0, 3, 7, 255], (12, 16)).astype(np.uint8)
    raw = score_map(np.clip(rng.normal(0.5, 0.6, (2, 12, 16)), 0, 1), [3, 7])
    for found in (raw, score_map(raw.scores * 1e-5, [3, 7])):
        stored = as_stored(found)
        curve = ThresholdCurve(8, step)
        curve.add(score_histogram(gt_mask, stored, 8, curve.thresholds), stored.class_ids)
        for at, threshold in enumerate(curve.thresholds.tolist()):
            mask = pseudo_mask(stored, PseudoMaskSettings(ignore_margin=0), threshold)
            matrix = confusion_matrix(gt_mask, mask, 8)
            np.testing.assert_array_equal(matrix[:, :8], curve.confusion(at))
            np.testing.assert_array_equal(mask_above(stored, threshold), mask)


def test_at_the_ends_of_the_range_a_margin_changes_nothing_but_ties_of_classes() -> None:
    """Nothing lies above 1, and what lies above 0 is as sure as can be."""
    one = score_map(np.array([[[0.0, 1e-5, 0.4, 1.0]]]), [2])
    assert pseudo_mask(one, PseudoMaskSettings(ignore_margin=0.1), 0).tolist() == [[0, 2, 2, 2]]
    assert not pseudo_mask(one, PseudoMaskSettings(ignore_margin=0.1), 1).any()
    two = score_map(np.array([[[0.9, 0.9, 0.0]], [[0.01, 0.9, 0.0]]]), [2, 5])
    assert pseudo_mask(two, PseudoMaskSettings(ignore_margin=0.05), 0).tolist() == [[2, 255, 0]]


def test_unsure_probabilities_are_ignored() -> None:
    """Of a CRF's marginals, folded as the refiner does, as CLIP-ES ignores them."""
    marginals = np.random.default_rng(0).dirichlet([0.2] * 4, (9, 11)).transpose(2, 0, 1)
    folded = marginals[1:] / (marginals[1:].max(axis=0) + marginals[0])
    settings = PseudoMaskSettings(ignore_margin=0, ignore_below=0.8)
    found = pseudo_mask(score_map(folded, [2, 5, 9]), settings, 0.5)
    wanted = np.array([0, 2, 5, 9])[marginals.argmax(axis=0)]
    wanted[marginals.max(axis=0) < 0.8] = 255
    assert 0 < (wanted == 255).mean() < 1
    np.testing.assert_array_equal(found, wanted)


def test_what_the_classifier_is_unsure_of_is_ignored_where_it_wins() -> None:
    scores = np.array([[[0.9, 0.2, 0.1, 0.8]], [[0.1, 0.8, 0.1, 0.1]]], np.float32)
    probs = np.array([0.4, 0.5], np.float32)
    found = ScoreMap(np.array([2, 5], np.uint8), scores, (1, 4), probs)
    masks = {
        share: pseudo_mask(found, PseudoMaskSettings(ignore_below_prob=share), 0.3).tolist()
        for share in (0, 0.5, 1)
    }
    assert masks == {0: [[2, 5, 0, 2]], 0.5: [[255, 5, 0, 255]], 1: [[255, 255, 0, 255]]}


def test_untagged_image_is_background() -> None:
    empty = ScoreMap(
        np.zeros(0, np.uint8), np.zeros((0, 2, 2), np.float32), (4, 6), np.zeros(0, np.float32)
    )
    mask = pseudo_mask(empty, PseudoMaskSettings(), 0.3)
    assert mask.shape == (4, 6) and not mask.any()


def test_small_class_is_ignored_where_it_stood() -> None:
    scores = np.zeros((2, 4, 5))
    scores[0, 0, 0] = 1
    scores[1, 2:] = 1
    mask = pseudo_mask(score_map(scores, [3, 7]), PseudoMaskSettings(min_area_share=0.1), 0.3)
    assert mask[0, 0] == 255
    assert (mask[2:] == 7).all()


def test_the_stage_reads_the_object_map_of_each_image(tmp_path: Path) -> None:
    paths, samples = Paths(tmp_path), []
    paths.images.mkdir(parents=True)
    objects = {"a": [1.0, 0.0], "b": [0.0, 1.0]}
    for name, row in objects.items():
        Image.new("RGB", (2, 1)).save(paths.images / f"{name}.png")
        write_score_map(
            paths.refined("crf") / f"{name}.npz", score_map(np.full((1, 1, 2), 0.5), [1])
        )
        write_score_map(paths.further_cams / f"ccam/{name}.npz", score_map(np.array([[row]]), [1]))
        samples.append(Sample(name, f"{name}.png", (1, 2), (1,)))
    # no threshold is selected anywhere, and none is needed
    Manifest(("cat",), {"train": tuple(samples), "selection": (), "val": ()}).write(paths.splits)
    params = parse_params(
        {
            "further_cams": {"ccam": {}},
            "make_pseudo_masks": {"background": "object", "object_source": "ccam"},
        }
    )
    run_stage("make_pseudo_masks", params, paths)
    for name, row in objects.items():
        assert read_label_png(paths.pseudo_masks / f"{name}.png").tolist() == [row]
    # other object maps are other masks
    write_score_map(paths.further_cams / "ccam/a.npz", score_map(np.ones((1, 1, 2)), [1]))
    run_stage("make_pseudo_masks", params, paths)
    assert read_label_png(paths.pseudo_masks / "a.png").tolist() == [[1, 1]]
    (paths.further_cams / "ccam/a.npz").unlink()
    with pytest.raises(ValueError, match=r"ccam/a.npz is missing"):
        run_stage("make_pseudo_masks", params, paths)
