"""Intervals of audits beside the truth, over many draws from a set of which all masks are known.

    python benchmarks/audit.py PROJECT [--of pseudo_masks --split train] [--class cat ...]
        [--other FOLDER] [--draws 200] [--images 20 40 80]

PROJECT is a folder in which the stages ran up to predict_masks, or make_pseudo_masks, on data with
ground truth. Its masks play the person who corrects: those of the images that a draw picks. Three
ways are told apart:

- `audit`: images drawn by doubt, and what the maker of the masks expects of all (`wsss audit`);
- `totals`: drawn evenly, the difference estimator of each sum by itself, and their ratio;
- `plain`: drawn evenly, and nothing but the corrected images.

A row tells how often the 95 % interval of the mean IoU holds that of the whole set, over the same
classes, and how wide it is; the same of single classes; and over how many classes the mean is, as
those count that 3 corrected images show. With --other, masks of the same images from another chain,
a second table tells of the paired difference: how often its interval holds the true one, how wide
it is beside the wider one of the two masks, and how often it leaves out 0.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsss.artifacts import Paths, Sample
from wsss.audit import (
    Audited,
    Estimate,
    Interval,
    estimate,
    intensities,
    order_of_drawing,
    probabilities,
)
from wsss.audit.drawing import spread
from wsss.audit.estimate import Way
from wsss.audit.images import KINDS, MaskSet
from wsss.audit.scoring import DIFFERENT
from wsss.evaluate import Counts, read_ground_truth
from wsss.evaluate.metrics import iou

WAYS: dict[str, Way] = {"audit": "ratios", "totals": "totals", "plain": "plain"}


@dataclass(frozen=True)
class Known:
    """A set of masks of which all is known."""

    masks: MaskSet
    expected: Counts
    true: Counts

    @classmethod
    def read(cls, root: Path, kind: str, split: str, folder: Path | None = None) -> "Known":
        paths = Paths(root)
        found = next((one for one in KINDS if one == kind), KINDS[0])
        masks = MaskSet.read(paths, found, split, folder)
        samples = [sample for sample in masks.samples if sample.mask]
        if len(samples) < len(masks.samples):
            raise SystemExit(
                "an image has no ground truth; the truth of the whole set is not known"
            )
        truth = _Truth(samples, paths.masks, len(masks.class_names))
        expected, silent = masks.expected()
        if silent:
            print(f"{silent} of {len(samples)} masks do not say what is expected in them")
        return cls(masks, expected, masks.found(range(len(samples)), truth))

    def audited(self, places: np.ndarray, probs: np.ndarray) -> Audited:
        true = self.true
        found = Counts(true.correct[places], true.gt[places], true.predicted[places])
        return Audited(self.expected, found, places, probs)


class _Truth(dict[str, np.ndarray]):
    """Ground truth by name, read when it is asked for."""

    def __init__(self, samples: list[Sample], folder: Path, num_fg_classes: int) -> None:
        self._samples = {sample.name: sample for sample in samples}
        self._folder, self._number = folder, num_fg_classes

    def __missing__(self, name: str) -> np.ndarray:
        sample = self._samples[name]
        return read_ground_truth(self._folder / str(sample.mask), sample.size, self._number)


def drawn(
    known: Known, counted: np.ndarray, way: str, number: int, draws: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The places and probabilities of each draw."""
    total = len(known.masks.samples)
    sizes = spread(known.expected, counted) if way == "audit" else np.ones(total)
    odds = intensities(sizes, number)
    probs = probabilities(odds, number)
    strata = known.masks.strata() if way == "audit" else np.zeros(total, int)
    for seed in range(draws):
        places = order_of_drawing(odds, strata, seed, way)[:number]
        yield places, probs[places]


def holds(found: Interval | None, truth: float) -> bool:
    # a millionth is what adding up pixels as floats may miss
    return found is not None and found.low - 1e-6 <= truth <= found.high + 1e-6


def percent(values: list[bool]) -> str:
    return f"{100 * np.mean(values):.1f} %" if values else ""


def table_of_intervals(
    known: Known, counted: np.ndarray, numbers: list[int], draws: int
) -> Iterator[str]:
    truth = iou(known.true.pooled())
    yield "| images | way | mean IoU: holds | width | classes: hold | width | classes in the mean |"
    yield "|---:|---|---:|---:|---:|---:|---:|"
    for number in numbers:
        for way in WAYS:
            hits, widths, of_class, class_widths, many = [], [], [], [], []
            for places, probs in drawn(known, counted, way, number, draws):
                found = estimate(known.audited(places, probs), WAYS[way])
                ids = np.flatnonzero(found.known & counted)
                many.append(len(ids))
                if mean := found.mean(ids):
                    hits.append(holds(mean, truth[ids].mean()))
                    widths.append(mean.width)
                for label in ids.tolist():
                    if interval := found.of_class(label):
                        of_class.append(holds(interval, truth[label]))
                        class_widths.append(interval.width)
            yield (
                f"| {number} | {way} | {percent(hits)} | {np.mean(widths):.3f} | "
                f"{percent(of_class)} | {np.mean(class_widths):.3f} | {np.mean(many):.1f} |"
            )


def table_of_gains(
    one: Known, other: Known, counted: np.ndarray, numbers: list[int], draws: int
) -> Iterator[str]:
    gains = iou(other.true.pooled()) - iou(one.true.pooled())
    unlike = (one.true.correct != other.true.correct).any(axis=1)
    yield "| images | difference: holds | width | widest of both | leaves out 0 | true difference |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for number in numbers:
        hits, widths, wider, sure, true = [], [], [], [], []
        for places, probs in drawn(one, counted, "audit", number, draws):
            if unlike[places].sum() < DIFFERENT:
                continue
            both: list[Estimate] = [estimate(each.audited(places, probs)) for each in (one, other)]
            ids = np.flatnonzero(both[0].known & both[1].known & counted)
            gain = both[0].gain(both[1], ids)
            if gain is None:
                continue
            true.append(gains[ids].mean())
            hits.append(holds(gain, true[-1]))
            widths.append(gain.width)
            wider.append(max(mean.width for each in both if (mean := each.mean(ids))))
            sure.append(not gain.low <= 0 <= gain.high)
        if hits:
            yield (
                f"| {number} | {percent(hits)} | {np.mean(widths):.3f} | {np.mean(wider):.3f} | "
                f"{percent(sure)} | {np.mean(true):+.3f} |"
            )
        else:
            yield f"| {number} | too few corrected images differ | | | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--of", choices=KINDS, default="predictions")
    parser.add_argument("--split", default="val")
    parser.add_argument("--class", dest="classes", nargs="+", default=[], metavar="CLASS")
    parser.add_argument("--other", type=Path, help="a folder of masks of the same images")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--images", type=int, nargs="+", default=[20, 40, 80])
    given = parser.parse_args()
    known = Known.read(given.project, given.of, given.split)
    names = known.masks.all_names
    counted = np.asarray(known.masks.tagged().any(axis=0))
    if given.classes:
        counted = np.array([name in given.classes for name in names])
    truth = iou(known.true.pooled())
    shown = ", ".join(f"{names[at]} {truth[at]:.3f}" for at in np.flatnonzero(counted))
    print(f"{given.of} of {given.split}, {len(known.masks.samples)} images; IoU of all: {shown}\n")
    for line in table_of_intervals(known, counted, given.images, given.draws):
        print(line, flush=True)
    if given.other:
        other = Known.read(given.project, given.of, given.split, given.other)
        print()
        for line in table_of_gains(known, other, counted, given.images, given.draws):
            print(line, flush=True)


if __name__ == "__main__":
    main()
