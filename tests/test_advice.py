"""Commands that messages advise can be typed as they stand."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import wsss
from wsss.artifacts import Paths
from wsss.commands import room, run_command
from wsss.config.params import Params
from wsss.prediction import open_model
from wsss.tuning.scoring_images import selection_samples

PACKAGE = Path(wsss.__file__).parent
COMMAND = re.compile(r"`(?:sudo )?(cp|mv|rm|mkdir|chmod|chown|cd|dvc|wsss) [^`]*`")
PLACE = re.compile(r"(?i)path|file|folder|root|place|there")


def unquoted(code: str) -> Iterator[str]:
    """Paths in commands of a module's texts that a blank would tear apart."""
    tree = ast.parse(code)
    quoted = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "shlex." in ast.unparse(node.value)
        for target in node.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        parts = [part for part in node.values if isinstance(part, ast.FormattedValue)]
        given = iter(ast.unparse(part.value) for part in parts)
        text = "".join(
            f"\0{next(given)}\0"
            if isinstance(part, ast.FormattedValue)
            else str(ast.literal_eval(part))
            for part in node.values
        )
        for command in COMMAND.finditer(text):
            for asked in command[0].split("\0")[1::2]:
                if PLACE.search(asked) and "shlex." not in asked and asked not in quoted:
                    yield f"{asked} in {command[0]}".replace("\0", "|")


def test_the_search_finds_what_a_blank_tears_apart() -> None:
    assert list(unquoted("f'see `cp {path} {path}.old`'")) == [
        "path in `cp |path| |path|.old`",
        "path in `cp |path| |path|.old`",
    ]
    assert not list(unquoted("p = shlex.quote(path); f'see `cp {p}`, {path} and `x {path}`'"))


def test_paths_in_advised_commands_are_quoted() -> None:
    found = {
        str(file.relative_to(PACKAGE)): torn
        for file in sorted(PACKAGE.rglob("*.py"))
        if (torn := list(unquoted(file.read_text())))
    }
    assert not found


REPRO = "dvc repro"
NO_ADVICE = {
    "cli/app.py": ("The pipeline itself runs with `dvc repro`",),  # the help of `wsss`
    "commands.py": (REPRO,),  # where it is chosen
    "doctor/packages.py": ("`dvc repro`",),  # what there is not without DVC
    "doctor/project.py": (  # what DVC makes of dvc.yaml
        "`dvc repro` has nothing to do",
        "`dvc repro` may leave out",
    ),
    "pipeline/code.py": ("`dvc repro` runs a stage again",),  # a comment in wsss.lock
    "pipeline/lock.py": ("is not the one that `dvc repro` made",),  # a reason, of dvc.lock
    "project/files.py": ("dvc repro            # runs the stages",),  # a README, with `wsss run`
    "project/upgrade.py": ("in the repository `dvc repro` sees",),  # which is one of DVC
}
"""By module, what names the command and is no advice."""


def flat_advice(code: str, but: Iterable[str] = ()) -> list[str]:
    """Texts of a module, docstrings aside, with a command that not every project has."""
    tree = ast.parse(code)
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            for part in but:
                text = text.replace(part, "")
            if REPRO in text and node not in docstrings:
                found.append(node.value)
    return found


def test_the_search_finds_commands_that_not_every_project_has() -> None:
    assert flat_advice("say('run `dvc ' 'repro`')") == ["run `dvc repro`"]
    assert flat_advice("say(f'run `dvc repro {stage}`')") == ["run `dvc repro "]
    assert flat_advice("say('`dvc repro` sees; run `dvc repro`')", ["`dvc repro` sees"])
    assert not flat_advice("say('`dvc repro` sees')", ["`dvc repro` sees"])
    assert not flat_advice("'A docstring: `dvc repro`.'\nsay(f'run `{run_command(root)}`')")


def test_what_runs_stages_is_not_advised_flatly() -> None:
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        module = file.relative_to(PACKAGE).as_posix()
        if flat := flat_advice(file.read_text(encoding="utf-8"), NO_ADVICE.get(module, ())):
            found[module] = flat
    assert not found, "take run_command of wsss.commands"


@pytest.mark.parametrize("module", NO_ADVICE)
def test_what_is_no_advice_is_there(module: str) -> None:
    texts = flat_advice((PACKAGE / module).read_text(encoding="utf-8"))
    assert [part for part in NO_ADVICE[module] if not any(part in text for text in texts)] == []


@pytest.mark.parametrize("dvc", [True, False])
def test_what_is_advised_works_with_dvc_and_without(tmp_path: Path, dvc: bool) -> None:
    (tmp_path / "params.yaml").touch()
    if dvc:
        (tmp_path / ".dvc").mkdir()
    run = "dvc repro" if dvc else "wsss run"
    pull = ", `dvc pull` fetches one" if dvc else ""
    with pytest.raises(ValueError, match=f"; `{run} train_segmenter` trains one{pull}$"):
        open_model(str(tmp_path), "cpu")
    with pytest.raises(ValueError, match=f"; run `{run} prepare_data` first$"):
        selection_samples(Params(), Paths(tmp_path), 1)


def test_a_stage_runs_alone_with_dvc_and_without(tmp_path: Path) -> None:
    stages = "predict_masks", "evaluate_segmenter"
    assert run_command(tmp_path, *stages, alone=True) == (
        "python -m wsss.stages predict_masks && python -m wsss.stages evaluate_segmenter"
    )
    (tmp_path / ".dvc").mkdir()
    assert run_command(tmp_path, *stages, alone=True) == (
        "dvc repro --single-item --force predict_masks evaluate_segmenter"
    )


def test_room_is_made_where_dvc_keeps_results(tmp_path: Path) -> None:
    assert room(tmp_path) == ""
    (tmp_path / ".dvc").mkdir()
    assert "`dvc gc --workspace`" in room(tmp_path)
