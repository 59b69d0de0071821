"""The stages' declarations against the code and against dvc.yaml."""

import ast
from pathlib import Path

import pytest

from wsss.config.params import Params
from wsss.pipeline import Stage
from wsss.pipeline.code import COMMON
from wsss.pipeline.dvc import dvc_text
from wsss.stages import find_stages

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src/wsss"
STAGES = {stage.name: stage for stage in find_stages()}
# they show or record results and change none: stages need not run again for them
WITHOUT_EFFECT = {
    *("commands.py", "cores.py", "launch", "progress.py", "report", "stopping.py"),
    *("tracking", "__init__.py"),
}
NO_CODE = {SOURCE / "stages/__init__.py", SOURCE / "pipeline/__init__.py"}


def page(stage: Stage) -> Path:
    return SOURCE.joinpath(*stage.module.split(".")[1:]).with_suffix(".py")


def resolve(module: str) -> list[Path]:
    """The files of a wsss module: itself and the __init__ of its packages."""
    parts = module.split(".")[1:]
    files = [SOURCE.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    files.append(SOURCE.joinpath(*parts).with_suffix(".py") if parts else SOURCE / "__init__.py")
    return [file for file in files if file.is_file()]


def imports(file: Path) -> set[Path]:
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wsss"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in [str(node.module), *names]:
                found.update(resolve(name))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("wsss"):
                    found.update(resolve(alias.name))
    return found


def closure(file: Path) -> set[Path]:
    """Every file of the project that running `file` imports, effects on results only."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        at = waiting.pop()
        first = at.relative_to(SOURCE).parts[0]
        if at not in seen and first not in WITHOUT_EFFECT and at not in NO_CODE:
            seen.add(at)
            waiting.extend(imports(at))
    return seen


def test_dvc_yaml_is_what_the_stages_declare() -> None:
    assert (ROOT / "dvc.yaml").read_text(encoding="utf-8") == dvc_text(find_stages()), (
        "run `wsss dvc`"
    )


@pytest.mark.parametrize("name", STAGES)
def test_code_covers_the_imports(name: str) -> None:
    stage = STAGES[name]
    listed = [SOURCE / part for part in (*COMMON, *stage.code)] + [page(stage)]
    uncovered = sorted(
        str(file.relative_to(SOURCE))
        for file in closure(page(stage))
        if not any(file == path or path in file.parents for path in listed)
    )
    assert not uncovered, f"{name} uses these without declaring them as its code"


@pytest.mark.parametrize("name", STAGES)
def test_code_exists(name: str) -> None:
    assert [part for part in STAGES[name].code if not (SOURCE / part).exists()] == []


@pytest.mark.parametrize("name", STAGES)
def test_what_a_stage_reads_is_made_by_one_before_it(name: str) -> None:
    pipeline, params = find_stages(), Params()
    order = list(STAGES)
    for target in pipeline.targets(params):
        if target.stage.name == name:
            for path in target.inputs(params):
                source = pipeline.source(path, params)
                if target.stage.last and path in ("data/refined", "reports"):
                    continue  # folders of what several stages make
                assert source is not None, f"nothing makes {path}"
                assert order.index(source.stage.name) < order.index(name)


@pytest.mark.parametrize("name", STAGES)
def test_settings_are_those_of_params_yaml(name: str) -> None:
    stage, params = STAGES[name], Params()
    for entry in stage.entries_to_run(params):
        assert list(stage.settings_of(params, entry))
    assert not [key for key in stage.settings if key.startswith("machine")], (
        "results must not depend on the machine"
    )


def test_only_evaluation_and_preparation_see_the_masks() -> None:
    readers = {name for name, stage in STAGES.items() if "data/masks" in stage.reads}
    scoring = {name for name in STAGES if name.startswith("evaluate_")}
    assert readers == {*scoring, "report"}
    assert {stage.name for stage in STAGES.values() if stage.evaluates} == scoring


def test_the_report_comes_after_all_others() -> None:
    pipeline, params = find_stages(), Params()
    target = pipeline.target("report", params)
    assert pipeline.stages[-1] is target.stage
    assert pipeline.upstream(target, params) == pipeline.targets(params)
