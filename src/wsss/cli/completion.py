"""What a shell completes besides commands and options: at once, so nothing is checked."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["key_values", "recipes", "searches", "stages", "studies"]


def recipes(incomplete: str) -> list[str]:
    """Names of recipes."""
    return _names("", incomplete)


def searches(incomplete: str) -> list[str]:
    """Names of searches."""
    return _names("tuning", incomplete)


def studies(incomplete: str) -> list[str]:
    """Names of studies."""
    return _names("studies", incomplete)


def stages(incomplete: str) -> list[str]:
    """Names of stages, as dvc.yaml has them."""
    found = re.findall(r"^  (\w+):$", _text("dvc.yaml"), re.MULTILINE)
    return [name for name in found if name.startswith(incomplete)]


def key_values(incomplete: str) -> list[str]:
    """Dotted keys of params.yaml, each with its value, which is there to be changed."""
    from wsss.config.yaml_text import flow_text, load_yaml
    from wsss.settings import ConfigError

    try:
        values = load_yaml(_text("params.yaml"), "params.yaml")
    except ConfigError:
        return []
    pairs = (f"{key}={flow_text(value)}" for key, value in _leaves(values))
    return [pair for pair in pairs if pair.startswith(incomplete)]


def _leaves(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    below: dict[Any, Any] = {}
    if isinstance(values, dict):
        below = values
    elif isinstance(values, list) and any(isinstance(value, dict) for value in values):
        below = dict(enumerate(values))
    if not below and key:
        yield key, values
    for name, value in below.items():
        yield from _leaves(value, f"{key}.{name}" if key else str(name))


def _names(kind: str, incomplete: str) -> list[str]:
    from wsss.config.shipped import recipe_files

    return [name for name in recipe_files(Path("recipes"), kind) if name.startswith(incomplete)]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
