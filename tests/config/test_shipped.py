"""Recipes, searches and studies ship with the package, and a project's own stand before them."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from wsss.config import shipped
from wsss.config.recipes import Recipe
from wsss.config.shipped import recipe_files, recipe_summaries, shipped_recipes
from wsss.study.plan import read_plan
from wsss.tuning.plan import read_search

ROOT = Path(__file__).parents[2]


def test_a_wheel_is_told_to_take_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["scikit-build"]["wheel"]["packages"]
    assert packages == {"wsss": "src/wsss", "wsss/recipes": "recipes", "wsss/csrc": "csrc"}


def test_the_repository_comes_before_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shipped_recipes() == ROOT / "recipes"
    package = tmp_path / "lib/wsss"
    (package / "recipes/tuning").mkdir(parents=True)
    (package / "recipes/only.yaml").write_text("# Only one")
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert shipped_recipes() == package / "recipes"
    assert list(recipe_files(tmp_path / "none")) == ["only"]
    assert recipe_files(tmp_path / "none", "tuning") == {}
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/only.yaml").write_text("# Beside src")
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "src/wsss")
    assert recipe_files(tmp_path / "none")["only"] == tmp_path / "recipes/only.yaml"


def test_searches_and_studies_are_found_from_anywhere(tmp_path: Path) -> None:
    assert read_search(tmp_path, "crf")[0] == "crf"
    assert read_plan(tmp_path, "refiners").rows


def test_those_of_the_project_stand_before_them(tmp_path: Path) -> None:
    own = tmp_path / "recipes"
    own.mkdir()
    (own / "mine.yaml").write_text("# My own\nextends: own_photos\n")
    (own / "own_photos.yaml").write_text("# Others\nextends: synthetic_cam\n")
    summaries = recipe_summaries(own)
    assert summaries["mine"] == "My own" and summaries["own_photos"] == "Others"
    assert "voc_cam" in summaries
    assert [layer.text.splitlines()[0] for layer in Recipe.read(own, "mine").layers()][1:] == [
        "# Others",
        "# My own",
    ]


@pytest.mark.slow
def test_a_wheel_has_them(tmp_path: Path) -> None:
    """Built as `pip install` does it, which fetches what builds it."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*command, str(tmp_path), str(ROOT)], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    wanted = {
        f"wsss/{path.relative_to(ROOT).as_posix()}"
        for folder in ("recipes", "csrc")
        for path in (ROOT / folder).rglob("*.*")
    }
    assert wanted <= names
    assert "wsss/recipes/tuning/crf.yaml" in names
