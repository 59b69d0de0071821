"""A run against what its recipe states: the first part of the road that it is off."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wsss.artifacts import fingerprint
from wsss.config.params import Params
from wsss.pipeline import Pipeline
from wsss.verify.expected import Expected, Known, expected_params, own_settings, read_expected
from wsss.verify.road import ROAD, TAGS, Mile, measured, target_of

__all__ = ["Checked", "Score", "Verdict", "differing", "verify"]

BRIGHTNESS = 0.05
"""Levels of 0..255 that the mean of an image may differ by, as decoders of JPEG do."""

State = Literal["on", "off", "unjudged", "not compared"]


@dataclass(frozen=True)
class Score:
    """A number of a run beside what is known of it.

    Attributes:
        name: such as "val/mean_iou".
        value: of the run; None where it has none.
        mean: what is known.
        allowed: how far it may lie from the mean; None where only one run was measured.
    """

    name: str
    value: float | None
    mean: float
    allowed: float | None

    @property
    def is_off(self) -> bool:
        """Whether it is missing, or lies too far away."""
        if self.value is None:
            return True
        return self.allowed is not None and abs(self.value - self.mean) > self.allowed


@dataclass(frozen=True)
class Checked:
    """A part of the road.

    Attributes:
        name: of it.
        state: "on" and "off" the road; "unjudged" where only one run was measured; "not compared",
            for the reason in `why`.
        scores: what was compared.
        why: what is off, or why nothing was compared.
        look_at: where to look, if it is off.
    """

    name: str
    state: State
    scores: tuple[Score, ...] = ()
    why: str = ""
    look_at: str = ""


@dataclass(frozen=True)
class Verdict:
    """A run.

    Attributes:
        recipe: whose numbers it is held against.
        expected: these.
        parts: of the road, in order.
        notes: what a reader has to know of the comparison.
    """

    recipe: str
    expected: Expected
    parts: tuple[Checked, ...]
    notes: tuple[str, ...] = ()

    @property
    def first_off(self) -> Checked | None:
        """Where the run left the road; None where it did not."""
        return next((part for part in self.parts if part.state == "off"), None)

    @property
    def is_whole(self) -> bool:
        """Whether all parts were compared and judged."""
        return all(part.state in ("on", "off") for part in self.parts)


def verify(root: Path, params: Params, pipeline: Pipeline, stale: Collection[str] = ()) -> Verdict:
    """Hold a run against what its recipe states.

    Args:
        root: the project.
        params: its settings, which name the recipe (base.recipe).
        pipeline: all stages.
        stale: full names of stages whose results are not known to be of these settings.

    Raises:
        ConfigError: the recipe states nothing.
    """
    recipe, expected = read_expected(root, params.base.recipe)
    wanted = expected_params(root, recipe, expected.set)
    run = _Run(root, params, pipeline, frozenset(stale), wanted, expected)
    parts = tuple(run.checked(mile) for mile in ROAD if mile.name in expected.steps)
    return Verdict(recipe.name, expected, parts, tuple(_notes(params, wanted, expected)))


@dataclass(frozen=True)
class _Run:
    """What a run is held against.

    Attributes:
        root: the project.
        params: its settings.
        pipeline: all stages.
        stale: full names of stages whose results are not known to be of these settings.
        wanted: the settings that the numbers are of.
        expected: the numbers.
    """

    root: Path
    params: Params
    pipeline: Pipeline
    stale: frozenset[str]
    wanted: Params
    expected: Expected

    def checked(self, mile: Mile) -> Checked:
        """Hold a part of the road against what is known of it."""
        if why := self._why_not(mile):
            return Checked(mile.name, "not compared", why=why)
        found, step = measured(self.root, mile, self.params), self.expected.steps[mile.name]
        if found is None:
            name = target_of(mile, self.params)
            why = f"{name} has not run; `wsss run {name}`"
            return Checked(mile.name, "not compared", why=why)
        scores = tuple(
            Score(key, _number(found, key), known.mean, self._allowed(mile, key, known))
            for key, known in step.values.items()
        )
        off = [*_said(scores)]
        exact = mile.name == "data" and self._is_same_seed and bool(self.expected.tags)
        if exact and found[TAGS] != self.expected.tags:
            off.append("the names, sizes or tags of images are others")
        if off:
            look_at = mile.look_at.replace("{chain}", self.params.make_pseudo_masks.chain)
            return Checked(mile.name, "off", scores, "; ".join(off), look_at)
        unknown = any(score.allowed is None for score in scores)
        return Checked(mile.name, "unjudged" if unknown else "on", scores)

    def _allowed(self, mile: Mile, key: str, known: Known) -> float | None:
        slack = BRIGHTNESS if key.endswith("brightness") else mile.slack
        if mile.name == "data" and self.expected.same_data:
            return slack  # the same images, however many runs were measured
        return known.allowed(self.expected.runs, slack)

    @property
    def _is_same_seed(self) -> bool:
        return self.params.base.rng_seed == self.wanted.base.rng_seed

    def _why_not(self, mile: Mile) -> str:
        """Why a comparison would mean nothing; "" where it does."""
        params, name = self.params, target_of(mile, self.wanted)
        theirs = own_settings(self.pipeline, name, self.wanted)
        if fingerprint(theirs)[:16] != self.expected.steps[mile.name].settings:
            return (
                "the recipe has changed since its numbers were measured; `wsss verify --record` "
                "measures them anew"
            )
        if target_of(mile, params) != name:
            return f"here it is {target_of(mile, params)}, and the numbers are of {name}"
        if said := differing(own_settings(self.pipeline, name, params), theirs):
            return said
        if self.expected.same_data and not self._is_same_seed and not self._has_their_data:
            return (
                f"base.rng_seed is {params.base.rng_seed} here, and with it the images are others; "
                f"the numbers are of {self.wanted.base.rng_seed}"
            )
        needed = self.pipeline.upstream(self.pipeline.target(name, params), params)
        if old := [part.name for part in needed if part.name in self.stale]:
            return (
                f"{old[0]} has not run with the settings and files that are there; "
                f"`wsss run {name}`"
            )
        return ""

    @property
    def _has_their_data(self) -> bool:
        found = measured(self.root, ROAD[0], self.params)
        return found is not None and found[TAGS] == self.expected.tags


def _number(found: Mapping[str, float | str], key: str) -> float | None:
    value = found.get(key)
    return None if value is None else float(value)


def _said(scores: tuple[Score, ...]) -> Iterator[str]:
    """What is off, in words."""
    for score in scores:
        if score.is_off and score.value is None:
            yield f"{score.name} is not in the report"
        elif score.is_off and score.value is not None:
            side = "above" if score.value > score.mean else "below"
            gap = abs(score.value - score.mean)
            yield (
                f"{score.name} is {score.value:.4g}, {gap:.4g} {side} {score.mean:.4g}, and may be "
                f"{score.allowed:.4g} away"
            )


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """The first setting that differs, in words; "" where all are the same."""
    for key in sorted({*ours, *theirs}):
        path, own, other = _first(key, ours.get(key), theirs.get(key))
        if own != other:
            return f"{path} is {_shown(own)} here, and the numbers are of {_shown(other)}"
    return ""


def _first(path: str, ours: Any, theirs: Any) -> tuple[str, Any, Any]:
    """The first place below a key at which two values differ."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                return _first(f"{path}.{key}", ours.get(key), theirs.get(key))
    return path, ours, theirs


def _shown(value: Any) -> str:
    return "its default" if value is None else str(value)


def _notes(params: Params, wanted: Params, expected: Expected) -> Iterator[str]:
    if params.base.rng_seed != wanted.base.rng_seed:
        yield (
            f"base.rng_seed is {params.base.rng_seed}, and the numbers are of "
            f"{wanted.base.rng_seed} and those after it: this is one more run, and its tags are "
            "not compared one by one"
        )
    if expected.runs == 1:
        yield (
            "only one run was measured, so that nobody knows how far another may lie from it: "
            "differences are shown, and judged by nobody"
        )
