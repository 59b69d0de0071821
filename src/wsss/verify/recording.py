"""Running a recipe several times, to know what its runs score and how far they lie apart."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wsss import __version__
from wsss.config.params import Params, load_params
from wsss.config.recipes import Recipe
from wsss.loading.devices import device_of
from wsss.pipeline import Pipeline
from wsss.pipeline.apart import link_made, run_apart
from wsss.pipeline.exclusive import hold
from wsss.verify.comparing import differing
from wsss.verify.expected import Expected, expected_params, own_settings, summarised
from wsss.verify.road import ROAD, measured, target_of

__all__ = ["FOLDER", "check_finished", "record_runs", "values_of"]

log = logging.getLogger(__name__)

FOLDER = ".verify"
"""The folder, below the project's root, that holds the runs."""


def record_runs(
    root: Path, name: str, pipeline: Pipeline, runs: int, settings: Mapping[str, Any]
) -> Expected:
    """Run a recipe with base.rng_seed and the numbers after it, and take means and spreads.

    Each stage of each run is made once and kept: a command that was stopped goes on, and one that
    asks for more runs makes those.

    Args:
        root: the project.
        name: of the recipe.
        pipeline: all stages.
        runs: how many.
        settings: dotted keys that are to differ from the recipe, such as those of a smaller size.

    Raises:
        ConfigError: there is no such recipe, or a setting does not fit.
        ValueError: a stage stops.
    """
    params = expected_params(root, Recipe.read(root / "recipes", name), settings)
    folders = [root / FOLDER / name / str(number) for number in range(runs)]
    for number, folder in enumerate(folders):
        log.info("run %d of %d of the recipe %s", number + 1, runs, name)
        seed = params.base.rng_seed + number
        base = params.base.model_copy(update={"rng_seed": seed})
        with hold(folder, f"run {number} of the recipe {name}"):
            _run(pipeline, params.model_copy(update={"base": base}), folder)
    return values_of(pipeline, params, [folder / "all" for folder in folders], settings)


def values_of(
    pipeline: Pipeline, params: Params, folders: Sequence[Path], settings: Mapping[str, Any]
) -> Expected:
    """Means and spreads of finished runs; see `summarised`.

    Args:
        pipeline: all stages.
        params: of the runs, but for their seeds.
        folders: of the runs, each with its `reports` and `data`; the first has the recipe's seed.
        settings: dotted keys in which `params` differ from the recipe.
    """
    found = [
        {
            mile.name: values
            for mile in ROAD
            if (values := measured(folder, mile, params)) is not None
        }
        for folder in folders
    ]
    device = device_of(params.machine.accelerator).type
    measured_with = f"wsss {__version__}, torch {version('torch')}, {device}"
    return summarised(pipeline, params, found, measured_with, settings)


def check_finished(
    pipeline: Pipeline,
    params: Params,
    folders: Sequence[Path],
    stale: Callable[[Path, Params], Collection[str]],
) -> None:
    """Raise ValueError unless projects hold runs of some settings, each with a seed of its own.

    Args:
        pipeline: all stages.
        params: that they are to have run with, but for their seeds.
        folders: the projects.
        stale: gives full names of the stages of a project with its settings whose results are not
            known to be of these.
    """
    by_seed: dict[int, Path] = {}
    for folder in folders:
        own = load_params(folder / "params.yaml")
        unknown = stale(folder, own)
        for mile in ROAD:
            name = target_of(mile, own)
            if measured(folder, mile, own) is None:
                continue
            ours, theirs = (own_settings(pipeline, target_of(mile, x), x) for x in (own, params))
            if ours != theirs:
                raise ValueError(
                    f"{folder} did not run with the settings of the recipe: "
                    f"{differing(ours, theirs)}; name them with --set, or another project"
                )
            needed = pipeline.upstream(pipeline.target(name, own), own)
            if old := [part.name for part in needed if part.name in unknown]:
                raise ValueError(
                    f"the results of {old[0]} in {folder} are not known to be of its settings and "
                    f"files; `wsss run {name}` there makes them so"
                )
        seed = own.base.rng_seed
        if seed in by_seed:
            raise ValueError(
                f"{by_seed[seed]} and {folder} have the same base.rng_seed, {seed}, so that they "
                "are one run; name projects with different ones"
            )
        by_seed[seed] = folder
    first = next(iter(by_seed))
    if first != params.base.rng_seed:
        raise ValueError(
            f"the first project, {folders[0]}, has base.rng_seed {first}, and the recipe has "
            f"{params.base.rng_seed}, by which tags are compared; name a project with that first"
        )


def _run(pipeline: Pipeline, params: Params, folder: Path) -> None:
    """Make what is missing of a run; `all` below its folder then has its reports and outs."""
    wanted = [pipeline.target(target_of(mile, params), params) for mile in ROAD]
    needed = {part.name for target in wanted for part in pipeline.upstream(target, params)}
    made: dict[str, Path] = {}
    for target in pipeline.targets(params):
        if target.name not in needed:
            continue
        place = folder / target.name
        done = run_apart(pipeline, target, params, place, made)
        made |= dict.fromkeys(done["outs"], place)
    link_made(made, folder / "all")
