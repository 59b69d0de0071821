"""Fusion of maps by hand, and what is checked before maps are read."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsss.artifacts import ScoreMap, write_score_map
from wsss.checks import naming
from wsss.config.params import parse_params
from wsss.refine import Chain, Context
from wsss.refine.fusion import FusionSettings, How, fuse
from wsss.settings import ConfigError

MAPS = arrays(np.float32, (3, 2, 2, 3), elements=st.floats(0, 1, width=32))
IMAGE = np.zeros((8, 12, 3), np.uint8)


def score_map(scores: np.ndarray, probs: tuple[float, ...] = (0.5, 0.25)) -> ScoreMap:
    return ScoreMap(
        np.array([1, 4], np.uint8), scores.astype(np.float32), (8, 12), np.array(probs, np.float32)
    )


def fused(folder: Path, own: ScoreMap, **values: object) -> ScoreMap:
    chain = Chain([FusionSettings.model_validate(values)], Context(further_cams=folder))
    return chain([IMAGE], [own], ["a"])[0]


@given(MAPS, st.lists(st.floats(0.1, 5), min_size=3, max_size=3))
@settings(max_examples=30)
def test_cell_by_cell(maps: np.ndarray, weights: list[float]) -> None:
    total = sum(weights)
    for at in np.ndindex(maps.shape[1:]):
        values = [float(map_[at]) for map_ in maps]
        product = np.prod([v**w for v, w in zip(values, weights, strict=True)])
        by_hand: dict[How, float] = {
            "mean": sum(v * w for v, w in zip(values, weights, strict=True)) / total,
            "max": max(v * w for v, w in zip(values, weights, strict=True)) / max(weights),
            "product": product,
            "geometric": product ** (1 / total),
        }
        for how, wanted in by_hand.items():
            assert fuse(maps, np.array(weights), how)[at] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("how", ["mean", "max", "geometric"])
def test_like_maps_stay_as_they_are(how: How) -> None:
    map_ = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    found = fuse(np.stack([map_, map_]), np.array([1.0, 3.0]), how)
    np.testing.assert_allclose(found, map_, atol=1e-6)


def test_maps_on_different_grids_meet_on_the_finer_one(tmp_path: Path) -> None:
    own = score_map(np.full((2, 2, 3), 0.5))
    other = np.zeros((2, 4, 6))
    other[0, :2] = other[1, :, :3] = 1
    write_score_map(tmp_path / "ccam/a.npz", score_map(other))
    found = fused(tmp_path, own, sources={"ccam": 1})
    np.testing.assert_allclose(found.scores, 0.25 + other / 2, atol=0.01)
    alone = fused(tmp_path, own, sources={"ccam": 2}, own_weight=0)
    np.testing.assert_allclose(alone.scores, other, atol=0.01)
    np.testing.assert_array_equal(alone.class_probs, own.class_probs)


def test_a_source_of_weight_zero_is_not_read(tmp_path: Path) -> None:
    own = score_map(np.full((2, 2, 3), 0.5))
    assert np.array_equal(fused(tmp_path, own, sources={"nowhere": 0}).scores, own.scores)
    with pytest.raises(ValueError, match="weight is above 0"):
        fused(tmp_path, own, sources={"nowhere": 0}, own_weight=0)


def test_what_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no project of DVC
    own = score_map(np.full((2, 2, 3), 0.5))
    with pytest.raises(ValueError, match=r"a.npz is missing; run `wsss run generate_further_cams"):
        fused(tmp_path, own, sources={"ccam": 1})
    other = ScoreMap(np.array([2], np.uint8), np.ones((1, 2, 3), np.float32), (8, 12), np.ones(1))
    write_score_map(tmp_path / "ccam/a.npz", other)
    with pytest.raises(ValueError, match=r"has the classes \[2\]"):
        fused(tmp_path, own, sources={"ccam": 1})


def test_sources_are_checked_with_params() -> None:
    values = {
        "generate_cams": {"scales": [1.0]},
        "further_cams": {"ccam": {"method": {"name": "grad_cam"}}},
        "refine": {"chains": {"crf": [{"name": "fusion", "sources": {"ccam": 1}}]}},
    }
    params = parse_params(values)
    assert params.further_cams["ccam"].scales == (1.0,)
    assert params.further_cams["ccam"].method.model_dump()["name"] == "grad_cam"
    values["refine"] = {"chains": {"crf": [{"name": "fusion", "sources": {"cam": 1}}]}}
    with pytest.raises(ConfigError, match=r"crf.0.sources names 'cam', .*did you mean 'ccam'"):
        parse_params(values)
    values["refine"] = {"chains": {"crf": []}}
    values["further_cams"] = {"ccam": {"classifier": "teacher"}}
    with pytest.raises(ConfigError, match=r"further_cams.ccam.classifier names 'teacher'"):
        parse_params(values)


def test_messages_name_the_setting_where_the_caller_says_it_stands() -> None:
    empty = FusionSettings(own_weight=0)
    with naming("refine.chains.a"), pytest.raises(ValueError, match=r"^refine\.chains\.a\.1\.sour"):
        Chain([FusionSettings(), empty], Context())
