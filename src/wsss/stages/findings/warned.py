"""What stages have warned of already, read from their reports, with the images that show it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from wsss.artifacts import IGNORE_INDEX, Manifest, Sample
from wsss.pipeline import Target
from wsss.pipeline.stage import setting_at
from wsss.stages._warnings.tally import Fault, map_faults, mask_faults
from wsss.stages.findings.finding import Change, Finding, Shown, falling
from wsss.stages.findings.made import Made

__all__ = ["of_classes", "settings_named", "warned"]

_WORDS = re.compile(r"[A-Za-z_]+(?:\.\w+)*")
_SAME = re.compile(r",? (?:or|and) |, ?")  # what stands between settings that are changed alike


@dataclass(frozen=True)
class _Kind:
    """A warning by its wording.

    Attributes:
        name: of the finding.
        wording: a pattern that its text has and others have not.
        fault: "always", "half" of what the first numbers of the text count, "all" of it, "never".
        images: the fault of an image that shows it.
        needs_truth: whether it takes masks of annotators.
    """

    name: str
    wording: str
    fault: Literal["always", "half", "all", "never"] = "never"
    images: tuple[str, ...] = field(default=())
    needs_truth: bool = False


KINDS = (
    _Kind("classes_at_chance", "classes better than a guess", "all"),
    _Kind("no_selection_score", "can tell epochs apart and the last one was kept"),
    _Kind("no_proposals", "images have no proposals", "all"),
    _Kind("empty_maps", "maps of an image's own tag are empty", "half", ("empty",)),
    _Kind("full_maps", "maps of an image's own tag are the same", "half", ("full",)),
    _Kind("masks_without_tags", "pseudo masks of tagged images show none", "half", ("bare",)),
    _Kind("ignored_masks", "ignored nearly everywhere", "half", ("ignored",)),
    _Kind("filled_boxes", "had no pixel of their class and were filled"),
    _Kind("nothing_to_learn", "pseudo masks of the selection split show no class", "always"),
    _Kind("background_alone", "predicts background alone", "always"),
    _Kind("few_labels", "of the pixels it learns from only"),
    _Kind("no_regions", "is in the index, so that none is ever predicted"),
    _Kind("tags_not_predicted", "tagged images show none of their tags", "half", ("bare",)),
    _Kind("classes_never_predicted", "where it is tagged", "never", ("lost",)),
    _Kind("threshold_at_the_end", "is at the end of its range", needs_truth=True),
    _Kind("classes_not_found", "IoU of '.*' is 0 on", needs_truth=True),
    _Kind("classes_not_drawn", "no scored pixel of the .* masks", needs_truth=True),
    _Kind("nothing_drawn", "hold no pixel of any class", needs_truth=True),
    _Kind("all_ignored", "only the strict mean IoU is given", needs_truth=True),
    _Kind("false_alarms", "images without a tag, on"),
)
"""The first whose wording a text has; any other text is a finding named "warned"."""

IMPLIED = {
    "raise its epochs": (Change("train_classifier.epochs", "raise"),),
    "prepare_data's mask values": (Change("prepare_data.dataset", "change"),),
    "the data set's empty_tag": (Change("prepare_data.dataset", "change"),),
}
"""Settings that a text means with these words, without their keys."""

OTHERWISE = {
    "evaluate_segmenter": Change("train_segmenter.epochs", "raise"),
    "prepare_data": Change("prepare_data.dataset", "change"),
}
"""What to change where a stage's text means no setting at all."""


def warned(made: Made, target: Target) -> Iterator[Finding]:
    """What the report of a target warns of."""
    for text in made.report(target.name).get("warnings", ()):
        kind = next((kind for kind in KINDS if re.search(kind.wording, text)), _Kind("warned", ""))
        counted = re.search(r"(\d+) of (\d+)", text)
        bad, total = map(int, counted.groups()) if counted else (0, 0)
        is_fault = kind.fault == "always" or (
            total > 0 and {"half": 2 * bad >= total, "all": bad == total}.get(kind.fault, False)
        )
        shown, images = _images(made, target, kind.images, text)
        yield Finding(
            kind.name,
            "fault" if is_fault else "warning",
            target.name,
            text,
            _changes(text, target, made.params),
            {"bad": bad, "of": total} if counted else {},
            images,
            shown,
            kind.needs_truth,
        )


def _changes(text: str, target: Target, params: Any) -> tuple[Change, ...]:
    """The settings that a text names, and those that it means."""
    named = settings_named(text, params)
    known = {change.key for change in named}
    for words, changes in IMPLIED.items():
        if words in text:
            named += [change for change in changes if change.key not in known]
    name = target.stage.name
    return tuple(named or ([OTHERWISE[name]] if name in OTHERWISE else []))


def settings_named(text: str, params: Any) -> list[Change]:
    """The settings that a text names, with the direction in which it wants them changed.

    Settings that follow upon another one, such as "a.b, c or d", are of its section.

    Args:
        text: of a warning.
        params: settings; names of none of them are left out.
    """
    verb, parent, end = "", "", 0
    changes: dict[str, Change] = {}
    for found in _WORDS.finditer(text):
        word = found[0].rstrip(".")
        if word.lower() in ("raise", "lower", "change", "set", "take", "show", "see", "let"):
            verb, parent = word.lower(), ""
            continue
        follows = bool(parent) and bool(_SAME.fullmatch(text[end : found.start()]))
        key = word if "." in word else f"{parent}.{word}" if follows else ""
        if not key or not _exists(key, params):
            continue
        end = found.end()
        parent = key.rpartition(".")[0]
        if verb != "see":
            how: Literal["raise", "lower", "change"] = "change"
            if verb in ("raise", "lower"):
                how = verb  # type: ignore[assignment]
            changes.setdefault(key, Change(key, how))
    return list(changes.values())


def _exists(key: str, params: Any) -> bool:
    try:
        setting_at(params, key)
    except (AttributeError, KeyError, IndexError, ValueError, TypeError):
        return False
    return True


def _images(
    made: Made, target: Target, faults: tuple[str, ...], text: str
) -> tuple[Shown, tuple[str, ...]]:
    """What shows a fault: the kind of file, and the images that have it, most faults first."""
    picture = target.stage.picture
    if target.stage.evaluates and made.manifest is not None:
        return _of_evaluation(made, target, made.manifest, text)
    if not faults or picture is None or made.manifest is None:
        return _of_classes(made, target, text)
    manifest = made.manifest
    folder = made.paths.root / target.outs(made.params)[0]
    split = next((name for name in manifest.splits if text.startswith(f"{name}:")), "")
    samples = manifest.splits[split] if split else manifest.all_samples()
    folder = folder / split if picture.split else folder
    tagged = [sample for sample in samples if sample.class_ids]
    found: Iterator[tuple[Sample, list[Fault]]]
    if picture.kind == "scores":
        found = ((item, map_faults(item, scores)) for item, scores in made.maps(folder, tagged))
    else:
        found = ((item, mask_faults(item, mask)) for item, mask in made.masks(folder, tagged))
    counts = {item.name: sum(what in faults for what, _ in own) for item, own in found}
    return Shown(picture.kind, folder), falling({name: n for name, n in counts.items() if n})


def _of_classes(made: Made, target: Target, text: str) -> tuple[Shown, tuple[str, ...]]:
    """Images of the classes that a classifier has not learned, by their maps if there are any."""
    if target.stage.name != "train_classifier" or made.manifest is None:
        return Shown("image"), ()
    return of_classes(made, _classes_named(text, made.manifest))


def _of_evaluation(
    made: Made, target: Target, manifest: Manifest, text: str
) -> tuple[Shown, tuple[str, ...]]:
    """Images of the split and the classes that an evaluation names, by what it has scored.

    That is what was last made before it, as in panels: by itself, where it combines chains.
    """
    before = made.pipeline.upstream(target, made.params)  # itself last
    scored = next(part for part in reversed(before) if part.stage.picture)
    picture = scored.stage.picture
    assert picture is not None
    words = re.findall(r"\w+", text)
    split = min((name for name in manifest.splits if name in words), key=words.index, default="val")
    samples = manifest.splits[split]
    folder = made.paths.root / scored.outs(made.params)[0] / (split if picture.split else "")
    shown = Shown(picture.kind, folder)
    if "images without a tag" in text:
        alarms = {
            sample.name: float(np.mean((mask > 0) & (mask < IGNORE_INDEX)))
            for sample, mask in made.masks(folder, [item for item in samples if not item.class_ids])
        }
        return shown, falling({name: area for name, area in alarms.items() if area})
    wanted = _classes_named(text, manifest) or set(range(1, manifest.num_fg_classes + 1))
    names = [sample.name for sample in samples if wanted & set(sample.class_ids)]
    return shown, tuple(names[: made.limit])


def _classes_named(text: str, manifest: Manifest) -> set[int]:
    """The classes that a text has in quotation marks, by number."""
    quoted = re.findall(r"'([^']+)'", text)
    return {at for at, name in enumerate(manifest.class_names, 1) if name in quoted}


def of_classes(made: Made, class_ids: set[int]) -> tuple[Shown, tuple[str, ...]]:
    """Images that are tagged with some classes, with their maps where there are any."""
    if made.manifest is None:
        return Shown("image"), ()
    samples = [
        sample for sample in made.manifest.all_samples() if class_ids & set(sample.class_ids)
    ]
    there = made.paths.cams.is_dir()
    shown = Shown("scores", made.paths.cams) if there else Shown("image")
    return shown, tuple(sample.name for sample in made.chosen(samples))
