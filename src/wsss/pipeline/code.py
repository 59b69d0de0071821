"""The code that a stage's results come from, Python and native."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from wsss.artifacts import fingerprint

__all__ = ["COMMON", "NATIVE", "code_files", "code_fingerprint", "uses_native"]

COMMON = (
    "artifacts",
    "checks.py",
    "config",
    "pipeline/code.py",
    "pipeline/graph.py",
    "pipeline/job.py",
    "pipeline/stage.py",
    "pipeline/staging.py",
    "registry.py",
    "seeding.py",
    "settings.py",
    "sources.py",
)
"""What every stage uses, below src/wsss."""

NATIVE = "csrc"
"""The sources of the compiled filter, which `densecrf` is the Python face of."""

_PACKAGE = Path(__file__).parents[1]


def uses_native(code: Sequence[str]) -> bool:
    """Whether results come from the compiled filter, too."""
    return "densecrf" in code


def code_files(code: Sequence[str]) -> list[Path]:
    """All files of packages and modules below src/wsss, and the native sources behind them.

    An installed package has no native sources; there it is the compiled module.
    """
    files = [file for name in code for file in _python(_PACKAGE / name)]
    if uses_native(code):
        sources = _PACKAGE.parents[1] / NATIVE
        if sources.is_dir():
            files += sorted(file for file in sources.rglob("*") if file.is_file())
        else:
            files += sorted((_PACKAGE / "densecrf").glob("_native*.so"))
            files += sorted((_PACKAGE / "densecrf").glob("_native*.pyd"))
    return files


def code_fingerprint(code: Sequence[str], module: str) -> str:
    """A hash of the files of `code_files`, the common ones, and a stage's own page.

    Edited code neither goes on with old work nor takes old results for its own.
    """
    page = sys.modules[module].__file__
    return fingerprint(files=[*code_files([*COMMON, *code]), *([Path(page)] if page else [])])


def _python(path: Path) -> Iterator[Path]:
    yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]
