"""How good a trial is, and whether settings have its values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsss.checks import ConfigError
from wsss.config.params import Params, parse_params
from wsss.config.recipes import with_settings

__all__ = ["Score", "holds", "plain_at", "setting_of"]


@dataclass(frozen=True)
class Score:
    """How good settings are.

    Attributes:
        value: of evaluate.select_by on the selection split; larger is better.
        threshold: the score above which a pixel is foreground, chosen on the same images; None
            where masks are scored.
        seconds: per image, of what is searched; None where that is nothing but a training.
    """

    value: float
    threshold: float | None = None
    seconds: float | None = None


def holds(params: Params, settings: Mapping[str, Any]) -> bool:
    """Whether `params` has all these settings, by dotted key; sections may be written in part."""
    tree = params.model_dump(mode="json")
    parts = {key: value for key, value in settings.items() if plain_at(tree, key) != value}
    if not all(isinstance(value, list | dict) for value in parts.values()):
        return False
    try:
        return not parts or parse_params(with_settings(tree, parts)) == params
    except ConfigError:
        return False


def setting_of(params: Params, key: str) -> Any:
    """The plain value of a setting; None where there is none."""
    return plain_at(params.model_dump(mode="json"), key)


def plain_at(tree: Any, key: str) -> Any:
    """What stands at a dotted key of a plain tree; None where there is nothing."""
    for part in key.split("."):
        if isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        elif isinstance(tree, dict) and part in tree:
            tree = tree[part]
        else:
            return None
    return tree
