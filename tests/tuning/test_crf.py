"""Searches of a refine chain: scored in memory, as refine_cams and evaluate_refined would."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from wsss.config.params import Params
from wsss.config.recipes import with_settings
from wsss.refine.dense_crf import PRESETS, DenseCrfSettings
from wsss.stages import run_stage
from wsss.tuning.base import Score, holds
from wsss.tuning.objective import Objective
from wsss.tuning.plan import make_plan, read_search
from wsss.tuning.route import Route, make_route

CRF = "refine.chains.crf.0"
Values = dict[str, Any]


def crf_route(project: Paths, values: Values, **overrides: Any) -> Route:
    _, settings = read_search(project.root, "crf", overrides)
    return make_route(make_plan(project.root, "crf", settings, values))


def scorer(route: Route, paths: Paths) -> Callable[[Params], Score]:
    objective = Objective(route, paths, "study")
    objective.prepare()
    assert objective._in_memory is not None
    return objective._in_memory


def with_chain(values: Values, *chain: Values) -> Values:
    return values | {"refine": {"chains": {"crf": list(chain), "none": []}}}


def of_stages(project: Paths, params: Params) -> Values:
    run_stage("refine_cams@crf", params, project)
    run_stage("evaluate_refined@crf", params, project)
    report: Values = read_json(project.report("evaluate_refined_crf"))
    return report


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {f"{CRF}.unary": "labels", f"{CRF}.gt_prob": 0.6, f"{CRF}.sigma_rgb": 30.0},
        {f"{CRF}.background": "power", f"{CRF}.alpha": 2.5, f"{CRF}.compat_gaussian": 0.0},
    ],
)
def test_the_score_is_that_of_the_stages(
    project: Paths, values: Values, settings: dict[str, object]
) -> None:
    """In memory or through data/refined: the same pixels, so exactly the same number."""
    route = crf_route(project, values)
    trial = route.plan.space.changed(settings)
    found = scorer(route, project)(trial)
    report = of_stages(project, trial)
    assert round(found.value, 6) == report["selection"]["mean_iou_pets"]
    assert found.threshold == report["threshold"]
    assert 0.3 < found.value < 1
    assert found.seconds


def test_refiners_around_the_crf_stay(project: Paths, values: Values) -> None:
    """The first dense_crf is tuned; what stands behind it runs with its own settings."""
    crf = values["refine"]["chains"]["crf"][0]
    rebalance = {"name": "rebalance"}
    values = with_chain(values, rebalance, crf, crf | {"sigma_xy": 30.0, "unary": "labels"})
    route = crf_route(project, values)
    assert route.first == 1
    trial = route.plan.space.changed({"refine.chains.crf.1.sigma_rgb": 20.0})
    found = scorer(route, project)(trial)
    assert round(found.value, 6) == of_stages(project, trial)["selection"]["mean_iou_pets"]


def test_only_selection_images_are_read(project: Paths, values: Values, params: Params) -> None:
    route = crf_route(project, values)
    before = scorer(route, project)(params)
    for folder in (project.images, project.masks, project.cams):
        for split in ("train", "val"):
            shutil.rmtree(folder / split)
    assert scorer(route, project)(params).value == before.value


def test_max_images_are_drawn_from_the_seed(project: Paths, values: Values, params: Params) -> None:
    few = crf_route(project, values, max_images=3)
    drawn = few.samples(project)[1]
    assert len(drawn) == len({item.name for item in drawn}) == 3
    assert drawn == few.samples(project)[1] == sorted(drawn, key=lambda item: item.name)
    others = [
        crf_route(project, with_settings(values, {"base.rng_seed": seed}), max_images=3).samples(
            project
        )[1]
        for seed in range(8)
    ]
    assert any(other != drawn for other in others)
    all_images = scorer(crf_route(project, values), project)(params)
    assert scorer(few, project)(params).value != all_images.value


def test_stored_scores_are_those_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scores = (rng.random((3, 9, 11)) * [[[1]], [[0.3]], [[0]]]).astype(np.float32)
    given = ScoreMap(np.array([1, 3, 4], np.uint8), scores, (9, 11), np.ones(3, np.float32))
    write_score_map(tmp_path / "a.npz", given)
    read = read_score_map(tmp_path / "a.npz").scores
    np.testing.assert_array_equal(as_stored(given).scores, read)
    assert as_stored(given).scores.dtype == read.dtype


def test_current_values_are_suggested_to_the_last_digit(
    project: Paths, values: Values, params: Params
) -> None:
    space = crf_route(project, values).plan.space
    settings = space.draw(optuna.trial.FixedTrial(space.current()))
    assert settings[f"{CRF}.threshold"] == 0.41237
    assert holds(params, settings)
    assert space.changed(settings) == params


def test_a_preset_is_tuned_as_the_numbers_it_stands_for(project: Paths, values: Values) -> None:
    preset = crf_route(project, with_chain(values, {"name": "dense_crf", "preset": "irn"}))
    written = crf_route(project, with_chain(values, {"name": "dense_crf", **PRESETS["irn"]}))
    current = preset.plan.space.current()
    assert current == written.plan.space.current()
    assert current[f"{CRF}.sigma_xy"] == 50 and current[f"{CRF}.unary"] == "labels"
    assert preset.key(project) == written.key(project)
    changed = {f"{CRF}.sigma_xy": 20.0}
    found = preset.plan.space.changed(changed).model_dump()
    assert found == written.plan.space.changed(changed).model_dump()


def test_suggestions_are_short_in_range_and_belong_together(project: Paths, values: Values) -> None:
    space = crf_route(project, values).plan.space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(40):
        settings = space.draw(study.ask())
        crf = space.changed(settings).refine.chains["crf"][0]
        assert isinstance(crf, DenseCrfSettings)
        assert crf.n_iters == 3
        assert (f"{CRF}.gt_prob" in settings) == (crf.unary == "labels")
        assert (f"{CRF}.threshold" in settings) == (crf.background == "constant")
        assert (f"{CRF}.alpha" in settings) == (crf.background == "power")
        for key, value in settings.items():
            if isinstance(value, float):
                wanted = space.ranges[key]
                assert wanted.low is not None and wanted.high is not None
                assert wanted.low <= value <= wanted.high
                assert float(f"{value:.4g}") == value
        seen.add((crf.unary, crf.background))
    assert len(seen) == 4


def test_a_choice_of_one_is_kept_and_the_current_one_not_forced(
    project: Paths, values: Values
) -> None:
    space = crf_route(project, values, unary=["labels"], background=["power"]).plan.space
    current = space.current()
    assert {f"{CRF}.unary", f"{CRF}.background"}.isdisjoint(current)  # soft and constant
    study_of_one = optuna.create_study()
    study_of_one.enqueue_trial(current)
    settings = space.draw(study_of_one.ask())
    assert settings[f"{CRF}.unary"] == "labels"
    assert settings[f"{CRF}.sigma_xy"] == 12


def test_the_key_follows_what_decides_a_score(project: Paths, values: Values) -> None:
    def key(changes: Values | None = None, **overrides: Any) -> str:
        return crf_route(project, with_settings(values, changes or {}), **overrides).key(project)

    first = key()
    assert key({f"{CRF}.sigma_xy": 99.0, f"{CRF}.alpha": 9.0}) == first
    assert key({"train_segmenter.epochs": 7, "make_pseudo_masks.ignore_margin": 0.2}) == first
    assert key({f"{CRF}.n_iters": 4}) != first
    assert key({"evaluate.select_by": "mean_iou"}) != first
    assert key(max_images=2) != first
    assert key(sigma_xy=[10, 20]) != first
    cams = sorted((project.cams / "selection").iterdir())
    shutil.copy(cams[0], cams[1])
    assert key() != first


def test_what_is_missing_is_named(project: Paths, values: Values) -> None:
    with pytest.raises(ValueError, match=r"refine\.chains has no key 'crv'; did you mean 'crf'\?"):
        crf_route(project, values, chain="crv")
    with pytest.raises(ValueError, match=r"refine\.chains\.none has no 'dense_crf'; it is empty"):
        crf_route(project, values, chain="none")
    route = crf_route(project, values)
    (project.cams / "selection" / "große 2.npz").unlink()
    with pytest.raises(ValueError, match=r"1 of 6 .*große 2.*wsss run generate_cams"):
        route.check(project)
    shutil.rmtree(project.cams)
    with pytest.raises(ValueError, match=r"data/cams is not there.*`wsss run generate_cams`"):
        route.check(project)
    project.cams.mkdir()
    manifest = Manifest.read(project.splits)
    bare = {
        split: tuple(
            Sample(sample.name, sample.image, sample.size, sample.class_ids) for sample in samples
        )
        for split, samples in manifest.splits.items()
    }
    Manifest(manifest.class_names, bare).write(project.splits)
    with pytest.raises(ValueError, match="no image of the selection split has a mask"):
        route.check(project)
    shutil.rmtree(project.splits)
    with pytest.raises(ValueError, match="wsss run prepare_data"):
        route.check(project)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sigma_xy": [80, 20]}, r"low is the smaller one"),
        ({"sigma_xy": [1, 2, 3]}, r"must be \[smallest, largest\]"),
        ({"gt_prob": [0.5, 1]}, r"gt_prob must be less than 1, but is 1"),
        ({"unary": ["hard"]}, r"unary must be 'soft' or 'labels', but is 'hard'"),
        ({"max_image": 3}, r"did you mean 'max_images'\?"),
        ({"sigma_yx": [3, 4]}, r"did you mean 'sigma_xy'\?"),
    ],
)
def test_ranges_are_checked(
    project: Paths, values: Values, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        crf_route(project, values, **overrides)


def test_no_heavy_library_is_imported_to_read_a_search(project: Paths) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from wsss.config.yaml_text import load_yaml, read_text\n"
        "from wsss.tuning.plan import make_plan, read_search\n"
        "from wsss.tuning.route import make_route\n"
        "name, settings = read_search(Path(), 'crf')\n"
        "values = load_yaml(read_text(Path('params.yaml')), '')\n"
        "print(make_route(make_plan(Path(), name, settings, values)).score)\n"
        "heavy = ('torch', 'mlflow', 'optuna', 'matplotlib', 'wsss.densecrf')\n"
        "print([one for one in heavy if one in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project.root
    )
    assert found.stdout.split("\n")[:2] == ["evaluate_refined@crf", "[]"]
