"""What a recipe states of its runs: a value and its spread for each part of the road."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, PositiveInt, ValidationError

from wsss.artifacts import atomic_path, fingerprint
from wsss.config.params import Params
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params
from wsss.config.shipped import recipe_files
from wsss.config.yaml_text import load_yaml, read_text
from wsss.pipeline import Pipeline
from wsss.settings import ConfigError, Settings, explain
from wsss.sources import SOURCE_KEYS
from wsss.verify.road import ROAD, TAGS, target_of

__all__ = [
    "Expected",
    "Known",
    "Step",
    "expected_params",
    "own_settings",
    "read_expected",
    "summarised",
    "write_expected",
]

CONFIDENCE = 0.99
"""Share of runs as good as those measured that lie within what is allowed of a score."""


class Known(Settings):
    """What a score is in runs of a recipe."""

    mean: float
    """Over the runs."""
    spread: float | None = Field(default=None, ge=0)
    """The standard deviation of one run; null where only one was measured."""

    def allowed(self, runs: int, slack: float) -> float | None:
        """How far one more run may lie from the mean; None where nobody knows.

        That is the prediction interval of Student's t: of few runs neither the mean nor the
        spread is known well.

        Args:
            runs: that were measured.
            slack: what is allowed at least.
        """
        from scipy.stats import t  # type: ignore[import-untyped]

        if self.spread is None or runs < 2:
            return None
        factor = float(t.ppf((1 + CONFIDENCE) / 2, runs - 1)) * math.sqrt(1 + 1 / runs)
        return max(factor * self.spread, slack)


class Step(Settings):
    """What is known of a part of the road."""

    settings: str
    """A hash of the settings that it depends on."""
    values: dict[str, Known] = Field(min_length=1)
    """By name of the score."""


class Expected(Settings):
    """The block `expected` of a recipe."""

    runs: PositiveInt
    """How many were measured, with base.rng_seed and the numbers after it."""
    measured_with: str
    """Versions and device."""
    set: dict[str, Any] = Field(default={})
    """Dotted keys that differed from the recipe, such as those of a smaller size."""
    tags: str = ""
    """A hash of the names, sizes and tags of the images of the first run."""
    same_data: bool = False
    """Whether all runs had the images of the first, so that spreads are those of training alone."""
    steps: dict[str, Step] = Field(min_length=1)
    """By name of the part."""


def read_expected(root: Path, name: str) -> tuple[Recipe, Expected]:
    """Read what a recipe states.

    Args:
        root: the project.
        name: of the recipe.

    Raises:
        ConfigError: there is no such recipe, it states nothing, or not what it should.
    """
    recipe = Recipe.read(root / "recipes", name)
    if recipe.expected is None:
        raise ConfigError(
            f"the recipe '{name}' states no expected values; `wsss verify --record` runs it "
            "several times and writes them into it"
        )
    source = f"recipe '{name}': expected"
    try:
        return recipe, Expected.model_validate(recipe.expected)
    except ValidationError as error:
        raise explain(error, source, Expected, recipe.expected) from None


def expected_params(root: Path, recipe: Recipe, settings: Mapping[str, Any]) -> Params:
    """The settings that the numbers of a recipe are of."""
    base = Recipe.read(root / "recipes", BASE_RECIPE)
    return recipe_params({}, recipe, base, settings)


def own_settings(pipeline: Pipeline, name: str, params: Params) -> dict[str, Any]:
    """By dotted key, the settings that a stage and all before it depend on; without the seed.

    What is at its default is left out, so that a setting that is new changes nothing, and of files
    all but their names: data are known by their tags.
    """
    plain = params.model_dump(mode="json", exclude_defaults=True)
    plain.get("base", {}).pop("rng_seed", None)
    keys = {
        key
        for target in pipeline.upstream(pipeline.target(name, params), params)
        for key in target.settings(params)
    }
    found = {}
    for key in keys:
        value: Any = plain
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            found[key] = _placeless(value)
    return dict(sorted(found.items()))


def _placeless(value: Any, key: str = "") -> Any:
    """A setting in which files and folders have their names alone, wherever a machine has them."""
    if isinstance(value, Mapping):
        return {own: _placeless(held, own) for own, held in value.items()}
    if isinstance(value, list):
        return [_placeless(held, key) for held in value]
    if key in SOURCE_KEYS and isinstance(value, str):
        return value.rpartition("/")[2]
    return value


def summarised(
    pipeline: Pipeline,
    params: Params,
    runs: Sequence[Mapping[str, Mapping[str, float | str]]],
    measured_with: str,
    settings: Mapping[str, Any],
) -> Expected:
    """Means and spreads of runs.

    Args:
        pipeline: all stages.
        params: of the runs, but for their seeds.
        runs: of each, by name of the part, what `measured` gave; the first with the recipe's seed.
        measured_with: versions and device.
        settings: dotted keys in which `params` differ from the recipe.

    Raises:
        ValueError: there is no run, or a run lacks what another one has.
    """
    if not runs:
        raise ValueError("there is no run to take values from")
    steps = {}
    for mile in ROAD:
        found = [run[mile.name] for run in runs if run.get(mile.name)]
        if not found:
            continue
        names = [name for name in found[0] if name != TAGS]
        if len(found) < len(runs) or any(set(own) != set(found[0]) for own in found):
            raise ValueError(
                f"some of the {len(runs)} runs lack a score of the {mile.name} that others have: "
                f"{', '.join(names)}; run them with the same settings to the end"
            )
        values = {}
        for name in names:
            numbers = [float(own[name]) for own in found]
            mean = sum(numbers) / len(numbers)
            spread = None
            if len(numbers) > 1:
                squares = sum((number - mean) ** 2 for number in numbers)
                spread = round(math.sqrt(squares / (len(numbers) - 1)), 6)
            values[name] = Known(mean=round(mean, 6), spread=spread)
        own = own_settings(pipeline, target_of(mile, params), params)
        steps[mile.name] = Step(settings=fingerprint(own)[:16], values=values)
    return Expected(
        runs=len(runs),
        measured_with=measured_with,
        set=dict(settings),
        tags=str(runs[0].get("data", {}).get(TAGS, "")),
        same_data=len({run.get("data", {}).get(TAGS) for run in runs}) == 1,
        steps=steps,
    )


def write_expected(root: Path, name: str, expected: Expected) -> Path:
    """Put the block at the end of a recipe of the project, in place of an older one.

    Args:
        root: the project.
        name: of the recipe.
        expected: what to state.

    Raises:
        ConfigError: the recipe is not in the project's folder recipes/, but ships with wsss.
    """
    path = recipe_files(root / "recipes").get(name)
    if path is None or path.resolve().parent != (root / "recipes").resolve():
        raise ConfigError(
            f"the recipe '{name}' is not in {root / 'recipes'}, where its expected values would be "
            "written; `wsss recipe save NAME` makes one of the settings here, and then "
            "`wsss recipe apply NAME`"
        )
    text = re.sub(r"(?ms)^# What runs of it score.*\Z|^expected:.*\Z", "", read_text(path))
    plain = expected.model_dump(mode="json", exclude_defaults=True)
    listed = yaml.safe_dump(
        {"expected": plain}, sort_keys=False, width=100, allow_unicode=True, default_flow_style=None
    )
    comment = "# What runs of it score, as `wsss verify --record` measured it; see docs/verify.md"
    new = f"{text.rstrip()}\n\n{comment}\n{listed}"
    load_yaml(new, str(path))
    with atomic_path(path) as temporary:
        temporary.write_text(new, encoding="utf-8")
    return path
