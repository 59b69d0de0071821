"""What is stated of runs: how far another may lie, and how it is written and measured."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from wsss.artifacts import Manifest
from wsss.config.params import Params
from wsss.config.recipes import BASE_RECIPE, Recipe
from wsss.pipeline import Job, Pipeline, Stage
from wsss.settings import ConfigError
from wsss.stages import find_stages
from wsss.verify import Known, read_expected, verify, write_expected
from wsss.verify.recording import record_runs

NAMES = ("cat",)


@pytest.mark.parametrize("runs", [2, 3, 5, 20])
def test_one_of_a_hundred_good_runs_is_called_off(runs: int) -> None:
    """Whatever the number of runs that were measured."""
    rng = np.random.default_rng(runs)
    draws = rng.normal(0.6, 0.02, (20000, runs + 1))
    off = 0
    for *measured, another in draws[:4000]:
        known = Known(mean=float(np.mean(measured)), spread=float(np.std(measured, ddof=1)))
        off += abs(another - known.mean) > (known.allowed(runs, 0) or 0)
    assert off / 4000 == pytest.approx(0.01, abs=0.006)


def test_a_single_run_says_nothing_of_another() -> None:
    assert Known(mean=0.5).allowed(1, 0.1) is None
    assert Known(mean=0.5, spread=0).allowed(5, 0.005) == 0.005


def toy(noise: float = 0.01) -> Pipeline:
    """Stages of the road's names that only report, from the seed."""

    def prepare(job: Job) -> None:
        with job.staging() as staging:
            Manifest(NAMES, dict.fromkeys(("train", "selection", "val"), ())).write(staging.path)
        job.report({"splits": {"val": {"images": 3, "with_mask": 3}}})

    def score(job: Job) -> None:
        value = 0.5 + noise * (job.params.base.rng_seed % 3)
        job.report({"val_map": value, "val": {"mean_iou": value}})

    seed = ("base.rng_seed",)
    learned = Stage("train_classifier", score, (*seed, "train_classifier"), ("data/splits",))
    evaluate = (*seed, "evaluate")
    cams = Stage("evaluate_cams", score, evaluate, ("reports/train_classifier.json",))
    further = ("evaluate_refined", "evaluate_pseudo_masks", "evaluate_segmenter")
    return Pipeline(
        [
            Stage("prepare_data", prepare, (*seed, "prepare_data"), makes=("data/splits",)),
            learned,
            cams,
            *(
                Stage(name, score, evaluate, ("reports/evaluate_cams.json",),
                      foreach="refine.chains" if name == "evaluate_refined" else "")
                for name in further
            ),
        ]
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text(
        "# Mine\n\ntrain_classifier:\n  epochs: 3  # few\n", encoding="utf-8"
    )
    return tmp_path


def test_runs_with_several_seeds_give_means_and_spreads(project: Path) -> None:
    """0.5, 0.51 and 0.52 by the seed, written behind the settings; and once more in their place."""
    values = [0.5 + 0.01 * ((2024 + run) % 3) for run in range(3)]
    found = record_runs(project, "mine", toy(), 3, {"train_classifier.batch_size": 4})
    known = found.steps["classifier"].values["val_map"]
    assert known.mean == pytest.approx(np.mean(values))
    assert known.spread == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert found.steps["data"].values["val/images"] == Known(mean=3, spread=0)
    before = (project / "recipes/mine.yaml").read_text()
    for _ in range(2):
        path = write_expected(project, "mine", found)
    text = path.read_text()
    assert text.startswith(before.rstrip()) and text.count("expected:") == 1
    recipe, read = read_expected(project, "mine")
    assert read == found and recipe.values == {"train_classifier": {"epochs": 3}}
    assert yaml.safe_load(text)["expected"]["set"] == {"train_classifier.batch_size": 4}


def test_a_run_that_was_made_is_not_made_again(project: Path) -> None:
    record_runs(project, "mine", toy(), 2, {})
    made = {path: path.stat().st_mtime_ns for path in (project / ".verify").rglob("done.json")}
    record_runs(project, "mine", toy(), 3, {})
    assert len(made) == 2 * 6
    assert all(path.stat().st_mtime_ns == at for path, at in made.items())


def test_a_recipe_that_states_nothing_says_what_to_do(project: Path) -> None:
    with pytest.raises(ConfigError, match="`wsss verify --record` runs it"):
        read_expected(project, "mine")


def test_a_recipe_that_ships_is_not_written(project: Path) -> None:
    found = record_runs(project, "mine", toy(), 2, {})
    with pytest.raises(ConfigError, match="is not in"):
        write_expected(project, BASE_RECIPE, found)


def test_one_run_is_shown_and_not_judged(project: Path) -> None:
    pipeline = toy()
    write_expected(project, "mine", record_runs(project, "mine", pipeline, 1, {}))
    run = project / ".verify/mine/0/all"
    (run / "recipes").mkdir()
    (run / "recipes/mine.yaml").write_text((project / "recipes/mine.yaml").read_text())
    recipes = project / "recipes"
    from wsss.config.recipes import recipe_params

    params: Params = recipe_params(
        {}, Recipe.read(recipes, "mine"), Recipe.read(recipes, BASE_RECIPE)
    )
    found = verify(run, params, pipeline)
    assert [part.state for part in found.parts] == ["on"] + ["unjudged"] * 5
    assert "only one run was measured" in found.notes[0]
    assert found.first_off is None and not found.is_whole


def test_a_recipe_that_extends_one_does_not_take_its_numbers(project: Path) -> None:
    write_expected(project, "mine", record_runs(project, "mine", toy(), 2, {}))
    (project / "recipes/other.yaml").write_text("# Other\n\nextends: mine\n")
    assert Recipe.read(project / "recipes", "other").expected is None
    with pytest.raises(ConfigError, match="'other' states no expected"):
        read_expected(project, "other")


@pytest.mark.parametrize("name", ["synthetic_cam"])
def test_numbers_of_recipes_are_of_their_settings(name: str) -> None:
    """A recipe whose settings change loses its numbers until they are measured anew."""
    from wsss.artifacts import fingerprint
    from wsss.verify import ROAD
    from wsss.verify.expected import expected_params, own_settings
    from wsss.verify.road import target_of

    root, pipeline = Path(__file__).parents[2], find_stages()
    recipe, expected = read_expected(root, name)
    params = expected_params(root, recipe, expected.set)
    assert list(expected.steps) == [mile.name for mile in ROAD]
    for mile in ROAD:
        own = own_settings(pipeline, target_of(mile, params), params)
        assert expected.steps[mile.name].settings == fingerprint(own)[:16], mile.name
