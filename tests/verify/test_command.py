"""`wsss verify` as it is typed: what it prints, and its exit codes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from wsss.artifacts import Paths, read_json, write_json
from wsss.cli.app import app
from wsss.config.params import Params


@pytest.fixture
def project(
    finished: Path,
    after_recipe: Callable[[Path], Params],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A copy to stand in."""
    root = Path(shutil.copytree(finished, tmp_path / "copy"))
    values = after_recipe(root).model_dump(mode="json")
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(root)
    return root


def typed(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["verify", *arguments])
    return done.exit_code, done.output


def test_results_that_nobody_knows_to_be_of_these_settings_are_not_compared(
    project: Path,
) -> None:
    """Neither `wsss run` nor DVC has made them."""
    code, text = typed()
    assert code == 3
    assert "data: not compared: prepare_data has not run with the settings and files" in text
    assert "Nothing is off of what could be judged." in text


def test_the_exit_code_and_the_last_lines_say_where_it_left_the_road(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsss.cli.verify._stale", lambda root, params, pipeline: set())
    code, text = typed()
    assert code == 0
    assert text.splitlines()[0].startswith("Recipe tiny: 5 runs, wsss ")
    assert text.splitlines()[-1] == "The run is where runs of this recipe are."
    path = Paths(project).report("evaluate_cams")
    report = read_json(path)
    known = report["val"]["mean_iou"]
    report["val"]["mean_iou"] = known - 0.2
    write_json(path, report)
    code, text = typed()
    assert code == 1
    assert f"val/mean_iou {known - 0.2:.4f}, known {known:.4f} ± 0.0504" in text
    *_, last_but_one, last = text.splitlines()
    assert last_but_one.startswith("The run left the road at the maps: val/mean_iou is ")
    assert last == (
        "Look at reports/evaluate_cams/panel.png, and what generate_cams and evaluate_cams warn of."
    )
    code, text = typed("--json")
    assert code == 1
    found = json.loads(text)
    assert found["first_off"] == "maps" and found["expected"]["runs"] == 5


def test_a_finished_project_is_recorded_in_place_of_a_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsss.cli.verify._stale", lambda root, params, pipeline: set())
    code, text = typed("--record", "--from", ".")
    assert code == 0, text
    assert "wrote what 1 run scores into recipes/tiny.yaml" in text
    stated = yaml.safe_load((project / "recipes/tiny.yaml").read_text())["expected"]
    assert stated["runs"] == 1 and "set" not in stated
    mean = stated["steps"]["segmenter"]["values"]["val/mean_iou"]["mean"]
    assert mean == read_json(Paths(project).report("evaluate_segmenter"))["val"]["mean_iou"]


def test_what_is_no_run_of_the_recipe_is_not_recorded_as_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (project / "recipes/tiny.yaml").read_bytes()
    code, text = typed("--record", "--from", ".")
    assert code == 1 and "are not known to be of its settings and files" in text
    monkeypatch.setattr("wsss.cli.verify._stale", lambda root, params, pipeline: set())
    code, text = typed("--record", "--from", ".", "--from", str(project))
    assert code == 1 and "the same base.rng_seed" in text
    for key, value, said in (
        ("train_segmenter", {"epochs": 7}, "train_segmenter.epochs is 7 here"),
        ("base", {"rng_seed": 99}, "has base.rng_seed 99, and the recipe has"),
    ):
        other = Path(shutil.copytree(project, tmp_path / key))
        values = yaml.safe_load((other / "params.yaml").read_text())
        values[key] |= value
        (other / "params.yaml").write_text(yaml.safe_dump(values))
        code, text = typed("--record", "--recipe", "tiny", "--from", str(other))
        assert code == 1 and said in text, text
    assert (project / "recipes/tiny.yaml").read_bytes() == before


def test_options_of_recording_alone_are_refused(project: Path) -> None:
    code, text = typed("--recipe", "tiny")
    assert code == 1 and "go with --record" in text
    code, text = typed("--record", "--from", "recipes")
    assert code == 1 and "has no reports/" in text
