"""Searches as YAML files: what they vary, what they start from, and how trials are scored."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError

from wsss.checks import ConfigError, did_you_mean
from wsss.config.params import Params, parse_params
from wsss.config.recipes import (
    BASE_RECIPE,
    Recipe,
    is_file_name,
    recipe_values,
    with_settings,
)
from wsss.config.shipped import recipe_files
from wsss.config.yaml_text import load_yaml, read_text
from wsss.settings import Settings, explain
from wsss.tuning.base import plain_at, setting_of
from wsss.tuning.space import Range, Space, full_key_of

__all__ = ["FOLDER", "Plan", "PruneSettings", "SearchSettings", "make_plan", "read_search"]

FOLDER = "recipes/tuning"
"""Where searches are described, one YAML file each, below the project's root."""


class PruneSettings(Settings):
    """When a trial whose training goes badly is ended early."""

    trials: NonNegativeInt = 5
    """So many are trained to the end before."""
    epochs: NonNegativeInt = 1
    """Of each trial, that are not looked at."""


class SearchSettings(Settings):
    """A search, as in its YAML file."""

    about: str = ""
    """What it is for."""
    recipe: str = ""
    """What trials start from, a name in recipes/ or a file; empty is params.yaml."""
    set: dict[str, Any] = Field(default={})
    """Dotted keys of params.yaml that differ from it in all trials."""
    chain: str = "crf"
    """What {chain} stands for in the keys of `space`, a name in refine.chains."""
    space: dict[str, Range] = Field(min_length=1)
    """What is varied, by dotted key of params.yaml."""
    score: str = ""
    """The evaluation whose evaluate.select_by on the selection split is the score, by full name;
    empty is the first one that all of `space` has an effect on."""
    seconds_per_image: bool = False
    """Searches for few seconds per image, too: of what comes before the score, trainings left
    out."""
    sampler: Literal["tpe", "random", "grid", "cmaes"] = "tpe"
    """How values are chosen: by what earlier trials say, at random, all of them, or by CMA-ES."""
    seed: NonNegativeInt | None = None
    """Of the sampler; null follows base.rng_seed."""
    prune: PruneSettings | None = PruneSettings()
    """Trials whose training scores below the median of the others' are ended; null trains all."""
    trials: PositiveInt = 40
    """How many `wsss tune run` adds where it is not told."""
    max_images: PositiveInt = 200
    """Selection images that score a trial, drawn from rng_seed where there are more. A search of
    one refine chain keeps them in memory, in each worker: 4 bytes a pixel, and 4 more per class
    where a refiner stands before."""


@dataclass(frozen=True)
class Plan:
    """A search on a project.

    Attributes:
        name: of its file.
        settings: of the search.
        values: the plain tree of params.yaml that trials change.
        project: params.yaml, which what lies in the project was made with.
    """

    name: str
    settings: SearchSettings
    values: Mapping[str, Any]
    project: Params
    space: Space

    @property
    def params(self) -> Params:
        """The settings that trials change."""
        return self.space.params

    @property
    def metric(self) -> str:
        """What scores a trial, such as "mean_iou"."""
        return self.params.evaluate.select_by


def read_search(
    root: Path, name: str, overrides: Mapping[str, Any] | None = None
) -> tuple[str, SearchSettings]:
    """Read recipes/tuning/<name>.yaml, one that ships of that name, or a file anywhere.

    Args:
        root: the project.
        name: of the file, without .yaml; or a file, such as "mine/crf.yaml".
        overrides: keys of the file with other values, and keys that are searched, or the last part
            of one, with another range: [low, high] or choices, or what differs of its mapping.

    Returns:
        The name by which trials are kept, and the search.

    Raises:
        ConfigError: there is no such file, or it does not fit.
    """
    if is_file_name(name):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"{path} is not a file; name a search, or a file that is one")
    else:
        known = recipe_files(root / "recipes", "tuning")
        if name not in known:
            raise ConfigError(f"no search is named '{name}'; {did_you_mean(name, known)}")
        path = known[name]
    if not re.fullmatch(r"[\w-]+", path.stem):
        raise ConfigError(f"{path}: trials are kept by its name; use letters, digits, _ and -")
    values = load_yaml(read_text(path), str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a search: space, and what else it needs")
    for key, value in (overrides or {}).items():
        values = _overridden(values, key, value)
    return path.stem, parse_search(values, str(path))


def parse_search(values: Mapping[str, Any], source: str) -> SearchSettings:
    """Validate a plain tree. Raises ConfigError with one line per mistake."""
    try:
        return SearchSettings.model_validate(values)
    except ValidationError as error:
        raise explain(error, source, SearchSettings, values) from None


def make_plan(root: Path, name: str, settings: SearchSettings, values: Mapping[str, Any]) -> Plan:
    """Lay a search over a project.

    Args:
        root: the project, with recipes/.
        name: of the search.
        settings: of the search.
        values: the plain tree of params.yaml.

    Raises:
        ConfigError: its recipe does not exist, or keys or ranges are none of params.yaml.
    """
    source = f"search '{name}'"
    project = parse_params(values)
    recipes = root / "recipes"
    if settings.recipe:
        layers = Recipe.read(recipes, settings.recipe), Recipe.read(recipes, BASE_RECIPE)
        start = recipe_values({}, *layers)
        machine = values.get("machine")
        if machine is not None:  # no result depends on it
            start = {**start, "machine": machine}
    else:
        start = dict(values)
    start = with_settings(start, settings.set)
    params = parse_params(start, f"{source}: what it starts from")

    def full(key: str) -> str:
        return full_key_of(key, params, settings.chain, source)

    ranges: dict[str, Range] = {}
    for key, wanted in settings.space.items():
        when = {full(other): allowed for other, allowed in wanted.when.items()}
        if full(key) in ranges:
            raise ConfigError(f"{source}: space has {full(key)} twice, once as {key}")
        ranges[full(key)] = wanted.model_copy(update={"when": when})
    space = Space(ranges, _named(start, params, ranges), params, source)
    space.check_conditions()
    return Plan(name, settings, space.values, project, space)


def _named(values: Mapping[str, Any], params: Params, keys: Iterable[str]) -> Mapping[str, Any]:
    """The tree with the names of sections that it leaves to their defaults, and keys lie in."""
    for key in keys:
        section = key.rpartition(".")[0]
        by_default = setting_of(params, f"{section}.name")
        if by_default is not None and plain_at(values, section) is None:
            values = with_settings(values, {f"{section}.name": by_default})
    return values


def _overridden(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The tree of a search with one of its keys, or one of its ranges, changed."""
    if key.partition(".")[0] in SearchSettings.model_fields:
        return with_settings(values, {key: value})
    space = values.get("space")
    known: dict[str, Any] = space if isinstance(space, dict) else {}
    found = [name for name in known if name == key or name.endswith(f".{key}")]
    if len(found) > 1:
        raise ConfigError(f"--set {key} may be each of {', '.join(found)}; write more of it")
    if not found:
        names = [*SearchSettings.model_fields, *known, *(name.rpartition(".")[2] for name in known)]
        raise ConfigError(
            f"--set {key}: the search has no such key, and does not vary it; "
            + did_you_mean(key, names)
        )
    old = known[found[0]] if isinstance(known[found[0]], dict) else {}
    if isinstance(value, list):
        if old.get("type") == "categorical":
            value = {"choices": value}
        elif len(value) == 2:
            value = {"low": value[0], "high": value[1]}
        else:
            raise ConfigError(f"--set {key} must be [smallest, largest], but is {value}")
    if not isinstance(value, dict):
        raise ConfigError(f"--set {key} must be a range, as [20, 80], but is {value!r}")
    return {**values, "space": {**known, found[0]: {**old, **value}}}
