"""What the refiner adds to the CRF: the unary it builds and the background it folds away."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from wsss.artifacts import ScoreMap, write_score_map
from wsss.config.params import Params, parse_params
from wsss.densecrf import dense_crf
from wsss.refine import Context
from wsss.refine.dense_crf import PRESETS, DenseCrf, DenseCrfSettings, unary_probs
from wsss.settings import ConfigError


def one_map(scores: np.ndarray) -> ScoreMap:
    count = len(scores)
    ids = np.arange(1, count + 1, dtype=np.uint8)
    return ScoreMap(ids, scores.astype(np.float32), scores.shape[1:], np.ones(count, np.float32))


@pytest.mark.parametrize("background", ["constant", "power"])
@pytest.mark.parametrize("unary", ["soft", "labels"])
def test_unary_is_a_distribution_with_the_stacks_winner(background: str, unary: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((3, 5, 6)).astype(np.float32)
    settings = DenseCrfSettings(background=background, unary=unary, threshold=0.4, alpha=2)  # type: ignore[arg-type]
    probs = unary_probs(scores, settings)
    np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-6)
    assert probs.min() > 0
    best = scores.max(axis=0)
    bg = np.full_like(best, 0.4) if background == "constant" else (1 - best) ** 2
    winner = np.where(bg >= best, 0, scores.argmax(axis=0) + 1)
    np.testing.assert_array_equal(probs.argmax(axis=0), winner)
    if unary == "labels":
        np.testing.assert_allclose(probs.max(axis=0), 0.7, atol=1e-6)


def test_threshold_one_half_is_the_marginals_own_winner() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
    settings = DenseCrfSettings(sigma_xy=5, sigma_rgb=30, n_iters=3)
    cam = one_map(rng.random((2, 12, 14)))
    probs = dense_crf(
        [image],
        [unary_probs(cam.scores, settings)],
        sigma_xy=5,
        sigma_rgb=30,
        compat_bilateral=10,
        sigma_gaussian=3,
        compat_gaussian=3,
        n_iters=3,
    )[0]
    (refined,) = DenseCrf(settings, Context())([image], [cam], ["a"])
    mask = np.where(refined.scores.max(axis=0) > 0.5, refined.scores.argmax(axis=0) + 1, 0)
    np.testing.assert_array_equal(mask, probs.argmax(axis=0))


def test_no_update_keeps_the_order_of_scores() -> None:
    cam = one_map(np.random.default_rng(2).random((1, 6, 7)))
    image = np.zeros((6, 7, 3), np.uint8)
    (refined,) = DenseCrf(DenseCrfSettings(n_iters=0), Context())([image], [cam], ["a"])
    order = np.argsort(cam.scores.ravel())
    assert (np.diff(refined.scores.ravel()[order]) >= -1e-6).all()


OBJECT = DenseCrfSettings(
    background="object", object_source="ccam", sigma_xy=5, sigma_rgb=30, n_iters=3
)


def test_each_image_has_the_object_map_of_its_name(tmp_path: Path) -> None:
    """The refiner against the field from a unary made here."""
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (6, 7, 3), dtype=np.uint8) for _ in range(3)]
    nothing = ScoreMap(np.zeros(0, np.uint8), np.zeros((0, 6, 7), np.float32), (6, 7), np.zeros(0))
    maps = [one_map(rng.random((2, 6, 7))), nothing, one_map(rng.random((1, 6, 7)))]
    sources = {"a": one_map(rng.integers(0, 256, (2, 6, 7)) / 255)}
    sources["b c"] = ScoreMap(  # of a coarser grid
        maps[2].class_ids, np.array([[[0, 1.0]]], np.float32), (6, 7), maps[2].class_probs
    )
    sources["a"].scores[:, 0, 0] = 1  # a map reaches 1, and is then stored exactly
    for name, source in sources.items():
        write_score_map(tmp_path / f"ccam/{name}.npz", source)
    names = ["a", "no file", "b c"]
    refined = DenseCrf(OBJECT, Context(further_cams=tmp_path))(images, maps, names)
    assert not len(refined[1].scores)
    for at in (0, 2):
        background = 1 - sources[names[at]].full_scores().max(axis=0, keepdims=True)
        stack = np.maximum(np.concatenate([background, maps[at].scores]), 1e-5)
        probs = dense_crf(
            [images[at]],
            [stack / stack.sum(axis=0)],
            sigma_xy=5,
            sigma_rgb=30,
            compat_bilateral=10,
            sigma_gaussian=3,
            compat_gaussian=3,
            n_iters=3,
        )[0]
        expected = probs[1:] / (probs[1:].max(axis=0) + probs[0])
        np.testing.assert_allclose(refined[at].scores, expected, atol=1e-4)


def test_an_object_map_must_be_there_and_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no project of DVC
    image, cam = np.zeros((4, 5, 3), np.uint8), one_map(np.ones((1, 4, 5)))
    refiner = DenseCrf(OBJECT, Context(further_cams=tmp_path))
    with pytest.raises(ValueError, match=r"ccam/a.npz is missing; run `wsss run generate_further"):
        refiner([image], [cam], ["a"])
    write_score_map(tmp_path / "ccam/a.npz", one_map(np.ones((1, 5, 4))))
    with pytest.raises(ValueError, match=r"of an image of \(5, 4\), but the map to go with it"):
        refiner([image], [cam], ["a"])


def test_what_is_read_by_name_is_of_the_whole_image() -> None:
    assert not DenseCrf(OBJECT, Context()).windowed
    assert DenseCrf(DenseCrfSettings(object_source="ccam"), Context()).windowed


# iterations; smoothness: sigma_xy, weight; appearance: sigma_xy, sigma_rgb, weight
PUBLISHED = {
    "psa": (10, (3, 3), (80, 13, 10), {"unary": "soft", "background": "power", "alpha": 4}),
    "irn": (
        10,
        (3, 3),
        (50, 5, 10),
        {"unary": "labels", "gt_prob": 0.7, "background": "constant", "threshold": 0.3},
    ),
    "clip_es": (10, (1, 3), (67, 3, 4), {"unary": "soft", "background": "power", "alpha": 1}),
    "smoke": (5, (3, 5), (60, 5, 15), {"unary": "soft", "background": "power", "alpha": 1}),
}


def chain_of(**values: Any) -> DenseCrfSettings:
    """What params.yaml with these settings in a chain comes to."""
    params = parse_params({"refine": {"chains": {"crf": [{"name": "dense_crf", **values}]}}})
    (settings,) = params.refine.chains["crf"]
    assert isinstance(settings, DenseCrfSettings)
    return settings


def refusal(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        chain_of(**values)
    return str(caught.value)


def test_every_preset_can_be_named() -> None:
    literal, _ = get_args(DenseCrfSettings.model_fields["preset"].annotation)
    assert set(get_args(literal)) == set(PRESETS) == set(PUBLISHED)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_preset_has_the_published_numbers(preset: str) -> None:
    n_iters, smoothness, appearance, unary = PUBLISHED[preset]
    settings = chain_of(preset=preset)
    assert settings.n_iters == n_iters
    assert (settings.sigma_gaussian, settings.compat_gaussian) == smoothness
    assert (settings.sigma_xy, settings.sigma_rgb, settings.compat_bilateral) == appearance
    assert {key: getattr(settings, key) for key in unary} == unary


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_recorded_is_the_numbers_and_gives_the_same_refiner(preset: str) -> None:
    """Fingerprints, runs and trials are made of the dump: the preset's name alone says nothing."""
    settings = chain_of(preset=preset, sigma_rgb=7)
    dumped = settings.model_dump(mode="json")
    assert dumped == dumped | PRESETS[preset] | {"sigma_rgb": 7}
    assert set(dumped) == set(DenseCrfSettings.model_fields) - {"preset"}
    assert DenseCrfSettings.model_validate(dumped).model_dump(mode="json") == dumped


def test_keys_beside_a_preset_win() -> None:
    plain = chain_of(preset="irn")
    assert chain_of(preset="irn", sigma_xy=9, unary="soft") == plain.model_copy(
        update={"sigma_xy": 9, "unary": "soft"}
    )


def test_without_a_preset_the_defaults_stand() -> None:
    assert chain_of(preset=None) == chain_of() == Params().refine.chains["crf"][0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "pas"}, "preset must be 'psa', 'irn', 'clip_es' or 'smoke', but is 'pas'"),
        ({"preset": ["psa"]}, "preset must be 'psa', 'irn', 'clip_es' or 'smoke', but is ['psa']"),
        ({"preset": "psa", "sigma_xy": -1}, "sigma_xy must be greater than 0, but is -1"),
        ({"prest": "psa"}, "has no key 'prest'; did you mean 'preset'?"),
        (PRESETS["psa"] | {"preset": "psa"}, "preset 'psa' has no effect"),
    ],
)
def test_a_mistake_in_a_preset_is_named(values: dict[str, Any], message: str) -> None:
    text = refusal(**values)
    assert text.startswith("params.yaml: refine.chains.crf.0")
    assert message in text


def test_a_map_is_resized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resized = []
    on_grid = ScoreMap.on_grid

    def spy(self: ScoreMap, grid: tuple[int, int]) -> np.ndarray:
        if self.scores.shape[1:] != grid:
            resized.append(grid)
        return on_grid(self, grid)

    monkeypatch.setattr(ScoreMap, "on_grid", spy)
    rng = np.random.default_rng(2)
    coarse = replace(one_map(rng.random((2, 4, 5))), size=(8, 10))
    tagless = replace(one_map(np.zeros((0, 4, 5))), size=(8, 10))
    image = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
    found = DenseCrf(DenseCrfSettings(), Context())([image] * 2, [coarse, tagless], ["a", "b"])
    assert resized == [(8, 10)] * 2
    assert [refined.scores.shape for refined in found] == [(2, 8, 10), (0, 8, 10)]
