"""dvc.yaml against the code: a stage must list every package its results come from."""

import ast
from pathlib import Path

import pytest
import yaml

from wsss.config.params import Params

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src/wsss"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# they show or record results and change none: stages need not run again for them
WITHOUT_EFFECT = {"cores.py", "progress.py", "report", "tracking", "__init__.py"}
DOCSTRING_ONLY = SOURCE / "stages/__init__.py"


def body(name: str) -> dict[str, object]:
    return STAGES[name].get("do", STAGES[name])


def script(name: str) -> Path:
    module = str(body(name)["cmd"]).split()[2]
    return SOURCE.joinpath(*module.split(".")[1:]).with_suffix(".py")


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
            found.update(one for name in [str(node.module), *names] for one in resolve(name))
        elif isinstance(node, ast.Import):
            found.update(
                one
                for alias in node.names
                if alias.name.startswith("wsss")
                for one in resolve(alias.name)
            )
    return found


def closure(file: Path) -> set[Path]:
    """Every file of the project that running `file` imports, effects on results only."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        at = waiting.pop()
        first = at.relative_to(SOURCE).parts[0]
        if at not in seen and first not in WITHOUT_EFFECT and at != DOCSTRING_ONLY:
            seen.add(at)
            waiting.extend(imports(at))
    return seen


@pytest.mark.parametrize("name", STAGES)
def test_deps_cover_the_imports(name: str) -> None:
    deps = [ROOT / str(one) for one in body(name)["deps"] if str(one).startswith("src/")]
    uncovered = sorted(
        str(file.relative_to(ROOT))
        for file in closure(script(name))
        if not any(file == dep or dep in file.parents for dep in deps)
    )
    assert not uncovered, f"dvc.yaml: {name} uses these without listing them in deps"


@pytest.mark.parametrize("name", STAGES)
def test_deps_exist_or_are_made(name: str) -> None:
    made = {str(out) for other in STAGES for out in outs(other)}
    for dep in body(name)["deps"]:
        dep = str(dep).replace("${make_pseudo_masks.chain}", "${key}")
        assert dep in made or (ROOT / dep).exists(), f"{name}: nothing makes {dep}"


def outs(name: str) -> list[str]:
    entries = [
        entry
        for kind in ("outs", "metrics", "plots")
        for entry in body(name).get(kind, [])  # type: ignore[attr-defined]
    ]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


@pytest.mark.parametrize("name", STAGES)
def test_params_are_sections_the_settings_have(name: str) -> None:
    for param in body(name).get("params", []):  # type: ignore[attr-defined]
        section = str(param).split(".")[0]
        assert section in Params.model_fields
        assert section != "machine", "results must not depend on the machine"


def test_only_evaluation_and_preparation_see_the_masks() -> None:
    readers = {name for name in STAGES if "data/masks" in body(name)["deps"]}
    assert readers == {name for name in STAGES if name.startswith("evaluate_")}


def test_run_ids_and_pictures_are_no_outs() -> None:
    """They differ from run to run, and would make every clone's dvc.lock differ."""
    for name in STAGES:
        assert not [out for out in outs(name) if out.endswith((".run.json", ".png"))]
