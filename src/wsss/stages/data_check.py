"""All that can be said of a data set before a stage runs: what prepare_data would say, and more.

Nothing is written but a contact sheet. Where prepare_data stops at the first error, all are found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from PIL import Image

from wsss.artifacts import IGNORE_INDEX, SPLITS, Manifest, Sample
from wsss.checks import naming
from wsss.config.params import Params
from wsss.cores import usable_cores
from wsss.data import Problem, RawDataset, RawSample
from wsss.data.images import BadImageError, PixelRules, image_frame, open_rgb
from wsss.data.splits import subset
from wsss.progress import track
from wsss.registry import DATASETS
from wsss.report.contact_sheet import COLUMNS, draw_contact_sheet, thumbnail
from wsss.stages._annotating import check_given
from wsss.stages._annotation_checks import check_annotations
from wsss.stages._annotation_parts import KINDS, annotated_parts
from wsss.stages._corrected import corrected_images
from wsss.stages._data_checks import (
    check_class_names,
    check_space,
    class_lines,
    class_warnings,
    without_unwritable,
)
from wsss.stages._data_findings import (
    classes_together,
    false_alarm_remarks,
    few_warnings,
    large_warnings,
    length_remarks,
    same_tags_warnings,
    size_facts,
    small_warnings,
)
from wsss.stages._data_report import data_report
from wsss.stages._findings import LEVELS, Finding, Findings, Level
from wsss.stages._lists import (
    BACKGROUND,
    background_list,
    check_any_tag,
    check_files,
    check_names,
    check_selection_masks,
    check_single_label,
    with_selection,
)
from wsss.stages._mask_checks import MaskReview
from wsss.stages._pixel_checks import (
    check_left,
    check_masks,
    check_threshold,
    dark_warnings,
    pixel_warnings,
    skipped_warnings,
    turned_warnings,
)
from wsss.stages._preparation import Preparation
from wsss.stages._same_files import same_files, same_files_remarks, same_files_warnings
from wsss.stages._scored_sets import (
    check_not_learned,
    collect_scored_set,
    scored_contradictions,
)

__all__ = ["LEVELS", "DataCheck", "Finding", "Level", "check_data"]

FAST = 300
"""Images of each split that are decoded where it has to be fast."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class DataCheck:
    """What is known of a data set.

    Attributes:
        findings: the worst first.
        lines: what was understood of the data, for a person.
        report: as that of prepare_data, with "sizes" and "together"; empty where the data set
            could not be read.
        images: how many there are, and of how many pixels and masks were read.
        sheet: the contact sheet; None where there was nothing to show.
    """

    findings: tuple[Finding, ...]
    lines: tuple[str, ...] = ()
    report: Mapping[str, Any] | None = None
    images: tuple[int, int] = (0, 0)
    sheet: Path | None = None

    def of(self, level: Level) -> list[Finding]:
        """The findings of one level."""
        return [finding for finding in self.findings if finding.level == level]


def check_data(params: Params, root: Path, sheet: Path, *, fast: bool = False) -> DataCheck:
    """Look at a data set as params.yaml names it.

    Args:
        params: all settings.
        root: of the project, whose disk has to have room.
        sheet: the contact sheet to write.
        fast: of each split decode 300 images and their masks only, chosen by rng_seed; of the
            others sizes are read.
    """
    with naming("prepare_data"), TemporaryDirectory(prefix="wsss-") as scratch:
        return _Check(params, root, Path(scratch), fast=fast).run(sheet)


class _Check:
    """See `check_data`."""

    def __init__(self, params: Params, root: Path, scratch: Path, *, fast: bool) -> None:
        self.params, self.root, self.scratch, self.fast = params, root, scratch, fast
        self.settings = params.prepare_data
        self.rules = PixelRules.of(self.settings.pixel_range, self.settings.bands)
        self.findings = Findings()
        self.beside: dict[str, list[Sample]] = {}  # of scored sets
        self.beside_problems: list[Problem] = []
        self.scored_names: set[str] = set()

    def run(self, sheet: Path) -> DataCheck:
        background = self._background()
        raw = self._collected()
        if raw is None:
            return DataCheck(self.findings.ranked())
        with self.findings.catching("classes"):
            check_class_names(raw.class_names, self.params)
        if len(raw.class_names) > IGNORE_INDEX - 2:
            return DataCheck(self.findings.ranked())  # no mask can hold them
        raw, lists = self._lists(raw, background)
        splits = {split: lists[split] for split in SPLITS}
        beside = self._scored_sets(raw, lists)
        given: Sequence[RawSample] = ()
        with self.findings.catching("corrections"):
            corrected = corrected_images(splits, raw, self.settings, self.rules, self.scored_names)
            self.findings.add("warning", "corrections", corrected.warnings)
            splits = corrected.in_lists(splits)
            lists |= splits
            given = corrected.samples.get("train", ())
        self._annotations(splits, raw, given)
        manifest, report, decoded = self._pixels(raw, lists)
        self._numbers(manifest, report)
        with self.findings.catching("images"):
            check_space(lists, self.root)
        groups = same_files(lists)
        self.findings.add("warning", "duplicates", same_files_warnings(groups))
        self.findings.add("remark", "duplicates", same_files_remarks(groups))
        shown = self._sheet(sheet, manifest, lists)
        lines = [*class_lines(report), *beside, *_lines(report)]
        images = (sum(map(len, lists.values())), decoded)
        return DataCheck(self.findings.ranked(), tuple(lines), report, images, shown)

    def _background(self) -> dict[str, list[RawSample]]:
        with self.findings.catching("background images"):
            background, passed_over = background_list(self.params)
            self.findings.add("warning", "background images", passed_over)
            return background
        return {}

    def _collected(self) -> RawDataset | None:
        with self.findings.catching("data set"):
            dataset = DATASETS.build(self.settings.dataset)
            raw: RawDataset = dataset.collect(self.scratch, self.params.base.rng_seed)
            self.findings.add("warning", "data set", raw.warnings)
            return raw
        return None

    def _lists(
        self, raw: RawDataset, background: dict[str, list[RawSample]]
    ) -> tuple[RawDataset, dict[str, list[RawSample]]]:
        """The images of each split and of the background, with what is wrong about them."""
        found = {split: raw.splits.get(split, []) for split in SPLITS}
        kept, unwritable = without_unwritable(found | background, self.root)
        problems = [*raw.problems, *unwritable]
        raw = replace(raw, splits={split: kept[split] for split in SPLITS}, problems=problems)
        background = {split: kept[split] for split in background}
        splits = raw.splits
        with self.findings.catching("splits"):
            splits = with_selection(raw, self.params)
        with self.findings.catching("splits"):
            check_names(splits | background)
        with self.findings.catching("background images"):
            check_files(splits, background)
        if splits["train"]:
            with self.findings.catching("tags"):
                check_any_tag(splits)
        if splits["selection"]:
            with self.findings.catching("masks"):
                check_selection_masks(splits, self.params)
        with self.findings.catching("tags"):
            check_single_label(splits, self.params)
        return raw, splits | background

    def _annotations(
        self,
        splits: Mapping[str, Sequence[RawSample]],
        raw: RawDataset,
        corrected: Sequence[RawSample],
    ) -> None:
        """Those that the settings take are errors where they do not fit, and others are warned."""
        there = {
            kind for kind in raw.offers if any(getattr(item, kind) for item in splits["train"])
        }
        unused = {
            key: "all" if kind in there and getattr(self.settings, key) == "none" else "none"
            for kind, key in KINDS.items()
        }
        asked: tuple[tuple[Level, Any], ...] = (
            ("error", self.settings),
            ("warning", self.settings.model_copy(update=unused)),
        )
        for level, settings in asked:
            with self.findings.catching("annotations", level):
                parts = annotated_parts(splits, raw, settings, self.params.base.rng_seed)
                denied = raw.tags_from_masks or settings.contradicting_masks == "warn"
                check_annotations(parts, raw.class_names, self.rules, ignores_denied=denied)
                if level == "error":
                    check_given(parts, self.params, corrected)

    def _scored_sets(self, raw: RawDataset, lists: Mapping[str, Sequence[RawSample]]) -> list[str]:
        """A line of each set that is scored beside val, with what is wrong about it."""
        lines = []
        learned = [item for split, items in lists.items() if split != "val" for item in items]
        for name, settings in self.settings.scored_sets.items():
            about = f"scored set {name}"
            with self.findings.catching(about):
                found = collect_scored_set(
                    name, settings, raw, self.scratch, self.params.base.rng_seed
                )
                self.findings.add("warning", about, found.warnings)
                self.scored_names |= {sample.name for sample in found.samples}
                check_not_learned([found], learned)
                check_names({**lists, name: found.samples})
                samples = found.samples
                if self.fast:
                    samples = subset(samples, FAST, self.params.base.rng_seed)
                work = self._preparation(raw)
                self.beside |= work.all({name: samples})
                self.beside_problems += [*found.problems, *work.problems]
                self.findings.add("warning", about, pixel_warnings(work))
                said = scored_contradictions(found, work, raw, self.params)
                self.findings.add("warning", about, said)
                masks = sum(sample.mask is not None for sample in samples)
                lines.append(
                    f"{name}, scored beside val: {len(samples)} images, {masks} with a mask"
                )
        return lines

    def _preparation(self, raw: RawDataset) -> Preparation:
        """Reads images and masks, and writes nothing."""
        return Preparation(
            len(raw.class_names),
            None,
            None,
            rules=self.rules,
            turned_masks=self.settings.turned_masks,
            has_background=raw.has_background,
        )

    def _pixels(
        self, raw: RawDataset, lists: Mapping[str, Sequence[RawSample]]
    ) -> tuple[Manifest, dict[str, Any], int]:
        """Decode images and masks, or those of a part; of the others only sizes are read."""
        chosen, rest = dict(lists), dict[str, list[RawSample]]()
        if self.fast:
            for split, samples in lists.items():
                chosen[split] = subset(list(samples), FAST, self.params.base.rng_seed)
                names = {sample.name for sample in chosen[split]}
                rest[split] = [sample for sample in samples if sample.name not in names]
        work = self._preparation(raw)
        prepared = work.all(chosen)
        problems = [*raw.problems, *work.problems, *self.beside_problems]
        review = MaskReview(work.drawn, raw.class_names)
        if not raw.tags_from_masks:
            with self.findings.catching("masks"):
                self.findings.add("warning", "masks", check_masks(review, self.params))
                self.findings.add("warning", "masks", review.warnings())
        if all(lists[split] for split in SPLITS):
            with self.findings.catching("images"):
                left = prepared | self.beside
                check_left(problems, left, self.params, work)  # which lists them, too
                self.findings.add("warning", "images", skipped_warnings(problems))
        else:
            self.findings.add("warning", "images", skipped_warnings(problems))
        if not any(rest.values()) and any(item.mask for item in lists["selection"]):
            with self.findings.catching("masks"):
                check_threshold(review, self.params)
        self.findings.add("warning", "masks", turned_warnings(work.turning))
        self.findings.add("warning", "images", dark_warnings(work))
        decoded = sum(map(len, chosen.values()))
        for split, samples in rest.items():
            framed, broken = self._framed(samples)
            self.findings.add("warning", "images", skipped_warnings(broken))
            prepared[split] = sorted([*prepared[split], *framed], key=lambda sample: sample.name)
        manifest = Manifest(
            raw.class_names,
            {split: tuple(prepared[split]) for split in SPLITS},
            tuple(prepared.get(BACKGROUND, ())),
            has_background=raw.has_background,
        )
        report = data_report(manifest, problems, work.conversions)
        report["sizes"] = size_facts(manifest.all_samples())
        report["together"] = [list(pair) for pair in classes_together(manifest)]
        return manifest, report, decoded

    def _framed(self, samples: Sequence[RawSample]) -> tuple[list[Sample], list[Problem]]:
        """Images of which only the size is read."""

        def framed(sample: RawSample) -> Sample | Problem:
            try:
                size = image_frame(sample.image, self.rules).upright
            except BadImageError as error:
                return Problem(sample.name, f"{sample.image}: {error}")
            mask = None if sample.mask is None else f"{sample.name}.png"
            return Sample(sample.name, "", size, sample.class_ids, mask, sample.uncertain)

        found = list(_in_parallel(framed, samples, "sizes"))
        return (
            [item for item in found if isinstance(item, Sample)],
            [item for item in found if isinstance(item, Problem)],
        )

    def _numbers(self, manifest: Manifest, report: Mapping[str, Any]) -> None:
        """Of classes and of sizes."""
        splits = report["splits"]
        if splits["train"]["images"]:
            warned = class_warnings(splits, background=bool(manifest.background))
            self.findings.add("warning", "classes", warned)
            self.findings.add("warning", "classes", few_warnings(splits))
            self.findings.add("warning", "classes", same_tags_warnings(manifest))
        settable = "empty_tag" in type(self.settings.dataset).model_fields
        self.findings.add("remark", "classes", false_alarm_remarks(splits, settable=settable))
        samples = [*manifest.all_samples(), *manifest.background]
        self.findings.add("warning", "sizes", small_warnings(samples, self.params))
        self.findings.add("warning", "sizes", large_warnings(samples, self.params))
        self.findings.add("remark", "sizes", length_remarks(manifest, self.params))

    def _sheet(
        self, out: Path, manifest: Manifest, lists: Mapping[str, Sequence[RawSample]]
    ) -> Path | None:
        """Draw up to eight images of each class, of none and of the background."""
        sources = {item.name: item for samples in lists.values() for item in samples}
        samples = manifest.all_samples()
        groups: list[tuple[str, Sequence[Sample]]] = [
            (name, [sample for sample in samples if class_id in sample.class_ids])
            for class_id, name in enumerate(manifest.class_names, 1)
        ]
        without = [item for item in samples if not (item.class_ids or item.uncertain)]
        groups += [("without any class", without)] * bool(without)
        groups += [("background images", manifest.background)] * bool(manifest.background)
        chosen = [(at, item) for at, (_, group) in enumerate(groups) for item in _spread(group)]
        if not chosen:
            return None

        def drawn(job: tuple[int, Sample]) -> Image.Image | None:
            try:
                return thumbnail(open_rgb(sources[job[1].name].image, self.rules).rgb)
            except BadImageError:
                return None  # it is among the findings, or was not decoded

        pictures: list[list[Image.Image]] = [[] for _ in groups]
        found = _in_parallel(drawn, chosen, "contact sheet")
        for (at, _), picture in zip(chosen, found, strict=True):
            pictures[at] += [picture] if picture is not None else []
        titles = [f"{name}: {len(group)} images" for name, group in groups]
        draw_contact_sheet(out, list(zip(titles, pictures, strict=True)))
        return out


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    """Up to eight of many, from the first to the last."""
    step = max(1.0, (len(samples) - 1) / (COLUMNS - 1))
    return [samples[round(at * step)] for at in range(min(COLUMNS, len(samples)))]


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Of sizes, conversions and classes that are together, for a person."""
    if sizes := report["sizes"]:
        shown = [
            f"{what} {size['width']} x {size['height']}"
            + (f" ({size['name']})" if "name" in size else "")
            for what, size in sizes.items()
        ]
        yield f"sizes, width x height: {', '.join(shown)}"
    if together := report["together"]:
        pairs = [f"{a} and {b} {count}" for a, b, count in together]
        more = [f"and {len(pairs) - 10} more pairs"] if len(pairs) > 10 else []
        yield f"on the same images: {', '.join(pairs[:10] + more)}"
    if conversions := report["conversions"]:
        yield f"converted: {', '.join(f'{name} {n}' for name, n in conversions.items())}"


def _in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], what: str
) -> Iterator[Result]:
    """Results in order, beside a progress bar; messages name settings by their sections."""
    contexts = [copy_context() for _ in items]
    with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
        found = pool.map(lambda item, context: context.run(function, item), items, contexts)
        yield from track(found, what, len(items))
