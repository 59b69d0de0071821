"""Imports only point down, so that a package can be read and tested with what is above it."""

import ast
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "wsss"

LAYERS = [
    {"checks", "commands", "outside"},
    {"cores", "progress", "sources", "stopping", "windows"},
    {"seeding", "settings"},
    {"registry"},
    {"artifacts"},
    {"config"},
    {"densecrf"},
    {"data"},
    {"loading"},
    {"models"},
    {"clustering"},
    {"methods"},
    {"proposals"},
    {"cam", "refine", "segment", "evaluate"},
    {"training"},
    {"tracking"},
    {"prediction"},
    {"report"},
    {"api", "export"},
    {"server", "demo"},
    {"launch"},
    {"pipeline"},
    {"stages"},
    {
        *("tuning", "study", "runs", "serving", "downloads", "doctor", "project"),
        *("audit", "editors", "verify", "suggest", "cards"),
    },
    {"cli"},
    {"__main__"},
]
"""Foundations first. Packages of one layer do not import one another."""

RANK = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}

COMMANDS = {
    *("tuning", "study", "runs", "serving", "doctor", "project", "cli"),
    *("audit", "editors", "verify", "suggest", "cards"),
}

ONLY = {
    "tracking": {"tracking", "prediction", "pipeline", "stages", *COMMANDS},
    "launch": {"launch", "pipeline", "stages", "tuning", "study", "doctor", "project", "cli"},
    "pipeline": {"pipeline", "stages", "downloads", *COMMANDS},
    "stages": {"stages", *COMMANDS},
    "api": {"api", "demo", "cli"},
    **{
        name: {name, "cli"}
        for name in (
            *("tuning", "study", "runs", "serving", "downloads", "doctor", "project"),
            *("export", "server", "demo", "audit", "editors", "verify", "suggest", "cards"),
        )
    },
}
"""Who may import a package, itself included."""


def package_of(module: str) -> str:
    """The package of a module: "artifacts" of "wsss.artifacts.files"; "" of wsss itself."""
    return module.partition(".")[2].partition(".")[0]


def imports(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything of wsss that a module imports, also within functions.

    Imports for type checkers alone count too: they are not run, but a reader has to follow them.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *filter(None, [base])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def violations(module: str, source: str) -> list[str]:
    """What a module imports that it should not."""
    importer = package_of(module)
    found = []
    for line, name in imports(ast.parse(source), module):
        imported = package_of(name)
        if name.partition(".")[0] != "wsss" or imported in ("", "__version__", importer):
            continue
        if RANK[imported] >= RANK[importer]:
            found.append(f"{module}:{line} imports {name}, which is not above it")
        if importer not in ONLY.get(imported, {importer}):
            found.append(f"{module}:{line} imports {name}, kept for {sorted(ONLY[imported])}")
    return found


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; packages as wsss.x.__init__."""
    return {
        ".".join(("wsss", *path.relative_to(SRC).with_suffix("").parts)): path
        for path in sorted(SRC.rglob("*.py"))
    }


@pytest.mark.parametrize("module", [name for name in modules() if name != "wsss.__init__"])
def test_imports_point_down(module: str) -> None:
    assert package_of(module) in RANK, "a new package needs its place in LAYERS"
    assert violations(module, modules()[module].read_text(encoding="utf-8")) == []


def imported(module: str, source: str, known: Collection[str]) -> set[str]:
    """The modules among those known that a module imports, also within functions.

    A name of a package is a module of it if there is one, a compiled module if it is private, and
    otherwise what its __init__ holds.
    """
    found = set()
    for _, name in imports(ast.parse(source), module):
        parts = name.split(".")
        if parts[-1].startswith("_") and name not in known:
            continue
        while parts:
            whole = ".".join(parts)
            if target := next((x for x in (whole, f"{whole}.__init__") if x in known), None):
                found.add(target)
                break
            parts.pop()
    return found - {module, "wsss.__init__"}


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Groups of modules each of which imports, over others, all of its group."""
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = sorted(set(error.args[1]))
        rest = {
            module: [name for name in names if name not in circle]
            for module, names in graph.items()
            if module not in circle
        }
        return [circle, *circles(rest)]
    return []


def test_no_modules_import_in_a_circle() -> None:
    """Each can be read, and tested, after those that it imports."""
    paths = modules()
    known = {*paths, "wsss.densecrf._native"}  # which is compiled
    graph = {
        module: imported(module, path.read_text(encoding="utf-8"), known)
        for module, path in paths.items()
    }
    assert circles(graph) == []


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ({"wsss.a": "from wsss import b", "wsss.b": "import os"}, []),
        ({"wsss.a": "from wsss import b", "wsss.b": "import wsss.a"}, [["wsss.a", "wsss.b"]]),
        (
            {"wsss.a": "def f():\n    from wsss.b import x", "wsss.b": "import wsss.a"},
            [["wsss.a", "wsss.b"]],
        ),
        (
            {
                "wsss.a.__init__": "from wsss.a.b import x",
                "wsss.a.b": "from wsss.a.c import y",
                "wsss.a.c": "",
            },
            [],
        ),
        (
            {"wsss.a.__init__": "from wsss.a.b import x", "wsss.a.b": "from wsss.a import x"},
            [["wsss.a.__init__", "wsss.a.b"]],
        ),
    ],
)
def test_circles_are_found(sources: dict[str, str], found: list[list[str]]) -> None:
    graph = {module: imported(module, source, sources) for module, source in sources.items()}
    assert circles(graph) == found


def test_wsss_itself_imports_what_it_gives_and_that_for_type_checkers_alone() -> None:
    """tests/api/test_door.py sees that nothing of it is imported when wsss is."""
    tree = ast.parse((SRC / "__init__.py").read_text())
    found = {name for _, name in imports(tree, "wsss.__init__") if name.startswith("wsss")}
    assert {name.rpartition(".")[0] for name in found} == {"wsss.api"}


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("wsss.artifacts.files", "from wsss.checks import check_shape", 0),
        ("wsss.artifacts.files", "from wsss.artifacts import manifest", 0),
        ("wsss.artifacts.files", "import numpy", 0),
        ("wsss.artifacts.files", "import wsss.data.folder", 1),
        ("wsss.artifacts.files", "from wsss import stages", 2),
        ("wsss.artifacts.files", "def f():\n    from wsss.cam import x", 1),
        ("wsss.cam.cam", "from wsss.refine import refine", 1),
        ("wsss.cam.cam", "from ..evaluate import metrics", 1),
        ("wsss.cam.cam", "from . import multiscale", 0),
        ("wsss.report.cells", "from wsss.tracking import Tracker", 1),
        ("wsss.stages.refine_cams", "from wsss.tracking import Tracker", 0),
        ("wsss.stages.refine_cams", "from wsss.tuning import search", 2),
        ("wsss.registry", "from wsss.settings import Settings", 0),
    ],
)
def test_the_rules_find_what_they_should(module: str, source: str, wrong: int) -> None:
    assert len(violations(module, source)) == wrong


READ_MASKS = {
    "wsss.stages._annotation_checks",
    "wsss.stages._annotation_parts",
    "wsss.stages._annotations",
    "wsss.stages._data_checks",
    "wsss.stages._data_report",
    "wsss.stages._lists",
    "wsss.stages._mask_checks",
    "wsss.stages._mask_meanings",
    "wsss.stages._preparation",
    "wsss.stages.data_check",
    "wsss.stages._shrinking",
    "wsss.stages.evaluate",
    "wsss.stages._report.known",
    "wsss.report.cells",
    "wsss.pipeline.job",
}
"""Outside `evaluate`, who takes masks of annotators: one stage checks and stores them, and copies
those to learn from; one scores with them, two draw them beside the results."""


READERS = ("wsss.evaluate.ground_truth", "wsss.evaluate.placing")


def ground_truth_uses(source: str) -> list[str]:
    """Where a module takes masks of annotators: paths.masks, a sample's mask, or their reader."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            full = ast.unparse(node)
            if full.endswith("paths.masks") or (node.attr == "mask" and full != "self.mask"):
                found.append(f"{node.lineno}: {full}")
        elif isinstance(node, ast.ImportFrom) and node.module in READERS:
            found.append(f"{node.lineno}: {node.module}")
    return found


PIPELINE = (
    "models",
    "methods",
    "proposals",
    "cam",
    "refine",
    "segment",
    "training",
    "report",
    "pipeline",
    "stages",
)


@pytest.mark.parametrize(
    "module",
    [name for name in modules() if package_of(name) in PIPELINE and name not in READ_MASKS],
)
def test_evaluation_alone_reads_ground_truth(module: str) -> None:
    """Masks of annotators reach neither training nor refinement: that is the whole point."""
    assert ground_truth_uses(modules()[module].read_text(encoding="utf-8")) == []


def test_the_readers_of_ground_truth_are_seen() -> None:
    for module in READ_MASKS & set(modules()):
        assert ground_truth_uses(modules()[module].read_text(encoding="utf-8")), module


@pytest.mark.parametrize("module", modules())
def test_a_private_module_is_for_its_own_package(module: str) -> None:
    source = modules()[module].read_text(encoding="utf-8")
    outside = [
        f"{line}: {name}"
        for line, name in imports(ast.parse(source), module)
        if package_of(name) != package_of(module)
        and any(part.startswith("_") for part in name.split(".")[2:-1])
    ]
    assert outside == []
