"""What is checked of a data set once its images are read, and what is said of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wsss.artifacts import Sample
from wsss.checks import full_key
from wsss.config.params import Params
from wsss.data import Problem
from wsss.settings import ConfigError
from wsss.stages._data_checks import listed_problems
from wsss.stages._mask_checks import MANY, MaskReview
from wsss.stages._preparation import Preparation, Turning

__all__ = [
    "check_left",
    "check_masks",
    "check_threshold",
    "dark_warnings",
    "pixel_warnings",
    "skipped_warnings",
    "turned_warnings",
]


def check_masks(review: MaskReview, params: Params, *, settable: bool | None = None) -> list[str]:
    """Raise ConfigError where masks contradict the tags; where that is wanted, say so instead.

    Args:
        review: of a data set.
        params: of the project.
        settable: whether it has a setting mask_values; None asks that of the project's own.
    """
    settings = params.prepare_data
    found = review.contradictions(max(settings.max_skipped_share, MANY))
    if not found:
        return []
    shown = found[:5] + ([f"and {len(found) - 5} more"] if len(found) > 5 else [])
    if settings.contradicting_masks == "warn":
        return [f"masks contradict the tags: {'; '.join(shown)}"]
    if settable is None:
        settable = "mask_values" in type(settings.dataset).model_fields
    raise ConfigError(
        "\n".join(
            [
                "masks contradict the tags, so that scores would mean nothing:",
                *(f"  {line}" for line in shown),
                *review.advice(settable=settable),
                "where it is the tags that are wrong: prepare_data.contradicting_masks: warn",
            ]
        )
    )


def check_threshold(review: MaskReview, params: Params) -> None:
    """Raise ConfigError where a threshold is to be chosen, and no mask for it shows a class."""
    if params.make_pseudo_masks.selects_threshold and not review.shows_any("selection"):
        raise ConfigError(
            "make_pseudo_masks.threshold is 'selected', but no mask of the selection split "
            "shows any class to choose it on; set it to usual, or raise "
            "prepare_data.selection_share"
        )


def pixel_warnings(work: Preparation) -> list[str]:
    """What a person must know of how images and masks were taken."""
    return [*turned_warnings(work.turning), *dark_warnings(work)]


def turned_warnings(turning: Turning | None) -> list[str]:
    """How masks of images that EXIF turns were taken."""
    if turning is None:
        return []
    parts = []
    if turning.stored:
        parts.append(f"{turning.stored} have the size of the stored pixels and were turned alike")
    if turning.either:
        done = "left as they are" if turning.way == "upright" else "turned alike"
        parts.append(
            f"{turning.either} fit either way and were {done}, as {turning.reason}; if they lie "
            "on their side now, set prepare_data.turned_masks: "
            + ("stored" if turning.way == "upright" else "upright")
        )
    return [f"masks of images that EXIF turns: {'; '.join(parts)}"] if parts else []


def dark_warnings(work: Preparation) -> list[str]:
    """What became of images whose range of values is not that of all bits."""
    span = work.rules.span
    black = [
        name
        for name, levels in work.levels.items()
        if (
            levels.is_dark
            if span is None
            else 8 * (levels.high - span[0]) < span[1] - span[0] or levels.low >= span[1]
        )
    ]
    left_out = {problem.name for problem in work.problems}
    black = [name for name in black if name not in left_out]
    if not black:
        return []
    first = work.levels[black[0]]
    return [
        f"{len(black)} of {len(work.levels)} images of more than 8 bits are nearly black or white, "
        f"such as '{black[0]}' with values from {first.low:g} to {first.high:g}; if they should "
        "not be, set prepare_data.pixel_range to what is black and white"
    ]


def check_left(
    problems: Sequence[Problem],
    prepared: Mapping[str, Sequence[Sample]],
    params: Params,
    work: Preparation,
) -> None:
    """Raise ValueError where nothing usable is left, or too much was left out.

    Args:
        problems: what was left out.
        prepared: what is left, by list.
        params: of the project.
        work: which read the images.
    """
    settings, hint = params.prepare_data, _range_of_all(work)
    kept = sum(map(len, prepared.values()))
    for split, samples in prepared.items():
        if not samples:
            raise ValueError(
                f"no usable image is left for the {split} split{listed_problems(problems)}{hint}"
            )
    if not any(sample.class_ids for sample in prepared["train"]):
        raise ValueError(
            f"no usable training image with a tag is left{listed_problems(problems)}{hint}"
        )
    share = len(problems) / (kept + len(problems))
    if problems and settings.on_bad_image == "error":
        raise ValueError(
            f"unusable images: {len(problems)}{listed_problems(problems)}{hint}\n"
            "mend them, or set prepare_data.on_bad_image to skip"
        )
    if share > settings.max_skipped_share:
        raise ValueError(
            f"{len(problems)} of {kept + len(problems)} images cannot be used, which is more than "
            f"prepare_data.max_skipped_share = {settings.max_skipped_share}"
            f"{listed_problems(problems)}{hint}\nmend them, or raise that share"
        )


def skipped_warnings(problems: Sequence[Problem]) -> list[str]:
    """The images that are left out, as one text; none where there is none."""
    return [f"skipped images: {len(problems)}{listed_problems(problems)}"] if problems else []


def _range_of_all(work: Preparation) -> str:
    """What to set where several images lack a range of values, of which each names its own."""
    left_out = {problem.name for problem in work.problems}
    lacking = [levels for name, levels in work.levels.items() if name in left_out]
    if len(lacking) < 2:
        return ""
    low, high = min(item.low for item in lacking), max(item.high for item in lacking)
    first, last = replace(lacking[0], low=low, high=high).span()
    return (
        f"\nthe values of {len(lacking)} images go from {low:g} to {high:g}: set "
        f"{full_key('pixel_range')}: [{first:g}, {last:g}]"
    )
