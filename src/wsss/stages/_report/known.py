"""All that the page tells of: reports, scores, audits and images, read once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import (
    AUDIT,
    SPLITS,
    Audits,
    Manifest,
    Sample,
    has_file,
    report_splits,
)
from wsss.evaluate import ImageScore, score_images
from wsss.pipeline import Job, Target
from wsss.pipeline.names import named_scores, score_label
from wsss.report.cells import ground_truth_of
from wsss.stages.findings.finding import Finding
from wsss.stages.findings.made import Made
from wsss.stages.findings.results import look_at_results

__all__ = ["READ", "Audit", "Known", "Scored"]

READ = 200
"""Files of each kind that are read to find what is wrong, at most."""


@dataclass(frozen=True)
class Scored:
    """One evaluation.

    Attributes:
        target: the stage.
        label: as in names of scores, such as "crf".
        title: as people say it.
        report: what it reported.
    """

    target: Target
    label: str
    title: str
    report: Mapping[str, Any]

    def score(self, split: str) -> float | None:
        """The mean IoU on a split; None where it has none."""
        value = self.report.get(split, {}).get("mean_iou")
        return None if value is None else float(value)

    def name(self, split: str) -> str:
        """What MLflow calls that score."""
        return f"{self.label}.{split}_mean_iou"


@dataclass(frozen=True)
class Audit:
    """What an audit says of all masks of a split.

    Attributes:
        name: of its draw.
        of: "predictions" or "pseudo_masks".
        split: whose images they are.
        images: how many.
        drawn: how many of them are to be corrected.
        audited: how many a person has corrected.
        mean_iou: value, low and high end of its interval.
        classes: the same by class; None of those that cannot be told.
        further: low and high end, with 20 audited images more; None where it is not said.
    """

    name: str
    of: str
    split: str
    images: int
    drawn: int
    audited: int
    mean_iou: tuple[float, float, float]
    classes: Mapping[str, tuple[float, float, float] | None]
    further: tuple[float, float] | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Audit":
        """From an entry of reports/audit.json."""

        def interval(found: Mapping[str, float]) -> tuple[float, float, float]:
            return float(found["value"]), float(found["low"]), float(found["high"])

        further = values.get("next_20")
        return cls(
            str(values["name"]),
            str(values["of"]),
            str(values["split"]),
            int(values["images"]),
            int(values["drawn"]),
            int(values["audited"]),
            interval(values["mean_iou"]),
            {
                name: interval(found) if found else None
                for name, found in values.get("classes", {}).items()
            },
            (float(further["low"]), float(further["high"])) if further else None,
        )


class Known:
    """What there is to tell.

    Args:
        job: the stage `report`.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.params, self.paths = job, job.params, job.paths
        self.manifest = Manifest.read(job.paths.splits)
        self.made = Made(job.paths.root, job.params, job.pipeline, READ)

    @cached_property
    def targets(self) -> list[Target]:
        """All stages that have run, in order, without this one."""
        return [target for target in self.made.targets if not target.stage.last]

    @cached_property
    def reports(self) -> dict[str, dict[str, Any]]:
        """By name of the target, what it reported."""
        return {target.name: self.made.report(target.name) for target in self.targets}

    @cached_property
    def evaluations(self) -> list[Scored]:
        """Those that scored anything, in order."""
        found = []
        for target in self.targets:
            report = self.reports[target.name]
            if target.stage.evaluates and report_splits(report):
                label = score_label(target)
                found.append(Scored(target, label, self.title(target, label), report))
        return found

    @cached_property
    def scores(self) -> dict[str, float]:
        """All scores by the names that MLflow has for them."""
        return named_scores((target, self.reports[target.name]) for target in self.targets)

    @staticmethod
    def title(target: Target, label: str) -> str:
        """What an evaluation is of, in words."""
        if target.entry:
            return f"refined: {target.entry}"
        known = {
            "cam": "CAM",
            "per_class": "refined: per class",
            "pseudo": "pseudo masks",
            "segmenter": "prediction",
        }
        return known.get(label, label)

    @cached_property
    def scored_splits(self) -> list[str]:
        """The splits that anything was scored on: val and scored sets first, train last."""
        there = {split for item in self.evaluations for split in report_splits(item.report)}
        there = {
            split
            for split in there
            if any(item.score(split) is not None for item in self.evaluations)
        }
        sets = sorted(there.difference(SPLITS))
        order = ("val", *sets, "selection", "train")
        return [split for split in order if split in there]

    @property
    def split(self) -> str:
        """The split whose scores are told first; "" where nothing was scored."""
        return self.scored_splits[0] if self.scored_splits else ""

    @cached_property
    def main(self) -> list[Scored]:
        """What the result goes through: maps, the chosen chain, pseudo masks, predictions."""
        chain = self.params.make_pseudo_masks.chain
        return [
            item
            for item in self.evaluations
            if item.score(self.split) is not None
            and (not item.target.stage.foreach or item.target.entry == chain)
        ]

    @cached_property
    def shown_split(self) -> str:
        """The split whose images are shown: predicted ones before others, val before train."""
        order = [*dict.fromkeys(("val", *self.manifest.scored_sets, "selection", "train"))]
        there = [split for split in order if self.manifest.splits[split]]
        predicted = [split for split in there if self.labels(split)[1]]
        return next(iter([*predicted, *there]), "")

    def labels(self, split: str) -> tuple[Path, bool]:
        """The folder of the last masks of a split, and whether these are predictions."""
        folder = self.paths.predictions / split
        samples = self.manifest.splits[split]
        if samples and has_file(folder / f"{samples[0].name}.png"):
            return folder, True
        return self.paths.pseudo_masks, False

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The images of the split that is shown."""
        return self.manifest.splits[self.shown_split] if self.shown_split else ()

    @cached_property
    def image_scores(self) -> dict[str, ImageScore]:
        """By name of the image, its last mask against the ground truth; empty without any."""
        folder, _ = self.labels(self.shown_split) if self.shown_split else (Path(), False)
        there = [
            sample
            for sample in self.samples
            if sample.mask is not None and has_file(folder / f"{sample.name}.png")
        ]
        if not there or not self.evaluations:
            return {}
        number = self.manifest.num_fg_classes
        return {item.name: item for item in score_images(there, folder, self.paths.masks, number)}

    @cached_property
    def masked(self) -> int:
        """How many images have a mask of an annotator to score with."""
        return sum(sample.mask is not None for sample in self.manifest.all_samples())

    def truth(self, sample: Sample) -> np.ndarray | None:
        """The ground truth of an image, to be shown beside results; None without one."""
        return ground_truth_of(self.paths.masks, sample, self.manifest.num_fg_classes)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the results."""
        return look_at_results(
            self.paths.root, self.params, self.job.pipeline, images=READ
        ).findings

    @cached_property
    def audits(self) -> list[Audit]:
        """What people have found who looked at some of the masks; empty where nobody has."""
        return [Audit.read(entry) for entry in self._read_audits.standing]

    @property
    def unaudited(self) -> str:
        """Why there is no interval, as a sentence without its end."""
        reasons = [f"{name}: {reason}" for name, reason in self._read_audits.without.items()]
        return "; ".join(reasons) or f"nobody has audited any mask, as {AUDIT} is not there"

    @property
    def has_others(self) -> bool:
        """Whether there are audits of which there is no interval."""
        return bool(self._read_audits.without)

    @cached_property
    def _read_audits(self) -> Audits:
        return Audits.read(self.paths)

    def audit_of(self, of: str) -> Audit | None:
        """The audit of predictions or pseudo masks, of val rather than of another split."""
        found = [audit for audit in self.audits if audit.of == of]
        return min(found, key=lambda audit: audit.split != "val", default=None)

    def trainings(self) -> Iterator[Target]:
        """The stages that learned something, with a curve over epochs."""
        for target in self.targets:
            if target.stage.curve and target.stage.curve.x == "epoch":
                yield target
