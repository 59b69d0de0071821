"""Programs that no test runs, as they take minutes: what they take from the package is there."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(
    path
    for folder in ("benchmarks", "docker", "examples", "tests/densecrf/hardening")
    for path in (ROOT / folder).rglob("*.py")
)


def imported(tree: ast.Module) -> list[tuple[str, str]]:
    """Modules of the package with a name that is taken from each, or none."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "wsss":
            found += [(str(node.module), alias.name) for alias in node.names]
        if isinstance(node, ast.Import):
            found += [(item.name, "") for item in node.names if item.name.split(".")[0] == "wsss"]
    return found


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_program_imports_is_there(path: Path) -> None:
    for module, name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        if name and not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")


def test_every_benchmark_says_how_it_is_run() -> None:
    for path in (ROOT / "benchmarks").glob("[!_]*.py"):
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert f"python benchmarks/{path.name}" in said, path
