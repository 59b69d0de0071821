"""Masks that people have corrected: checked before images are read, and tags that follow them."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wsss.artifacts import CORRECTIONS, IGNORE_INDEX, Corrections, Sample
from wsss.checks import full_key, printable
from wsss.config.preparation import PrepareDataSettings
from wsss.cores import usable_cores
from wsss.data import RawDataset, RawSample
from wsss.data.images import BadImageError, PixelRules, image_frame
from wsss.progress import track
from wsss.settings import ConfigError, expand_path
from wsss.stages._annotation_checks import possible_ids
from wsss.stages._annotation_parts import LABELLED
from wsss.stages._shrinking import shrunk_size

__all__ = ["Corrected", "corrected_images"]

Lists = Mapping[str, Sequence[RawSample]]

_LISTED = 10


@dataclass(frozen=True)
class Corrected:
    """The images of train and selection whose masks somebody has corrected.

    Attributes:
        layer: all corrections.
        class_names: K names.
        samples: the images, by list, with the classes that corrections show among their tags.
        warnings: what a person must know.
    """

    layer: Corrections
    class_names: Sequence[str]
    samples: Lists = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def all_samples(self) -> list[RawSample]:
        """The images of all lists."""
        return [sample for samples in self.samples.values() for sample in samples]

    def mask(self, sample: Sample) -> np.ndarray:
        """(H, W) uint8: the mask that counts, on the pixels of the prepared image."""
        return self.layer.read_mask(sample.name, sample.size, self.class_names)

    def in_lists(self, lists: Lists) -> dict[str, list[RawSample]]:
        """The lists, with the tags that corrections have changed."""
        changed = {sample.name: sample for sample in self.all_samples}
        return {
            name: [changed.get(sample.name, sample) for sample in samples]
            for name, samples in lists.items()
        }

    def report(self, drawn: Collection[str] = ()) -> dict[str, Any]:
        """How many images of each list have one, and of whom; nothing where there are none.

        Args:
            drawn: names of the images whose masks are learned from without a correction, too.
        """
        used = [self.layer.newest[sample.name] for sample in self.all_samples]
        if not used:
            return {}
        people = [entry.who for entry in used]
        return {
            "corrections": {
                **{name: len(samples) for name, samples in self.samples.items()},
                "drawn": sum(entry.image in drawn for entry in used),
                "by": {who: people.count(who) for who in sorted(set(people))},
            }
        }


def corrected_images(
    lists: Lists,
    raw: RawDataset,
    settings: PrepareDataSettings,
    rules: PixelRules,
    scored: Collection[str] = (),
) -> Corrected:
    """Find the corrections of a data set's images, and look at each.

    A class that a correction shows is there, whatever the tags of its image say: so these follow.

    Args:
        lists: the images of train, selection and val.
        raw: the data set.
        settings: of the stage.
        rules: how pixels become 8-bit RGB.
        scored: names of the images of sets that are scored beside val.

    Raises:
        ConfigError: the folder of corrections is not there.
        ValueError: one does not fit its image, or shows what is no class.
    """
    layer = _layer(settings)
    if not layer.names:
        return Corrected(layer, raw.class_names)
    found = {
        name: [sample for sample in lists[name] if sample.name in layer.names] for name in LABELLED
    }
    samples = [sample for own in found.values() for sample in own]
    check = _Check(layer, raw, rules, settings.long_side_max)
    contexts = [copy_context() for _ in samples]  # messages name settings by their sections
    with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
        looked = pool.map(
            lambda sample, context: context.run(check.look, sample), samples, contexts
        )
        done = track(looked, "corrections", len(samples))
        seen = {sample.name: item for sample, item in zip(samples, done, strict=True)}
    problems = [item.problem for item in seen.values() if item.problem]
    if problems:
        more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        lines = [printable(text)[:600] for text in problems[:_LISTED]] + more
        raise ValueError(
            f"{len(problems)} corrections do not fit their images:\n"
            + "\n".join(f"  {line}" for line in lines)
        )
    tagged = {name: [_tagged(item, seen[item.name]) for item in own] for name, own in found.items()}
    warnings = [*_passed_over(layer, lists, scored), *_of_tags(samples, seen, raw.class_names)]
    enlarged = [name for name, item in seen.items() if item.enlarged]
    if enlarged:
        warnings.append(
            f"{len(enlarged)} corrections were drawn on smaller images than these are now, such as "
            f"that of '{enlarged[0]}': their outlines are coarse; correct them again, or set "
            f"{full_key('long_side_max')} to what it was"
        )
    return Corrected(layer, raw.class_names, tagged, tuple(warnings))


@dataclass(frozen=True)
class _Seen:
    """What a correction holds.

    Attributes:
        class_ids: that have a pixel.
        is_sure: whether no pixel is ignored.
        enlarged: whether the image has more pixels.
        problem: why it cannot be used; "" where it can.
    """

    class_ids: frozenset[int] = frozenset()
    is_sure: bool = False
    enlarged: bool = False
    problem: str = ""


@dataclass(frozen=True)
class _Check:
    layer: Corrections
    raw: RawDataset
    rules: PixelRules
    long_side: int

    def look(self, sample: RawSample) -> _Seen:
        """Read the correction of an image, on the pixels that this will have."""
        file = self.layer.mask_path(sample.name)
        try:
            size = shrunk_size(image_frame(sample.image, self.rules).upright, self.long_side)
        except BadImageError:
            return _Seen()  # the image is left out, and listed
        try:
            mask = self.layer.read_mask(sample.name, size, self.raw.class_names)
            whole = self.layer.drawn_size(sample.name)
        except ValueError as error:
            return _Seen(problem=str(error))
        present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
        if not self.raw.has_background and 0 in present:
            return _Seen(
                problem=f"{file} holds 0, the background, which data without one do not have; draw "
                f"a class there, or leave it ignored ({IGNORE_INDEX})"
            )
        ids = frozenset(present) - {0, IGNORE_INDEX}
        return _Seen(ids, IGNORE_INDEX not in present, max(whole) < max(size))


def _layer(settings: PrepareDataSettings) -> Corrections:
    if settings.corrections == "none":
        return Corrections(expand_path(CORRECTIONS, "corrections"))
    folder = expand_path(settings.corrections, "corrections")
    layer = Corrections.of_folder(folder)
    if not folder.is_dir() and settings.corrections != CORRECTIONS:
        raise ConfigError(
            f"{full_key('corrections')} is '{settings.corrections}', but {folder} is not a folder; "
            f"set it to {CORRECTIONS}, or to none"
        )
    return layer


def _tagged(sample: RawSample, seen: _Seen) -> RawSample:
    """The sample with the classes that its tags deny, and its correction shows."""
    denied = seen.class_ids - possible_ids(sample)
    if not denied:
        return sample
    return replace(sample, class_ids=tuple(sorted({*sample.class_ids, *denied})))


def _passed_over(layer: Corrections, lists: Lists, scored: Collection[str]) -> list[str]:
    """What is said of corrections of images that are not there."""
    known = {sample.name for samples in lists.values() for sample in samples}
    gone = sorted(layer.names - known - set(scored))
    if not gone:
        return []
    return [
        f"{len(gone)} corrections are of images that the data set does not have, such as "
        f"'{gone[0]}': they are kept, and not used; name the images as they were, or move the "
        f"folders out of {layer.folder}"
    ]


def _of_tags(
    samples: Sequence[RawSample], seen: Mapping[str, _Seen], class_names: Sequence[str]
) -> list[str]:
    """What is said where corrections and tags differ."""
    denied = [
        (sample.name, class_id)
        for sample in samples
        for class_id in sorted(seen[sample.name].class_ids - possible_ids(sample))
    ]
    absent = [
        (sample.name, class_id)
        for sample in samples
        if seen[sample.name].is_sure
        for class_id in sample.class_ids
        if class_id not in seen[sample.name].class_ids
    ]
    texts = []
    if denied:
        name, class_id = denied[0]
        texts.append(
            f"corrections show {len(denied)} classes that the tags of their images deny, such as "
            f"'{class_names[class_id - 1]}' in '{name}': the tags follow them; mend those of the "
            "data set"
        )
    if absent:
        name, class_id = absent[0]
        texts.append(
            f"corrections show no pixel of {len(absent)} classes that the tags of their images "
            f"name, such as '{class_names[class_id - 1]}' in '{name}': the tags stay; mend "
            "whichever is wrong"
        )
    return texts
