"""`wsss init`: what a new project holds, and what it never writes over."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from wsss.cli.app import app
from wsss.config.params import load_params
from wsss.pipeline.code import CodeLock
from wsss.pipeline.dvc import dvc_text
from wsss.project import choice
from wsss.project.files import first_params
from wsss.stages import find_stages

ROOT = Path(__file__).parents[2]
Layouts = dict[str, Callable[[Path], Any]]


def wsss(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_the_first_settings_are_those_of_the_repository() -> None:
    ours = yaml.safe_load(first_params())
    theirs = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert ours["machine"] == theirs["machine"] and ours["base"] == theirs["base"]
    for section, values in ours.items():
        assert values == {key: theirs[section][key] for key in values}, section


def test_a_project_without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wsss("init", str(tmp_path / "mine"), "--no-git", "--no-dvc")
    monkeypatch.chdir(tmp_path / "mine")
    assert load_params().prepare_data.dataset.name == "synthetic"
    assert Path("dvc.yaml").read_text() == dvc_text(find_stages(), locked=True)
    wsss("dvc", "--check")
    assert "src/" not in Path("dvc.yaml").read_text()
    lock = CodeLock.read(Path())
    assert lock is not None
    assert lock.differing(part for stage in find_stages() for part in stage.code_parts) == []
    assert "own_photos" in wsss("recipe", "list")
    wsss("recipe", "apply", "voc_animals_cam")
    wsss("recipe", "save", "mine")
    assert "mine" in wsss("recipe", "list")
    wsss("recipe", "apply", "synthetic_cam")
    wsss("recipe", "apply", "mine")
    assert load_params().base.recipe == "mine"
    assert "no stage runs again" in wsss("doctor", "upgrade")


@pytest.mark.parametrize(
    ("layout", "recipe", "threshold"),
    [
        ("a sub-folder per class", "own_photos_from_scratch", "selected"),
        ("a table of tags", "own_photos_from_scratch", "usual"),
        ("good and defective parts", "own_photos_from_scratch", "selected"),
    ],
)
def test_settings_follow_the_data(
    layouts: Layouts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
    recipe: str,
    threshold: object,
) -> None:
    layouts[layout](tmp_path / "data")
    told = wsss(
        *("init", str(tmp_path / "mine"), "--from", str(tmp_path / "data"), "--weights", "none"),
        *("--no-git", "--no-dvc"),
    )
    assert f"is read as {layout}" in told
    assert "is ready" in told
    monkeypatch.chdir(tmp_path / "mine")
    params = load_params()
    assert params.base.recipe == recipe
    assert params.make_pseudo_masks.threshold == threshold
    assert params.prepare_data.dataset.root == str(tmp_path / "data")  # it stays where it is
    assert not Path("source").exists()
    wsss("data", "check")


def test_black_and_white_masks_are_read_as_the_tag_says(
    layouts: Layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts["a sub-folder per class"](tmp_path / "data")
    told = wsss(
        *("init", str(tmp_path / "mine"), "--from", str(tmp_path / "data"), "--weights", "none"),
        *("--no-git", "--no-dvc"),
    )
    assert "the values of masks are read as {255: 'tag'}" in told
    monkeypatch.chdir(tmp_path / "mine")
    assert load_params().prepare_data.dataset.mask_values == {255: "tag"}


def test_what_is_wrong_with_the_data_is_said(layouts: Layouts, tmp_path: Path) -> None:
    made = layouts["a table of tags"](tmp_path / "data")
    for at in range(8):
        made.write(f"images/{at:02}.jpg", "no image")
    told = wsss(
        *("init", str(tmp_path / "mine"), "--from", str(tmp_path / "data"), "--weights", "none"),
        *("--no-git", "--no-dvc"),
    )
    assert "error: images: 8" in told
    assert "wsss data check" in told


def test_data_are_copied_only_where_that_is_asked_for(
    layouts: Layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = layouts["a table of tags"](tmp_path / "data")
    table = made.root.with_name("elsewhere.csv")
    (made.root / "tags.csv").rename(table)
    wsss(
        *("init", str(tmp_path / "mine"), "--from", str(made.root), "--tags", str(table)),
        *("--copy", "--weights", "none", "--no-git", "--no-dvc"),
    )
    made.root.rename(tmp_path / "gone")
    table.unlink()
    monkeypatch.chdir(tmp_path / "mine")
    assert load_params().prepare_data.dataset.root == "source"
    wsss("data", "check")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "train_classifier.epoch=3"], "did you mean 'epochs'"),
        (["--weights", "nowhere.pth"], "which is not a file"),
        ([], "never written over"),
    ],
)
def test_nothing_is_copied_before_all_is_known_to_fit(
    layouts: Layouts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    layouts["a table of tags"](tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    if not arguments:
        Path("mine").mkdir()
        Path("mine/params.yaml").write_text("own: true")
    whole = ("init", "mine", "--from", "data", "--copy", "--weights", "none", "--no-git")
    assert words in " ".join(wsss(*whole, *arguments, code=1).split())
    assert not Path("mine/source").exists()


def test_what_is_said_of_the_settings_is_what_they_are(layouts: Layouts, tmp_path: Path) -> None:
    """Of --set, too."""
    layouts["a table of tags"](tmp_path / "data")
    told = wsss(
        *("init", str(tmp_path / "mine"), "--from", str(tmp_path / "data"), "--weights", "none"),
        *("--set", "train_segmenter.epochs=7", "--set", "train_classifier.epochs=2"),
        *("--set", "make_pseudo_masks.threshold=0.4", "--no-git", "--no-dvc"),
    )
    assert "2 epochs of the classifier and 7 of the segmenter" in told
    assert "the threshold is 0.4" in told and "the usual one" not in told


def test_a_recipe_that_lies_about_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("recipes/synthetic_cam.yaml").write_text("train_classifier: {epochs: 1234}\n")
    wsss("init", "mine", "--no-git", "--no-dvc")
    monkeypatch.chdir("mine")
    assert load_params().train_classifier.epochs != 1234


@pytest.mark.parametrize("dvc", [True, False])
def test_what_is_to_be_typed_works_as_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dvc: bool
) -> None:
    """In a folder with a blank in its name, and without DVC."""
    monkeypatch.chdir(tmp_path)
    run = "dvc repro" if dvc else "wsss run"
    told = wsss("init", "my cats", "--no-git", *([] if dvc else ["--no-dvc"]))
    assert f"cd 'my cats' && {run}" in told
    monkeypatch.chdir("my cats")
    assert f"`{run}` runs what changed" in wsss("set", "train_classifier.epochs=2")
    assert f"`{run}` runs what changed" in wsss("recipe", "apply", "voc_animals_cam")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/params.yaml").write_text("own: true")
    assert "never written over" in wsss("init", str(tmp_path / "mine"), code=1).replace("\n", " ")
    assert [item.name for item in (tmp_path / "mine").iterdir()] == ["params.yaml"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/README.md").write_text("mine")
    (tmp_path / "other/.gitignore").write_text("*.tmp\n/masks/\n")
    wsss("init", str(tmp_path / "other"), "--no-git", "--no-dvc")
    assert (tmp_path / "other/README.md").read_text() == "mine"
    kept = (tmp_path / "other/.gitignore").read_text().splitlines()
    assert kept[:2] == ["*.tmp", "/masks/"]
    assert kept.count("/masks/") == 1 and "/mlflow.db*" in kept


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tags", "t.csv"], "need --from"),
        (["--set", "train_classifier.epoch=3"], "did you mean 'epochs'"),
        (["--from", "data", "--weights", "nowhere.pth"], "which is not a file"),
        (["--from", ".", "--tags", "data/tags.csv", "--weights", "none"], "lies within"),
    ],
)
def test_what_cannot_be_leaves_nothing_behind(
    layouts: Layouts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    layouts["a table of tags"](tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    told = wsss("init", "mine", "--no-git", "--no-dvc", *arguments, code=1)
    assert words in told
    assert not Path("mine").exists()


def test_weights_that_cannot_be_had_are_said(
    layouts: Layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "why_no_weights", lambda: "there is no network")
    layouts["good and defective parts"](tmp_path / "data")
    told = wsss(
        *("init", str(tmp_path / "mine"), "--from", str(tmp_path / "data")),
        *("--no-git", "--no-dvc"),
    )
    assert "cannot be downloaded: there is no network" in told and "--weights none" in told
    monkeypatch.chdir(tmp_path / "mine")
    assert load_params().base.recipe == "small_defects"
    assert load_params().train_classifier.backbone.weights == "hub"
    out = ["--out", str(tmp_path / "masks")]
    told = wsss("segment", str(tmp_path / "data"), *out, code=1)
    assert "--weights none" in told and not (tmp_path / "masks").exists()


@pytest.mark.parametrize("kind", ["alone", "within"])
def test_git_and_dvc_around_it(tmp_path: Path, kind: str) -> None:
    """Within another git repository a project is a DVC project of its own, without a second git."""
    root = tmp_path / "outer/mine"
    if kind == "within":
        subprocess.run(["git", "init", "-q", str(tmp_path / "outer")], check=True)
    wsss("init", str(root))
    assert (root / ".git").exists() == (kind == "alone")
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "prepare_data" in yaml.safe_load(done.stdout)
