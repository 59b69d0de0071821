"""Data sets that are scored beside val: their images, with classes by the project's ids."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from wsss.artifacts import IGNORE_INDEX
from wsss.checks import full_key, naming
from wsss.config.params import Params
from wsss.config.preparation import ScoredSetSettings
from wsss.data import Problem, RawDataset, RawSample
from wsss.data.listing import some
from wsss.registry import DATASETS
from wsss.settings import ConfigError
from wsss.stages._mask_checks import MaskReview
from wsss.stages._pixel_checks import check_masks
from wsss.stages._preparation import Preparation

__all__ = ["ScoredSet", "check_not_learned", "collect_scored_set", "scored_contradictions"]


@dataclass(frozen=True)
class ScoredSet:
    """What a data set gives to be scored.

    Attributes:
        name: as the settings call it.
        samples: its images, with names below that name.
        problems: what had to be left out.
        warnings: what a person must know, each beginning with the set's key.
        tags_from_masks: see `RawDataset`.
        settable: whether the data set has a setting mask_values.
    """

    name: str
    samples: list[RawSample]
    problems: list[Problem]
    warnings: list[str]
    tags_from_masks: bool
    settable: bool


def collect_scored_set(
    name: str,
    settings: ScoredSetSettings,
    project: RawDataset,
    scratch: Path,
    rng_seed: int,
) -> ScoredSet:
    """Find the images of a set, and give tags and masks the project's class ids.

    Classes go by their names, whatever their case. What a mask shows of classes that the project
    does not have is background, as it is none of the project's; ignored where that has none.

    Args:
        name: of the set.
        settings: of the set.
        project: its own data set.
        scratch: where a folder is made for the files that the data set makes.
        rng_seed: for sets that draw their images or splits.

    Raises:
        ConfigError: it has none of the project's classes, or two with one name.
        ValueError: the set cannot be read, or has no image for it.
    """
    folder = scratch / f".{name}"
    folder.mkdir()
    with naming(f"scored_sets.{name}"):
        raw = DATASETS.build(settings.dataset).collect(folder, rng_seed)
        class_names = project.class_names
        ids = _ids_by_name(raw.class_names, class_names)
        found = raw.splits.get("val", [])
        others = [item for split, items in raw.splits.items() if split != "val" for item in items]
        samples = [*found, *others] if settings.part == "all" else found
        if not samples:
            raise ValueError(
                f"{full_key('dataset')} has no validation image to score"
                + (
                    f", but {len(others)} others: set {full_key('part')} to all"
                    if others
                    else "; name a folder with images"
                )
            )
        warnings = [f"{full_key('dataset')}: {text}" for text in raw.warnings]
        missing = [known for at, known in enumerate(class_names, 1) if at not in ids.values()]
        if missing:
            warnings.append(
                f"{full_key('dataset')} has no class {some(missing)}, so that all that is found "
                "of it there counts as wrong; where its images may show it, look at the IoU of "
                "the other classes alone"
            )
        if settings.part == "val" and others:
            warnings.append(
                f"{full_key('dataset')}: its {len(found)} validation images are scored, and "
                f"{len(others)} others are not; set {full_key('part')} to all to score them, too"
            )
    return ScoredSet(
        name,
        [
            _by_project(sample, name, ids, len(raw.class_names), project.has_background)
            for sample in samples
        ],
        [Problem(f"{name}/{problem.name}", problem.reason) for problem in raw.problems],
        warnings,
        raw.tags_from_masks,
        "mask_values" in type(settings.dataset).model_fields,
    )


def check_not_learned(sets: Iterable[ScoredSet], learned: Iterable[RawSample]) -> None:
    """Raise ConfigError where an image of a set is one that something is learned from.

    Args:
        sets: which are scored.
        learned: the images of train and selection, and background images.
    """
    resolved = cache(Path.resolve)

    def place(sample: RawSample) -> tuple[Path, str]:
        return resolved(sample.image.parent), sample.image.name

    own = {place(sample) for sample in learned}
    for item in sets:
        both = [sample.image for sample in item.samples if place(sample) in own]
        if both:
            key = full_key(f"scored_sets.{item.name}")
            raise ConfigError(
                f"{key} has {len(both)} images that are learned from, such as {both[0]}, so that "
                "its scores would say nothing of new images; name other images"
                + f", or set {key}.part to val"
                * (len(both) < len(item.samples))
            )


def scored_contradictions(
    item: ScoredSet, work: Preparation, raw: RawDataset, params: Params
) -> list[str]:
    """What the masks of a set have against its tags; what is an error of val is one here.

    Args:
        item: the set.
        work: which read its images.
        raw: the project's own data set.
        params: of the project.

    Raises:
        ConfigError: they contradict one another, and that is no mere warning.
    """
    if item.tags_from_masks:
        return []
    review = MaskReview(work.drawn, raw.class_names)
    with naming(f"scored_sets.{item.name}"):
        found = [*check_masks(review, params, settable=item.settable), *review.warnings()]
    return [f"{item.name}: {text}" for text in found]


def _ids_by_name(own: Sequence[str], class_names: Sequence[str]) -> dict[int, int]:
    """The project's id of each of a set's ids whose class it has."""
    known = {_plain(name): at for at, name in enumerate(class_names, 1)}
    ids = {at: known[_plain(name)] for at, name in enumerate(own, 1) if _plain(name) in known}
    key = full_key("dataset")
    if not ids:
        raise ConfigError(
            f"{key} has the classes {some(own)}, of which the project has none: its classes are "
            f"{some(class_names)}; name them alike, such as with {key}.classes or class_name"
        )
    if len(set(ids.values())) < len(ids):
        raise ConfigError(
            f"{key} has two classes whose names differ in case or blanks only, of {some(own)}; "
            "rename one"
        )
    return ids


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _by_project(
    sample: RawSample, name: str, ids: Mapping[int, int], own_classes: int, has_background: bool
) -> RawSample:
    """A sample with the project's ids; without annotations, of which nothing is learned."""
    values = dict(sample.mask_values)
    if not has_background or any(ids.get(at) != at for at in range(1, own_classes + 1)):
        values = values or {at: at for at in (*range(own_classes + 1), IGNORE_INDEX)}
        rest = 0 if has_background else IGNORE_INDEX
        known = dict(ids) | {IGNORE_INDEX: IGNORE_INDEX}
        values = {value: known.get(to, rest) for value, to in values.items()}
    return replace(
        sample,
        name=f"{name}/{sample.name}",
        class_ids=tuple(sorted(ids[at] for at in sample.class_ids if at in ids)),
        uncertain=tuple(sorted((ids[at], prob) for at, prob in sample.uncertain if at in ids)),
        mask_values=values,
        boxes=(),
        points=(),
        scribbles=None,
        scribble_values={},
    )
