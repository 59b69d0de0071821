"""Any settings of a refine chain, scored on the selection split."""

import json
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, PositiveInt

from wsss.artifacts import Paths
from wsss.checks import did_you_mean
from wsss.config.params import Params
from wsss.registry import SEARCHES
from wsss.settings import Named, Settings
from wsss.tuning._selection import chain_scorer, scoring_key, selection_samples
from wsss.tuning.base import Score, changed, replaced, setting

__all__ = ["ChainSearch", "ChainSearchSettings"]


class Interval(Settings):
    """Numbers from `low` to `high`; whole ones if both are written without a decimal point."""

    low: int | float
    high: int | float
    log: bool = False
    """Drawn by ratio, as for scales that span decades."""


class ChainSearchSettings(Named):
    """What to search, such as {0.delta: {low: 0.2, high: 0.8}, 1.n_iters: [5, 10, 20]}."""

    name: Literal["chain"] = "chain"
    chain: str = "crf"
    """The refine chain to tune."""
    ranges: dict[str, Interval | list[Any]] = Field(default={})
    """By the place of a refiner in the chain and its setting: an interval, or the choices."""
    max_images: PositiveInt = 200
    """Selection images that score a trial, drawn from rng_seed where there are more. Each worker
    keeps them in memory."""


@SEARCHES.register(ChainSearchSettings)
class ChainSearch:
    """Refines cached maps in memory; the score is that of refine_cams and evaluate_refined.

    Weights of a fusion are found so, too: {0.sources.ccam: {low: 0.0, high: 1.0}}.
    """

    def __init__(self, settings: ChainSearchSettings) -> None:
        self.settings = settings
        self.chain = settings.chain

    def check(self, params: Params, paths: Paths) -> None:
        """Raise ValueError unless the chain has what is searched, and maps and masks are there."""
        chain, chains = self.settings.chain, params.refine.chains
        if chain not in chains:
            raise ValueError(f"refine.chains has no chain '{chain}'; {did_you_mean(chain, chains)}")
        if not self.settings.ranges:
            raise ValueError(
                "the search 'chain' has nothing to search; name settings, as in "
                "--set 'ranges={0.delta: {low: 0.2, high: 0.8}}'"
            )
        for key, wanted in self.settings.ranges.items():
            place, _, name = key.partition(".")
            if not place.isdecimal() or int(place) >= len(chains[chain]) or not name:
                raise ValueError(
                    f"ranges: '{key}' names no refiner of refine.chains.{chain}; begin with its "
                    f"place, from 0 to {len(chains[chain]) - 1}"
                )
            for value in wanted if isinstance(wanted, list) else (wanted.low, wanted.high):
                changed(params, {self._full(key): value})
        selection_samples(params, paths, self.settings.max_images)

    def key(self, params: Params, paths: Paths) -> str:
        """A hash of all that decides a score but what is searched; see `scoring_key`."""
        none = {self._full(key): None for key in self.settings.ranges}
        rest = replaced(params, none)["refine"]["chains"][self.chain]
        _, samples = selection_samples(params, paths, self.settings.max_images)
        return scoring_key(self.settings, rest, params, paths, self.chain, samples)

    def current(self, params: Params) -> dict[str, Any]:
        """What params.yaml has of the settings searched, where it lies within their ranges."""
        values: dict[str, Any] = {}
        for key, wanted in self.settings.ranges.items():
            value = setting(params, self._full(key))
            if isinstance(wanted, list):
                if value in wanted:
                    values[key] = json.dumps(value)
            elif value is not None and wanted.low <= value <= wanted.high:
                values[key] = value
        return values

    def suggest(self, trial: Any, params: Params) -> dict[str, Any]:
        """Draw a value for every key of `ranges`."""
        values: dict[str, Any] = {}
        for key, wanted in self.settings.ranges.items():
            if isinstance(wanted, list):
                choices = [json.dumps(item) for item in wanted]
                value = json.loads(trial.suggest_categorical(key, choices))
            elif isinstance(wanted.low, int) and isinstance(wanted.high, int):
                value = trial.suggest_int(key, wanted.low, wanted.high, log=wanted.log)
            else:
                drawn = float(trial.suggest_float(key, wanted.low, wanted.high, log=wanted.log))
                # four digits are enough, and fit into params.yaml; what stands there stays exact
                exact = drawn == setting(params, self._full(key))
                rounded = min(max(float(f"{drawn:.4g}"), wanted.low), wanted.high)
                value = drawn if exact else rounded
            values[self._full(key)] = value
        return values

    def scorer(self, params: Params, paths: Paths) -> Callable[[Params], Score]:
        """Read images, maps and masks, and run the refiners that stand before all searched."""
        chain = self.settings.chain
        place = min(int(key.partition(".")[0]) for key in self.settings.ranges)
        found = selection_samples(params, paths, self.settings.max_images)
        return chain_scorer(params, paths, chain, place, *found)

    def _full(self, key: str) -> str:
        return f"refine.chains.{self.settings.chain}.{key}"
