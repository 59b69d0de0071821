"""What a project's stages have made: settings, reports, curves, and the files of some images."""

import csv
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    has_file,
    read_json,
    read_label_png,
    read_score_map,
)
from wsss.config.params import Params
from wsss.pipeline import Pipeline, Target

__all__ = ["Made", "label_map"]


class Made:
    """The results of a project; files are read when they are asked for, and masks of annotators
    never.

    Args:
        root: the project.
        params: its settings.
        pipeline: all stages.
        limit: at most so many images of a kind of file are read, evenly spread over all.
    """

    def __init__(self, root: Path, params: Params, pipeline: Pipeline, limit: int) -> None:
        self.paths, self.params, self.pipeline, self.limit = Paths(root), params, pipeline, limit

    @cached_property
    def targets(self) -> list[Target]:
        """All that runs with these settings, in order."""
        return self.pipeline.targets(self.params)

    @cached_property
    def manifest(self) -> Manifest | None:
        """The samples; None where prepare_data has not run, or not to its end."""
        if not (self.paths.splits / "classes.json").is_file():
            return None
        return Manifest.read(self.paths.splits)

    def report(self, target: str) -> dict[str, Any]:
        """What a target reported, by its name such as "refine_cams@crf"; empty without a report."""
        file = self.paths.report(target.replace("@", "_"))
        return dict(read_json(file)) if file.is_file() else {}

    def curve(self, target: str) -> list[dict[str, float]]:
        """The rows of a target's curve, as numbers; what a row lacks is left out."""
        file = self.paths.report(f"{target.replace('@', '_')}_curve", ".csv")
        if not file.is_file():
            return []
        with file.open(newline="", encoding="utf-8") as opened:
            return [
                {key: _number(text) for key, text in row.items() if key and text}
                for row in csv.DictReader(opened)
            ]

    def chosen(self, samples: Sequence[Sample]) -> list[Sample]:
        """At most `limit` of the samples, evenly spread."""
        count = min(self.limit, len(samples))
        return [samples[at * len(samples) // count] for at in range(count)]

    def maps(self, folder: Path, samples: Sequence[Sample]) -> Iterator[tuple[Sample, ScoreMap]]:
        """The score maps of some of the samples, of those that have one."""
        for sample in self.chosen(samples):
            path = folder / f"{sample.name}.npz"
            if has_file(path):
                yield sample, read_score_map(path)

    def masks(self, folder: Path, samples: Sequence[Sample]) -> Iterator[tuple[Sample, np.ndarray]]:
        """The label maps of some of the samples, of those that have one; none of annotators."""
        for sample in self.chosen(samples):
            mask = label_map(folder, sample)
            if mask is not None:
                yield sample, mask


def label_map(folder: Path, sample: Sample) -> np.ndarray | None:
    """What a stage made of a sample, (H, W) uint8; None where it made nothing."""
    path = folder / f"{sample.name}.png"
    return read_label_png(path) if has_file(path) else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
