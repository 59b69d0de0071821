import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    as_stored,
    read_json,
    read_score_map,
    write_score_map,
)
from wsss.config.params import Params, parse_params
from wsss.refine.dense_crf import PRESETS, DenseCrfSettings
from wsss.stages import run_stage
from wsss.tuning.base import changed, holds
from wsss.tuning.crf import CrfSearch, CrfSearchSettings
from wsss.tuning.storage import search_settings

STUDY = CrfSearch(CrfSearchSettings())
CRF = "refine.chains.crf.0"


def with_chain(params: Params, *chain: dict[str, object]) -> Params:
    tree = params.model_dump(mode="json")
    tree["refine"]["chains"] = {"crf": list(chain), "none": []}
    return parse_params(tree)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {f"{CRF}.unary": "labels", f"{CRF}.gt_prob": 0.6, f"{CRF}.sigma_rgb": 30.0},
        {f"{CRF}.background": "power", f"{CRF}.alpha": 2.5, f"{CRF}.compat_gaussian": 0.0},
    ],
)
def test_the_score_is_that_of_the_stages(
    project: Paths, params: Params, settings: dict[str, object]
) -> None:
    """In memory or through data/refined: the same pixels, so exactly the same number."""
    trial = changed(params, settings)
    found = STUDY.scorer(params, project)(trial)
    run_stage("refine_cams@crf", trial, project)
    run_stage("evaluate_refined@crf", trial, project)
    report = read_json(project.report("evaluate_refined_crf"))
    assert round(found.value, 6) == report["selection"]["mean_iou_pets"]
    assert found.threshold == report["threshold"]
    assert 0.3 < found.value < 1


def test_refiners_around_the_crf_stay(project: Paths, params: Params) -> None:
    """The first dense_crf is tuned; what stands behind it runs with its own settings."""
    crf = params.refine.chains["crf"][0].model_dump(mode="json")
    params = with_chain(params, crf, crf | {"sigma_xy": 30.0, "unary": "labels"})
    found = STUDY.scorer(params, project)(changed(params, {f"{CRF}.sigma_rgb": 20.0}))
    trial = with_chain(
        params, crf | {"sigma_rgb": 20.0}, crf | {"sigma_xy": 30.0, "unary": "labels"}
    )
    run_stage("refine_cams@crf", trial, project)
    run_stage("evaluate_refined@crf", trial, project)
    report = read_json(project.report("evaluate_refined_crf"))
    assert round(found.value, 6) == report["selection"]["mean_iou_pets"]


def test_only_selection_images_are_read(project: Paths, params: Params) -> None:
    before = STUDY.scorer(params, project)(params)
    for folder in (project.images, project.masks, project.cams):
        for split in ("train", "val"):
            shutil.rmtree(folder / split)
    assert STUDY.scorer(params, project)(params) == before


def test_max_images_are_drawn_from_the_seed(project: Paths, params: Params) -> None:
    few = CrfSearch(CrfSearchSettings(max_images=3))
    _, drawn = few._samples(params, project)
    assert len(drawn) == len({item.name for item in drawn}) == 3
    assert drawn == few._samples(params, project)[1] == sorted(drawn, key=lambda item: item.name)
    others = [
        few._samples(changed(params, {"base.rng_seed": seed}), project)[1] for seed in range(8)
    ]
    assert any(other != drawn for other in others)
    assert few.scorer(params, project)(params) != STUDY.scorer(params, project)(params)


def test_stored_scores_are_those_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scores = (rng.random((3, 9, 11)) * [[[1]], [[0.3]], [[0]]]).astype(np.float32)
    given = ScoreMap(np.array([1, 3, 4], np.uint8), scores, (9, 11), np.ones(3, np.float32))
    write_score_map(tmp_path / "a.npz", given)
    read = read_score_map(tmp_path / "a.npz").scores
    np.testing.assert_array_equal(as_stored(given).scores, read)
    assert as_stored(given).scores.dtype == read.dtype


def test_current_values_are_suggested_to_the_last_digit(params: Params) -> None:
    trial = optuna.trial.FixedTrial(STUDY.current(params))
    settings = STUDY.suggest(trial, params)
    assert settings[f"{CRF}.threshold"] == 0.41237
    assert holds(params, settings)
    assert changed(params, settings) == params


def test_a_preset_is_tuned_as_the_numbers_it_stands_for(project: Paths, params: Params) -> None:
    preset = with_chain(params, {"name": "dense_crf", "preset": "irn"})
    written = with_chain(params, {"name": "dense_crf", **PRESETS["irn"]})
    assert STUDY.current(preset) == STUDY.current(written)
    assert STUDY.current(preset) == STUDY.current(preset) | {"sigma_xy": 50, "unary": "labels"}
    assert STUDY.key(preset, project) == STUDY.key(written, project)
    found = changed(preset, {f"{CRF}.sigma_xy": 20.0})
    assert found == changed(written, {f"{CRF}.sigma_xy": 20.0})


def test_suggestions_are_short_in_range_and_belong_together(params: Params) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        settings = STUDY.suggest(study.ask(), params)
        crf = changed(params, settings).refine.chains["crf"][0]
        assert isinstance(crf, DenseCrfSettings)
        assert crf.n_iters == 3
        assert (f"{CRF}.gt_prob" in settings) == (crf.unary == "labels")
        assert (f"{CRF}.threshold" in settings) == (crf.background == "constant")
        assert (f"{CRF}.alpha" in settings) == (crf.background == "power")
        for key, value in settings.items():
            if isinstance(value, float):
                low, high = getattr(STUDY.settings, key.rpartition(".")[2])
                assert low <= value <= high
                assert float(f"{value:.4g}") == value
        seen.add((crf.unary, crf.background))
    assert len(seen) == 4


def test_a_choice_of_one_is_kept_and_the_current_one_not_forced(params: Params) -> None:
    study = CrfSearch(CrfSearchSettings(unary=("labels",), background=("power",)))
    assert {"unary", "background"}.isdisjoint(study.current(params))  # soft and constant
    study_of_one = optuna.create_study()
    study_of_one.enqueue_trial(study.current(params))
    settings = study.suggest(study_of_one.ask(), params)
    assert settings[f"{CRF}.unary"] == "labels"
    assert settings[f"{CRF}.sigma_xy"] == 12


def test_the_key_follows_what_decides_a_score(project: Paths, params: Params) -> None:
    key = STUDY.key(params, project)
    assert (
        STUDY.key(changed(params, {f"{CRF}.sigma_xy": 99.0, f"{CRF}.alpha": 9.0}), project) == key
    )
    assert STUDY.key(changed(params, {f"{CRF}.n_iters": 4}), project) != key
    assert STUDY.key(changed(params, {"evaluate.select_by": "mean_iou"}), project) != key
    assert CrfSearch(CrfSearchSettings(max_images=2)).key(params, project) != key
    cams = sorted((project.cams / "selection").iterdir())
    shutil.copy(cams[0], cams[1])
    assert STUDY.key(params, project) != key
    (project.cams / "val" / "große 0.npz").unlink()
    shutil.copy(cams[0], cams[1])
    assert STUDY.key(params, project) != key


def test_what_is_missing_is_named(project: Paths, params: Params) -> None:
    with pytest.raises(ValueError, match=r"no chain 'crv'; did you mean 'crf'\?"):
        CrfSearch(CrfSearchSettings(chain="crv")).check(params, project)
    with pytest.raises(ValueError, match=r"chains\.none has no dense_crf .* chain=NAME \(crf\)"):
        CrfSearch(CrfSearchSettings(chain="none")).check(params, project)
    (project.cams / "selection" / "große 2.npz").unlink()
    with pytest.raises(ValueError, match=r"1 of 6 .*große 2.*dvc repro generate_cams"):
        STUDY.check(params, project)
    manifest = Manifest.read(project.splits)
    bare = {
        split: tuple(
            Sample(sample.name, sample.image, sample.size, sample.class_ids) for sample in samples
        )
        for split, samples in manifest.splits.items()
    }
    Manifest(manifest.class_names, bare).write(project.splits)
    with pytest.raises(ValueError, match="no image of the selection split has a mask"):
        STUDY.check(params, project)
    shutil.rmtree(project.splits)
    with pytest.raises(ValueError, match="dvc repro generate_cams"):
        STUDY.check(params, project)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sigma_xy": [80, 20]}, r"smallest, largest"),
        ({"gt_prob": [0.5, 1]}, r"gt_prob: 1 is no gt_prob"),
        ({"unary": ["hard"]}, r"unary\.0 must be 'soft' or 'labels', but is 'hard'"),
        ({"max_image": 3}, r"did you mean 'max_images'\?"),
    ],
)
def test_ranges_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search_settings("crf", values)


def test_no_heavy_library_is_imported_to_know_the_studies() -> None:
    code = (
        "import sys; from wsss.registry import SEARCHES; print(SEARCHES.names())\n"
        "heavy = ('torch', 'mlflow', 'optuna', 'matplotlib', 'wsss.densecrf')\n"
        "print([one for one in heavy if one in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[:2] == ["['chain', 'crf']", "[]"]
