"""What a study compares: rows, each a recipe, on data and at a size that all have in common."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from wsss.artifacts import fingerprint
from wsss.checks import did_you_mean
from wsss.config.params import Params
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params
from wsss.config.shipped import recipe_files
from wsss.config.yaml_text import load_yaml, read_text
from wsss.settings import ConfigError, Settings, explain
from wsss.sources import find_source, held, named_sources

__all__ = [
    "CHAIN",
    "FOLDER",
    "TARGETS",
    "Ground",
    "Plan",
    "PlanColumn",
    "Row",
    "ground_of",
    "read_plan",
    "row_params",
]

FOLDER = "recipes/studies"
"""Where studies are described, one YAML file each, below the project's root."""

CHAIN = "studied"
"""The chain of params.yaml that studies of maps run and score."""

TARGETS = ("evaluate_cams", f"evaluate_refined@{CHAIN}")
"""What a row runs where its study does not say."""


class Row(Settings):
    """One line of the table."""

    recipe: str
    """A name in recipes/."""
    set: dict[str, Any] = Field(default={})
    """Dotted keys of params.yaml that differ from the recipe in this row."""
    note: str = ""
    """What the table says beside it."""


class PlanColumn(Settings):
    """One column of the table."""

    metric: str
    """A stage and its metric, as "evaluate_cams/val/mean_iou"."""
    score: bool = False
    """Higher is better: three digits, the spread over seeds, and the best one in bold."""
    relative_to: str = ""
    """A row whose mean is 100 %."""


class Plan(Settings):
    """A study, as in its YAML file."""

    title: str
    extends: str = ""
    """Another study, whose common keys and sizes this one has, too, where it does not say them."""
    about: str = ""
    """A paragraph above the table."""
    common: dict[str, Any] = Field(default={})
    """Dotted keys of params.yaml that all rows share, over what their recipes say."""
    sizes: dict[str, dict[str, Any]] = Field(min_length=1)
    """Further dotted keys by size, such as the number of images and epochs."""
    columns: dict[str, PlanColumn] = Field(min_length=1)
    """What the table shows of each row, by heading."""
    compared: str
    """The heading of the column in which rows are compared with the baseline."""
    baseline: str
    """The row that the others are compared with."""
    repeated: tuple[str, ...] = ()
    """Rows that run with further seeds where more than one is asked for; empty repeats all."""
    targets: tuple[str, ...] = TARGETS
    """The stages whose results are wanted, by full name; they run with all that they need."""
    rows: dict[str, Row] = Field(min_length=1)


@dataclass(frozen=True)
class Ground:
    """What all rows of a table share, without which they say nothing about one another.

    Attributes:
        settings: a hash of the study's common keys, the size's, and those of the data.
        data: a hash of the images that these name; "" where they are not on this machine.
    """

    settings: str
    data: str

    @classmethod
    def parse(cls, text: str) -> "Ground | None":
        """Read what `str` gives, such as "1f0c… of 9ab2…"; None of anything else."""
        found = re.fullmatch(r"(\w{16}) of (\w{16}|none)", text.strip())
        return cls(found[1], found[2].removesuffix("none")) if found else None

    def __str__(self) -> str:
        return f"{self.settings} of {self.data or 'none'}"

    def is_that_of(self, other: "Ground | None") -> bool:
        """Whether rows of both may stand in one table; data that are not here may be any."""
        if other is None or self.settings != other.settings:
            return False
        return not self.data or not other.data or self.data == other.data


def ground_of(root: Path, plan: Plan, size: str) -> Ground:
    """Say what all rows of a study share at a size; errors as `row_params`."""
    params = row_params(root, plan, plan.baseline, size)
    data = params.prepare_data
    named = data.model_dump(mode="json", exclude_defaults=True)
    settings = fingerprint(plan.common, plan.sizes[size], named, params.base.rng_seed)[:16]
    texts = named_sources(named)  # of defaults, such as corrections, there need be none
    paths = [find_source(text) for text in texts.values()]
    contents = [held(path, root).contents for path in paths if path is not None]
    here = len(contents) == len(texts)
    return Ground(settings, fingerprint(contents)[:16] if here else "")


def read_plan(root: Path, name: str) -> Plan:
    """Read recipes/studies/<name>.yaml, or one that ships of that name.

    Raises:
        ConfigError: there is no such study, or it does not fit.
    """
    known = recipe_files(root / "recipes", "studies")
    if name not in known:
        raise ConfigError(f"no study is named '{name}'; {did_you_mean(name, known)}")
    path = known[name]
    values = load_yaml(read_text(path), str(path))
    if isinstance(values, dict) and values.get("extends"):
        base = read_plan(root, values["extends"])
        values["common"] = base.common | (values.get("common") or {})
        values.setdefault("sizes", base.sizes)
    try:
        plan = Plan.model_validate(values)
    except ValidationError as error:
        raise explain(error, str(path), Plan, values) from None
    whole = (column.relative_to for column in plan.columns.values() if column.relative_to)
    for row in (plan.baseline, *plan.repeated, *whole):
        if row not in plan.rows:
            raise ConfigError(f"{path} names the row '{row}'; {did_you_mean(row, plan.rows)}")
    of_stages = [target.partition("@")[0] for target in plan.targets]
    for heading, column in plan.columns.items():
        stage, _, metric = column.metric.partition("/")
        if of_stages.count(stage) > 1:
            names = [x.replace("@", "_") for x in plan.targets if x.startswith(f"{stage}@")]
            raise ConfigError(
                f"{path}: the column '{heading}' shows {column.metric}, of which the targets "
                f"{', '.join(names)} have one each; name one, such as {names[0]}/{metric}"
            )
    if plan.compared not in plan.columns:
        hint = did_you_mean(plan.compared, plan.columns)
        raise ConfigError(f"{path} compares the column '{plan.compared}'; {hint}")
    return plan


def row_params(root: Path, plan: Plan, row: str, size: str) -> Params:
    """The settings of one row.

    Args:
        root: the project, with params.yaml and recipes/.
        plan: the study.
        row: a name in its rows.
        size: a name in its sizes.

    Raises:
        ConfigError: the recipe, the row or the size does not exist, or a value does not fit.
    """
    if row not in plan.rows:
        raise ConfigError(f"the study has no row '{row}'; {did_you_mean(row, plan.rows)}")
    if size not in plan.sizes:
        raise ConfigError(f"the study has no size '{size}'; {did_you_mean(size, plan.sizes)}")
    recipes = root / "recipes"
    settings: Mapping[str, Any] = plan.common | plan.sizes[size] | plan.rows[row].set
    return recipe_params(
        load_yaml(read_text(root / "params.yaml"), "params.yaml"),
        Recipe.read(recipes, plan.rows[row].recipe),
        Recipe.read(recipes, BASE_RECIPE),
        settings,
    )
