"""What a search is: which settings it varies, and how good a set of them is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from wsss.artifacts import Paths
from wsss.config.params import Params, parse_params

__all__ = ["Score", "Search", "changed", "holds", "replaced", "setting"]


@dataclass(frozen=True)
class Score:
    """How good settings are.

    Attributes:
        value: of evaluate.select_by on the selection split; larger is better.
        threshold: the score above which a pixel is foreground, chosen on the same images.
    """

    value: float
    threshold: float


class Search(Protocol):
    """Built from its settings; registered with `SEARCHES`.

    A setting of params.yaml is named by its dotted key, such as "refine.chains.crf.0.sigma_xy".

    Attributes:
        chain: a name in refine.chains, whose settings are varied and whose maps are scored.
    """

    chain: str

    def check(self, params: Params, paths: Paths) -> None:
        """Raise ValueError, before long work, if the search cannot run here."""

    def key(self, params: Params, paths: Paths) -> str:
        """A hash of all that decides a score but the settings searched: trials of one key compare.

        Raises ValueError as `check` does.
        """

    def current(self, params: Params) -> dict[str, Any]:
        """The trial parameters that stand for params.yaml as it is; they are tried first."""

    def suggest(self, trial: Any, params: Params) -> dict[str, Any]:
        """Draw the parameters of an Optuna trial; return the settings they stand for."""

    def scorer(self, params: Params, paths: Paths) -> Callable[[Params], Score]:
        """Read what every trial needs; the function returned scores one set of settings."""


def changed(params: Params, settings: Mapping[str, Any]) -> Params:
    """A validated copy with some settings changed.

    Example:
        >>> changed(Params(), {"refine.chains.crf.0.sigma_xy": 9}).refine.chains["crf"][0].sigma_xy
        9.0
    """
    return parse_params(replaced(params, settings), "the trial's settings")


def replaced(params: Params, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The plain tree of values with some of them replaced."""
    tree = params.model_dump(mode="json")
    for key, value in settings.items():
        section, _, last = key.rpartition(".")
        _at(tree, section)[last] = value
    return tree


def setting(params: Params, key: str) -> Any:
    """The plain value of a setting; None where there is none."""
    section, _, last = key.rpartition(".")
    return _at(params.model_dump(mode="json"), section).get(last)


def holds(params: Params, settings: Mapping[str, Any]) -> bool:
    """Whether `params` has all these settings."""
    tree = params.model_dump(mode="json")
    return all(_at(tree, key) == value for key, value in settings.items())


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree
