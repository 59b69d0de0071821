"""A page of reference for each package, from its docstrings."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

SRC = Path(__file__).parents[2] / "src"
LEFT_OUT = {"wsss.cli"}
"""What is no library."""


def on_config(config: Any) -> Any:
    """Add the pages to the navigation, at its end."""
    config.nav.append({"Reference": [f"reference/{name}.md" for name in _packages()]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    for name in _packages():
        modules = [name, *(f"{name}.{stem}" for stem in _modules(SRC / name.replace(".", "/")))]
        page = "\n".join([f"# {name}\n", *(f"::: {module}\n" for module in modules)])
        files.append(File.generated(config, f"reference/{name}.md", content=page))
    return files


def _packages() -> list[str]:
    found = [
        ".".join(file.parent.relative_to(SRC).parts) for file in sorted(SRC.rglob("__init__.py"))
    ]
    return [name for name in found if name not in LEFT_OUT and "._" not in name]


def _modules(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))
