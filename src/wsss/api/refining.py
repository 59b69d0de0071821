"""Maps through a chain of refiners."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, overload

import numpy as np

from wsss.api.choices import MethodLike, chosen
from wsss.api.pictures import OneImage, picture_list
from wsss.api.project import Project
from wsss.api.results import Maps, Origin
from wsss.artifacts import write_proposals
from wsss.artifacts.background import BackgroundSettings, usual_threshold
from wsss.checks import did_you_mean, naming
from wsss.commands import run_command
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params
from wsss.loading.devices import device_of
from wsss.prediction.opening import machine_of
from wsss.refine import Chain, Context
from wsss.registry import PROPOSALS, REFINERS
from wsss.settings import Named

__all__ = ["ChainLike", "chain_of", "context_in", "lacking", "refine"]

ChainLike: TypeAlias = MethodLike | Sequence[MethodLike]

TOGETHER = 16  # images whose full-resolution scores are in memory together


@overload
def refine(images: OneImage, maps: Maps, chain: ChainLike, *, device: str = ...) -> Maps: ...
@overload
def refine(
    images: Iterable[OneImage], maps: Iterable[Maps], chain: ChainLike, *, device: str = ...
) -> list[Maps]: ...
def refine(
    images: OneImage | Iterable[OneImage],
    maps: Maps | Iterable[Maps],
    chain: ChainLike,
    *,
    device: str = "auto",
) -> Maps | list[Maps]:
    """Better maps, by refiners that run one after another, as refine_cams runs them.

    Args:
        images: that the maps are of, one or many.
        maps: as `wsss.cams` gives them, or `wsss.Maps.of` makes them of arrays.
        chain: one of

            - the name of a chain in refine.chains of the project whose classifier made the maps;
            - a refiner: its name, such as "pamr", or a mapping, such as
              {"name": "dense_crf", "preset": "irn"};
            - a list of refiners;
            - "RECIPE/CHAIN", such as "voc_pamr/pamr", of a recipe of the project, of the current
              folder where there is none, or of those that ship.
        device: where refiners with networks run: auto, cpu, cuda or mps.

    Returns:
        Maps of the same images and classes. Mask proposals that a refiner takes are made here, of
        the source of the project's make_proposals, or else with its defaults.

    Raises:
        ValueError: there is no such chain or refiner, a setting does not fit, an image is not of
            the size of its maps, or a refiner needs what only the pipeline makes.
    """
    alone = isinstance(maps, Maps)
    given = [maps] if isinstance(maps, Maps) else list(maps)
    pictures, one = picture_list(images, _image_settings(given))
    if one and not alone:
        raise ValueError("images are one, and maps are a list; give both alone, or both in lists")
    for item in given:
        if not isinstance(item, Maps):
            raise ValueError(
                f"{type(item).__name__} is no maps; wsss.cams makes some, and wsss.Maps.of takes "
                "arrays"
            )
    if len(pictures) != len(given):
        raise ValueError(f"there are {len(pictures)} images and maps of {len(given)}; give as many")
    project = given[0].origin.project if given else None
    if len({(item.has_background, id(item.origin.project)) for item in given}) > 1:
        raise ValueError("maps are of several classifiers; refine those of each by themselves")
    refiners, name = _resolved(chain, project)
    found: list[Maps] = []
    for start in range(0, len(given), TOGETHER):
        part = given[start : start + TOGETHER]
        arrays = [picture.pixels() for picture in pictures[start : start + TOGETHER]]
        found += _refined(refiners, name, arrays, part, device)
    return found[0] if alone else found


def _image_settings(maps: Sequence[Any]) -> Mapping[str, Any] | None:
    """How the images of maps were read."""
    first = maps[0] if maps else None
    return first.picture.settings if isinstance(first, Maps) else None


def _resolved(chain: ChainLike, project: Project | None) -> tuple[tuple[Named, ...], str]:
    """The refiners of a chain, and its name in the project, "" of one that is not there."""
    if not isinstance(chain, str):
        listed = [chain] if isinstance(chain, Mapping | Named) else list(chain)
        steps = (chosen(REFINERS, item, f"chain.{at}") for at, item in enumerate(listed))
        return tuple(steps), ""
    chains = project.params.refine.chains if project else {}
    if chain in chains:
        return tuple(chains[chain]), chain
    if "/" in chain:
        return _of_recipe(chain, project), ""
    if chain not in REFINERS.names() and chains:
        known = {*chains, *REFINERS.names()}
        raise ValueError(
            f"no chain of the project and no refiner is named '{chain}'; "
            f"{did_you_mean(chain, known)}"
        )
    return (chosen(REFINERS, chain, "chain"),), ""


def _of_recipe(chain: str, project: Project | None) -> tuple[Named, ...]:
    name, _, wanted = chain.rpartition("/")
    folder = (project.paths.root if project else Path()) / "recipes"
    params = recipe_params({}, Recipe.read(folder, name), Recipe.read(folder, BASE_RECIPE))
    chains = params.refine.chains
    if wanted not in chains:
        raise ValueError(
            f"the recipe '{name}' has no chain '{wanted}'; {did_you_mean(wanted, chains)}"
        )
    return tuple(chains[wanted])


def _refined(
    refiners: Sequence[Named],
    name: str,
    images: Sequence[np.ndarray],
    maps: Sequence[Maps],
    device: str,
) -> list[Maps]:
    project = maps[0].origin.project
    accelerator = machine_of(device).accelerator
    named = {str(at): image for at, image in enumerate(images)}
    with TemporaryDirectory(prefix="wsss-") as folder, naming("chain"):
        context = context_in(Path(folder), refiners, project, named, accelerator)
        run = chain_of(refiners, context, project, has_background=maps[0].has_background)
        refined = run(images, [item.scores for item in maps], list(named))
    return [
        replace(item, scores=scores, origin=_origin(item, refiners, name))
        for item, scores in zip(maps, refined, strict=True)
    ]


def chain_of(
    refiners: Sequence[Named], context: Context, project: Project | None, *, has_background: bool
) -> Chain:
    """The refiners as those of a project: in its windows, and without a background if its data
    have none."""
    window = project.params.refine.window if project else 0
    overlap = project.params.refine.window_overlap if project else 0.5
    if not has_background:
        refiners = [_without_background(entry) for entry in refiners]
    return Chain(refiners, context, window=window, overlap=overlap)


def _origin(maps: Maps, refiners: Sequence[Named], name: str) -> Origin:
    """Maps that the project would make just so have its threshold; those of a CRF have its own."""
    project = maps.origin.project
    if project is not None and name and maps.origin.chain is None:
        return Origin(project, name, project.threshold(name))
    if not refiners:
        return maps.origin
    return Origin(project, "", usual_threshold(refiners))


def _without_background(entry: Named) -> Named:
    return entry.without_background() if isinstance(entry, BackgroundSettings) else entry


def context_in(
    folder: Path,
    refiners: Sequence[Named],
    project: Project | None,
    images: Mapping[str, np.ndarray],
    accelerator: str,
) -> Context:
    """What refiners may use: networks of the project, and proposals that are made here.

    Args:
        folder: where proposals go, each into a folder of its source; those that are there stay.
        refiners: of the chain.
        project: of the maps.
        images: (H, W, 3) uint8, by the names that the chain is given.
        accelerator: of `Context`.

    Raises:
        ValueError: one needs what neither has.
    """
    for at, entry in enumerate(refiners):
        if reason := lacking(entry, project):
            raise ValueError(f"chain.{at}: {reason}")
    wanted = {name for entry in refiners if (name := getattr(entry, "proposals", ""))}
    for name in sorted(wanted):
        files = {folder / name / f"{of_image}.npz": image for of_image, image in images.items()}
        missing = {file: image for file, image in files.items() if not file.exists()}
        if missing:
            find: Any = PROPOSALS.build(_source(name, project), partial(device_of, accelerator))
            for file, image in missing.items():
                write_proposals(file, find(image))
    affinities = project.paths.affinities if project else folder
    return Context(accelerator, folder, affinities, folder)


def lacking(entry: Named, project: Project | None) -> str:
    """Why a refiner cannot run here, with the way out; "" where it can."""
    if getattr(entry, "sources", None) or getattr(entry, "object_source", ""):
        command = run_command(project.paths.root if project else Path(), "refine_cams")
        return (
            f"{entry.name} goes with maps of other classifiers, which only the pipeline makes "
            f"(further_cams); run the chain there: {command}"
        )
    if getattr(entry, "trained_by", None) and project is None:
        return (
            f"{entry.name} needs a network of train_affinities, and these maps are of no project; "
            "load the classifier from models/classifier of the project"
        )
    return ""


def _source(name: str, project: Project | None) -> Named:
    """Settings of a source of proposals: the project's of that name, or a source itself."""
    made: Mapping[str, Named] = project.params.make_proposals if project else {}
    if name in made:
        return made[name]
    if name not in PROPOSALS.names():
        known = {*made, *PROPOSALS.names()}
        raise ValueError(f"no source of proposals is named '{name}'; {did_you_mean(name, known)}")
    return chosen(PROPOSALS, name, "proposals")
