"""Settings of the dense CRF in a refine chain, scored on the selection split."""

from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from wsss.artifacts import Manifest, Paths, Sample
from wsss.checks import did_you_mean
from wsss.config.params import Params
from wsss.refine.dense_crf import DenseCrfSettings
from wsss.registry import SEARCHES
from wsss.settings import Named
from wsss.tuning._selection import chain_scorer, scoring_key, selection_samples
from wsss.tuning.base import Score

__all__ = ["CrfSearch", "CrfSearchSettings"]

Range = tuple[float, float]

_SCALES = ("sigma_xy", "sigma_rgb", "sigma_gaussian", "alpha")  # drawn by ratio
_KERNELS = ("sigma_xy", "sigma_rgb", "compat_bilateral", "sigma_gaussian", "compat_gaussian")
_CHOICES = ("unary", "background")
_SEARCHED = (*_KERNELS, *_CHOICES, "gt_prob", "threshold", "alpha")


class CrfSearchSettings(Named):
    """Where to search: smallest and largest value, or the choices, of each setting of the CRF."""

    name: Literal["crf"] = "crf"
    chain: str = "crf"
    """The refine chain whose first dense_crf is tuned; its other refiners stay as they are."""
    max_images: PositiveInt = 200
    """Selection images that score a trial, drawn from rng_seed where there are more. Each worker
    keeps them in memory: 4 bytes a pixel, and 4 more per class where a refiner stands before."""
    sigma_xy: Range = (10, 150)
    sigma_rgb: Range = (2, 40)
    compat_bilateral: Range = (1, 20)
    sigma_gaussian: Range = (1, 10)
    compat_gaussian: Range = (0, 20)
    unary: tuple[Literal["soft", "labels"], ...] = Field(default=("soft", "labels"), min_length=1)
    gt_prob: Range = (0.5, 0.95)
    background: tuple[Literal["constant", "power"], ...] = Field(
        default=("constant", "power"), min_length=1
    )
    threshold: Range = (0.05, 0.6)
    alpha: Range = (0.5, 16)

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in _SEARCHED:
            if name in _CHOICES:
                continue
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} is [smallest, largest], but is [{low:g}, {high:g}]")
            for end in (low, high):
                try:
                    DenseCrfSettings.model_validate({name: end})
                except ValueError:
                    raise ValueError(f"{name}: {end:g} is no {name} of a dense_crf") from None
        return self


@SEARCHES.register(CrfSearchSettings)
class CrfSearch:
    """Refines cached CAMs in memory; the score is that of refine_cams and evaluate_refined.

    The threshold of the refined maps is no parameter: each trial takes the best of its curve.
    """

    def __init__(self, settings: CrfSearchSettings) -> None:
        self.settings = settings
        self.chain = settings.chain

    def check(self, params: Params, paths: Paths) -> None:
        """Raise ValueError unless chain, CAMs and masks are there."""
        self._place(params)
        self._samples(params, paths)

    def key(self, params: Params, paths: Paths) -> str:
        """A hash of all that decides a score but what is searched; see `scoring_key`."""
        rest = [refiner.model_dump(mode="json") for refiner in params.refine.chains[self.chain]]
        for name in _SEARCHED:
            del rest[self._place(params)][name]
        _, samples = self._samples(params, paths)
        return scoring_key(self.settings, rest, params, paths, self.chain, samples)

    def current(self, params: Params) -> dict[str, Any]:
        """The CRF of the chain, but for choices that are not searched."""
        crf = params.refine.chains[self.settings.chain][self._place(params)]
        values = {name: getattr(crf, name) for name in _SEARCHED}
        for name in _CHOICES:
            if values[name] not in getattr(self.settings, name):
                del values[name]
        return values

    def suggest(self, trial: Any, params: Params) -> dict[str, Any]:
        """Draw the kernels, the unary and the background, and what goes with the latter two."""
        place = self._place(params)
        crf = params.refine.chains[self.settings.chain][place]

        def number(name: str) -> float:
            low, high = getattr(self.settings, name)
            raw = float(trial.suggest_float(name, low, high, log=name in _SCALES))
            # four digits are enough, and fit into params.yaml; what stands there stays exact
            return raw if raw == getattr(crf, name) else min(max(float(f"{raw:.4g}"), low), high)

        values: dict[str, Any] = {name: number(name) for name in _KERNELS}
        for name in _CHOICES:
            values[name] = trial.suggest_categorical(name, getattr(self.settings, name))
        if values["unary"] == "labels":
            values["gt_prob"] = number("gt_prob")
        background = "threshold" if values["background"] == "constant" else "alpha"
        values[background] = number(background)
        prefix = f"refine.chains.{self.settings.chain}.{place}"
        return {f"{prefix}.{name}": value for name, value in values.items()}

    def scorer(self, params: Params, paths: Paths) -> Callable[[Params], Score]:
        """Read images, CAMs and masks, and run the refiners that stand before the CRF."""
        place, chain = self._place(params), self.settings.chain
        return chain_scorer(params, paths, chain, place, *self._samples(params, paths))

    def _place(self, params: Params) -> int:
        """The index of the chain's first dense_crf."""
        chain, chains = self.settings.chain, params.refine.chains
        if chain not in chains:
            raise ValueError(f"refine.chains has no chain '{chain}'; {did_you_mean(chain, chains)}")
        for index, item in enumerate(chains[chain]):
            if isinstance(item, DenseCrfSettings):
                return index
        having = [
            name
            for name, refiners in chains.items()
            if any(isinstance(refiner, DenseCrfSettings) for refiner in refiners)
        ]
        raise ValueError(
            f"refine.chains.{chain} has no dense_crf to tune; add one to it, or name another "
            f"chain: --set chain=NAME ({', '.join(having) or 'none has one'})"
        )

    def _samples(self, params: Params, paths: Paths) -> tuple[Manifest, list[Sample]]:
        return selection_samples(params, paths, self.settings.max_images)
