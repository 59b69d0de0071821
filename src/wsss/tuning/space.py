"""What a search varies: ranges of settings, and in which trials each of them counts."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import product
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from wsss.checks import ConfigError, did_you_mean
from wsss.config.params import Params, parse_params
from wsss.config.recipes import with_settings
from wsss.settings import Settings

__all__ = ["Range", "Space", "full_key_of", "in_order"]

AS_IT_IS = "as_it_is"
"""User attribute of a trial of the values that params.yaml has."""

DIGITS = 4
"""Of numbers that are drawn: enough, and short in params.yaml."""


class Range(Settings):
    """The values that one setting may take, and in which trials it is set at all."""

    type: Literal["float", "int", "categorical"]
    low: float | int | None = None
    """The smallest value of a number."""
    high: float | int | None = None
    """The largest one; it may be drawn."""
    log: bool = False
    """Drawn by ratio, as for scales that span decades."""
    step: float | int | None = Field(default=None, gt=0)
    """Distance of values from `low` on; of int 1 by default, of float without one any number."""
    choices: tuple[Any, ...] = ()
    """The values of `categorical`: of any kind, also lists and whole sections."""
    when: dict[str, Any] = Field(default={})
    """Other settings by dotted key with the value, or a list of the values, at which this one is
    set; in other trials it stays as it was."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.type == "categorical":
            if not self.choices or (self.low, self.high, self.step) != (None, None, None):
                raise ValueError("categorical has choices, at least one, and neither low nor high")
            if len({json.dumps(item) for item in self.choices}) < len(self.choices):
                raise ValueError("a choice is there twice; give it once")
            return self
        if self.choices or self.low is None or self.high is None:
            raise ValueError(f"{self.type} has low and high, and no choices")
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}; low is the smaller one")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log is for numbers above 0, without a step")
        if self.type == "int" and any(
            number != int(number) for number in (self.low, self.high, self.step or 1)
        ):
            raise ValueError("int has whole numbers; take type: float for others")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that have to be valid for all to be: both ends, or every choice."""
        return self.choices or tuple(map(self._number, (self.low, self.high)))

    @property
    def count(self) -> float:
        """How many values there are; infinitely many of a float without a step."""
        if self.choices:
            return len(self.choices)
        if self.type == "float" and self.step is None:
            return math.inf
        return self._steps + 1

    def values(self) -> list[Any]:
        """All of them. Raises ValueError if there are infinitely many."""
        if self.choices:
            return list(self.choices)
        if self.count == math.inf:
            raise ValueError("a grid needs a step, or choices")
        step = self.step or 1
        return [self._number((self.low or 0) + at * step) for at in range(self._steps + 1)]

    def has(self, value: Any) -> bool:
        """Whether a value may be drawn."""
        if self.choices:
            return value in self.choices
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (self.low or 0) <= value <= (self.high or 0)

    def suggest(self, trial: Any, key: str, now: Any) -> Any:
        """Draw a value of an Optuna trial.

        Args:
            trial: the trial.
            key: names the value there.
            now: what stands there, which stays exact to the last digit.
        """
        if self.choices:
            codes = [_code(item) for item in self.choices]
            drawn = trial.suggest_categorical(key, codes)
            return self.choices[codes.index(drawn)] if drawn in codes else now
        if self.type == "int":
            step = int(self.step or 1)
            return trial.suggest_int(key, int(self.low or 0), int(self.high or 0), step=step,
                                     log=self.log)  # fmt: skip
        low, high = float(self.low or 0), float(self.high or 0)
        drawn = float(trial.suggest_float(key, low, high, step=self.step, log=self.log))
        exact = drawn == now or drawn in (low, high)
        return drawn if exact else min(max(float(f"{drawn:.{DIGITS}g}"), low), high)

    def code(self, value: Any) -> Any:
        """A value as Optuna keeps it."""
        return _code(value) if self.choices else value

    @property
    def _steps(self) -> int:
        return int(((self.high or 0) - (self.low or 0)) / (self.step or 1) + 1e-9)

    def _number(self, value: float | int | None) -> float | int:
        number = value or 0
        return int(number) if self.type == "int" else float(f"{number:.12g}")


@dataclass(frozen=True)
class Space:
    """The ranges of a search by full dotted key, over the settings that it starts from.

    Attributes:
        ranges: by key.
        values: the plain tree of params.yaml that trials change.
        params: the same as settings.
        source: what messages call it.
    """

    ranges: Mapping[str, Range]
    values: Mapping[str, Any]
    params: Params
    source: str

    @cached_property
    def active(self) -> dict[str, Range]:
        """The ranges that count in some trial, each after those that its `when` names.

        Raises:
            ConfigError: none counts.
        """
        found: dict[str, Range] = {}

        def add(key: str) -> None:
            for other in self.ranges[key].when:
                if other in self.ranges:
                    add(other)
            if key not in found and self._possible(key, found):
                found[key] = self.ranges[key]

        for key in self.ranges:
            add(key)
        if not found:
            first = next(iter(self.ranges))
            raise ConfigError(
                f"{self.source}: nothing is left to search, as no `when` holds; space.{first} "
                f"waits for {self.ranges[first].when}"
            )
        return found

    def check_conditions(self) -> None:
        """Raise ConfigError where a `when` names no setting, a value that is none, or itself."""
        graph = {key: set(wanted.when) & self.ranges.keys() for key, wanted in self.ranges.items()}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = ", ".join(f"space.{key}" for key in error.args[1][1:])
            raise ConfigError(
                f"{self.source}: each `when` of {circle} waits for another one; leave one out"
            ) from None
        for key, wanted in self.ranges.items():
            for other in wanted.when:
                where = f"{self.source}: space.{key}.when: {other}"
                if other in self.ranges:
                    continue
                if not _walk(self._plain, other.split("."))[0]:
                    section, _, last = other.rpartition(".")
                    beside = _walk(self._plain, section.split("."))[1]
                    hint = did_you_mean(last, beside) if isinstance(beside, dict) else "it is empty"
                    raise ConfigError(f"{where} is no setting; {hint}")
            for other, allowed in wanted.when.items():
                for item in _listed(allowed):
                    context = self._context(other) if other in self.ranges else {}
                    settings = in_order(context | {other: item})
                    self.changed(settings, f"{self.source}: space.{key}.when")

    def draw(self, trial: Any) -> dict[str, Any]:
        """Draw the settings of an Optuna trial, in the order in which they are to be set.

        One that is marked `AS_IT_IS` has what stands there, in range or not.
        """
        drawn: dict[str, Any] = {}
        kept = self.current() if AS_IT_IS in trial.user_attrs else self.active
        for key, wanted in self.active.items():
            if self._holds(wanted, drawn):
                now = self.now(key)
                drawn[key] = wanted.suggest(trial, key, now) if key in kept else now
        return in_order(drawn)

    def current(self) -> dict[str, Any]:
        """What stands there, as Optuna's parameters, but for choices that are not searched.

        Numbers outside of their range are given, too: they are what a search starts from.
        """
        chosen: dict[str, Any] = {}
        found: dict[str, Any] = {}
        for key, wanted in self.active.items():
            value = self.now(key)
            if not self._holds(wanted, chosen):
                continue
            chosen[key] = value
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not wanted.choices:
                found[key] = value
            for choice in wanted.choices:
                # a section may be written in part, and stands there whole
                if choice == value or self._whole(key, choice) == value:
                    chosen[key], found[key] = choice, wanted.code(choice)
        return found

    def _whole(self, key: str, value: Any) -> Any:
        """A value with all that it leaves to defaults."""
        if not isinstance(value, list | dict):
            return value
        tree = self.changed({key: value}, self.source).model_dump(mode="json")
        return _walk(tree, key.split("."))[1]

    def grid(self) -> Iterator[dict[str, Any]]:
        """All combinations as Optuna's parameters, each once.

        Raises:
            ConfigError: a range has no end of values.
        """
        for key, wanted in self.active.items():
            if wanted.count == math.inf:
                raise ConfigError(
                    f"{self.source}: the sampler grid tries every value, so space.{key} needs a "
                    "step, or type: categorical with choices"
                )
        seen = set()
        for values in product(*(wanted.values() for wanted in self.active.values())):
            drawn: dict[str, Any] = {}
            for (key, wanted), value in zip(self.active.items(), values, strict=True):
                if self._holds(wanted, drawn):
                    drawn[key] = value
            code = json.dumps(drawn)
            if code not in seen:
                seen.add(code)
                yield {key: self.active[key].code(value) for key, value in drawn.items()}

    def changed(self, settings: Mapping[str, Any], source: str = "the trial's settings") -> Params:
        """The settings of a trial. Raises ConfigError where they do not go together."""
        return parse_params(with_settings(self.values, settings), source)

    def samples(self) -> Iterator[tuple[str, Params, list[Params]]]:
        """For every key, settings in which it counts, and the same with each of its ends.

        Raises:
            ConfigError: an end is no value of the setting, or there is no such setting.
        """
        for key, wanted in self.active.items():
            context = in_order(self._context(key))
            values = [in_order(context | {key: end}) for end in wanted.ends]
            ends = [self.changed(found, f"{self.source}: space") for found in values]
            yield key, self.changed(context, f"{self.source}: space"), ends

    def now(self, key: str) -> Any:
        """What the settings that trials change have at a key; None where there is nothing."""
        found, value = _walk(self._plain, key.split("."))
        return value if found else None

    @cached_property
    def _plain(self) -> dict[str, Any]:
        return self.params.model_dump(mode="json")

    def _holds(self, wanted: Range, drawn: Mapping[str, Any]) -> bool:
        """Whether a range counts beside what is drawn already."""
        for key, allowed in wanted.when.items():
            if key in self.ranges and key not in drawn:
                return False
            if drawn.get(key, self.now(key)) not in _listed(allowed):
                return False
        return True

    def _possible(self, key: str, active: Mapping[str, Range]) -> bool:
        for other, allowed in self.ranges[key].when.items():
            if other not in self.ranges:
                if self.now(other) not in _listed(allowed):
                    return False
            elif other not in active or not any(map(self.ranges[other].has, _listed(allowed))):
                return False
        return True

    def _context(self, key: str) -> dict[str, Any]:
        """Values of other searched keys with which one counts."""
        found: dict[str, Any] = {}
        for other, allowed in self.ranges[key].when.items():
            if other in self.ranges:
                fitting = [item for item in _listed(allowed) if self.ranges[other].has(item)]
                now = self.now(other)
                if fitting:
                    chosen = now if now in fitting else fitting[0]
                    found |= self._context(other) | {other: chosen}
        return found


def in_order(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the order in which they are to be set: sections and names before what is in them.

    Example:
        >>> in_order({"a.b.alpha": 1, "a.b.name": "x", "a.b": {}})
        {'a.b': {}, 'a.b.name': 'x', 'a.b.alpha': 1}
    """

    def place(key: str) -> tuple[int, bool, str]:
        return key.count("."), not key.endswith(".name"), key

    return {key: settings[key] for key in sorted(settings, key=place)}


def full_key_of(key: str, params: Params, chain: str, source: str) -> str:
    """Complete a dotted key: {chain}, and refiners that are given by name in place of a number.

    Args:
        key: such as "refine.chains.{chain}.dense_crf.sigma_xy", the first dense_crf of the chain.
        params: in which the setting is.
        chain: what {chain} stands for.
        source: what messages call it.

    Raises:
        ConfigError: there is no such section; the last part alone is not looked for.
    """
    at: Any = params.model_dump(mode="json")
    path: list[str] = []
    *sections, last = key.replace("{chain}", chain).split(".")
    for part in sections:
        where = ".".join(path) or "the top level"
        if isinstance(at, list):
            names = [item.get("name") if isinstance(item, dict) else None for item in at]
            if part in names:
                part = str(names.index(part))
            if not part.isdecimal() or int(part) >= len(at):
                known = [name for name in names if name]
                has = f"it has {', '.join(known)}" if known else "it is empty"
                raise ConfigError(f"{source}: {where} has no '{part}'; {has}")
            at = at[int(part)]
        elif isinstance(at, dict):
            if part not in at:
                raise ConfigError(
                    f"{source}: {where} has no key '{part}'; "
                    + (did_you_mean(part, at) if at else "it is empty")
                )
            at = at[part]
        elif at is not None:
            raise ConfigError(f"{source}: {where} is {at!r}, which has no key '{part}'")
        path.append(part)
    return ".".join([*path, last])


def _walk(tree: Any, path: Sequence[str]) -> tuple[bool, Any]:
    for part in path:
        if isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        elif isinstance(tree, dict) and part in tree:
            tree = tree[part]
        else:
            return False, None
    return True, tree


def _listed(allowed: Any) -> list[Any]:
    return allowed if isinstance(allowed, list) else [allowed]


def _code(value: Any) -> Any:
    """A choice as Optuna keeps it: plain values as they are, others as text."""
    return (
        value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
    )
