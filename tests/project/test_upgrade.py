"""Which stages another version of the code means to run again."""

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsss.cli.app import app
from wsss.pipeline import code
from wsss.pipeline.code import CODE_LOCK, CodeLock
from wsss.pipeline.execute import check_code
from wsss.project.files import code_lock
from wsss.project.start import start_project
from wsss.project.upgrade import upgrade
from wsss.settings import ConfigError
from wsss.stages import find_stages

PACKAGE = Path(code.__file__).parents[1]
FILE = "segment/predict.py"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, as if it were what is installed."""
    root = tmp_path_factory.mktemp("installed") / "src/wsss"
    shutil.copytree(PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Path:
    root = tmp_path_factory.mktemp("made") / "mine"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(code, "_PACKAGE", installed)
        start_project(root, git=False, dvc=False)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(code, "_PACKAGE", installed)
    return Path(shutil.copytree(made, tmp_path / "mine"))


@pytest.fixture
def edit(installed: Path):
    """Change a file of the installed code, until the test ends."""
    before = {}

    def change(name: str, text: str, other: str) -> None:
        path = installed / name
        held = path.read_text(encoding="utf-8")
        before.setdefault(path, held)
        assert text in held
        path.write_text(held.replace(text, other, 1), encoding="utf-8")

    yield change
    for path, text in before.items():
        path.write_text(text, encoding="utf-8")


def users(part: str) -> set[str]:
    return {stage.name for stage in find_stages() if part in stage.code_parts}


def first_docstring(installed: Path) -> str:
    found = re.search(r'"""(.+)', (installed / FILE).read_text(encoding="utf-8"))
    assert found is not None
    return found[0]


def test_the_same_code_runs_nothing(project: Path) -> None:
    found = upgrade(project)
    assert (found.reasons, found.after_them, found.gone, found.differing) == ({}, {}, (), ())
    assert upgrade(project, write=True).written == ()


def test_docstrings_comments_and_layout_run_nothing(project: Path, installed: Path, edit) -> None:
    old = first_docstring(installed)
    edit(FILE, old, '"""Words that say it better.' + ('"""' if old.endswith('"""') else ""))
    edit(FILE, "\nimport", "\n# a comment\n\n\nimport")
    assert upgrade(project).reasons == {}
    written = upgrade(project, write=True).written  # its bytes are others, and nothing else
    assert written == (CODE_LOCK,)
    assert upgrade(project).written == ()


def test_changed_code_runs_the_stages_that_use_it(project: Path, installed: Path, edit) -> None:
    edit(FILE, "__all__", "CHANGED = 1\n__all__")
    found = upgrade(project)
    assert set(found.reasons) == users("segment")
    assert set(found.reasons.values()) == {"the code of segment is another"}
    assert found.after_them["evaluate_segmenter"] == (
        "make_pseudo_masks",
        "train_segmenter",
        "predict_masks",
    )
    assert "evaluate_cams" not in found.after_them
    before = (project / CODE_LOCK).read_text()
    with pytest.raises(ValueError, match="`wsss doctor upgrade --write` goes over to it"):
        check_code(_target("predict_masks"), project)
    check_code(_target("generate_cams"), project)  # which does not use it
    assert (project / CODE_LOCK).read_text() == before
    assert upgrade(project, write=True).written == (CODE_LOCK,)
    check_code(_target("predict_masks"), project)
    assert upgrade(project).reasons == {}


def test_native_code_counts(project: Path, installed: Path, edit) -> None:
    sources = installed.parents[1] / "csrc"
    sources.mkdir(exist_ok=True)
    (sources / "filter.cpp").write_text("int changed;")
    try:
        assert set(upgrade(project).reasons) == users("csrc") != set()
    finally:
        shutil.rmtree(sources)


def test_a_stage_that_is_new_and_one_that_is_no_more(project: Path) -> None:
    path = project / "dvc.yaml"
    text = path.read_text().replace("  evaluate_cams:\n", "  evaluate_maps:\n", 1)
    path.write_text(text.replace("    - data/cams\n", "    - data/other\n", 1))
    found = upgrade(project)
    assert found.reasons["evaluate_cams"] == "it is new"
    assert found.gone == ("evaluate_maps",)
    assert found.reasons["generate_cams"] == "its outs in dvc.yaml are others"
    assert upgrade(project, write=True).written == ("dvc.yaml",)
    assert upgrade(project).reasons == {}


def test_a_damaged_file_says_how_to_mend_it(project: Path) -> None:
    (project / CODE_LOCK).write_text("version: [")
    with pytest.raises(ConfigError, match="upgrade --write"):
        upgrade(project)
    assert len(upgrade(project, write=True).reasons) == len(list(find_stages()))
    assert CodeLock.read(project) == code_lock(find_stages())


def test_a_file_that_was_lost_is_written_anew(project: Path) -> None:
    (project / CODE_LOCK).unlink()
    with pytest.raises(ConfigError, match="`wsss doctor upgrade --write` writes it anew"):
        upgrade(project)
    assert upgrade(project, write=True).written == (CODE_LOCK,)
    assert CodeLock.read(project) == code_lock(find_stages())


@pytest.mark.parametrize("name", ["dvc.yaml", "params.schema.json", CODE_LOCK])
def test_wording_alone_is_told_and_written(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project / name
    before = path.read_text()
    path.write_text(before + "\n")
    monkeypatch.chdir(project)
    said = CliRunner().invoke(app, ["doctor", "upgrade"]).output
    assert "no stage runs again" in said
    assert said.endswith(f"`wsss doctor upgrade --write` writes {name}\n")
    CliRunner().invoke(app, ["doctor", "upgrade", "--write"])
    assert path.read_text() == before
    assert "--write" not in CliRunner().invoke(app, ["doctor", "upgrade"]).output


def test_the_repository_is_not_upgraded(tmp_path: Path) -> None:
    (tmp_path / "src/wsss/stages").mkdir(parents=True)
    (tmp_path / "params.yaml").touch()
    for write in (False, True):
        with pytest.raises(ConfigError, match="wsss init"):
            upgrade(tmp_path, write=write)


def _target(name: str):
    from wsss.config.params import Params

    return find_stages().target(name, Params())
