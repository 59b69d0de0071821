"""Which images are shown, and in which groups: best, worst, most uncertain, and how masks fail."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wsss.artifacts import IGNORE_INDEX, has_file, read_label_png, read_score_map
from wsss.evaluate.failures import KINDS
from wsss.stages._report.known import Known

__all__ = ["FAILURES", "Group", "choose", "uncertainty"]

BEST, WORST, UNCERTAIN, FAILED = 8, 12, 12, 10  # images of each group, at most
LOOKED_AT = 400  # images whose masks are compared, evenly spread

FAILURES: Mapping[str, tuple[str, str]] = {
    "missed": ("Missed", "objects that no mask touches, or hardly any"),
    "merged": ("Merged", "objects of one class that lie in one mask"),
    "leak": ("Background leak", "masks that run over the edge of their object"),
    "context": ("Context", "masks away from every object of their class: what goes with it"),
}
"""Heading and meaning of each of `wsss.evaluate.failures.KINDS`."""


@dataclass(frozen=True)
class Group:
    """Images that have something in common.

    Attributes:
        key: names it.
        title: on its button.
        about: what it is, in a sentence.
        images: names, the clearest first.
        count: images that belong to it, shown or not.
    """

    key: str
    title: str
    about: str
    images: tuple[str, ...]
    count: int


def uncertainty(known: Known) -> dict[str, float]:
    """By name of an image, how uncertain its mask is, in [0, 1]; needs no ground truth.

    It is the share of foreground on which pseudo mask and prediction differ, which two networks
    that learned from one another need not agree on. Where there is but one of them it is that of
    the chosen chain's map: the mean over pixels of how near the best score is to one half.
    """
    folder, predicted = known.labels(known.shown_split)
    chain = known.paths.refined(known.params.make_pseudo_masks.chain)
    number = min(len(known.samples), LOOKED_AT)
    found = {}
    for at in range(number):
        sample = known.samples[at * len(known.samples) // number]
        pair = [folder / f"{sample.name}.png", known.paths.pseudo_masks / f"{sample.name}.png"]
        if predicted and all(map(has_file, pair)):
            found[sample.name] = _differing(*map(read_label_png, pair))
        elif has_file(path := chain / f"{sample.name}.npz"):
            score_map = read_score_map(path)
            if len(score_map.class_ids):
                best = score_map.scores.max(axis=0)
                found[sample.name] = float(1 - np.abs(2 * best - 1).mean())
    return found


def _differing(mask: np.ndarray, other: np.ndarray) -> float:
    """The share of the foreground of two masks on which they differ, ignored pixels left out."""
    if mask.shape != other.shape:
        return 1.0
    counts = (mask != IGNORE_INDEX) & (other != IGNORE_INDEX)
    union = counts & ((mask > 0) | (other > 0))
    return float((union & (mask != other)).sum() / max(1, union.sum()))


def choose(known: Known, number: int) -> list[Group]:
    """The groups of images; the first is of all that are shown.

    Args:
        known: all that there is.
        number: images that are shown, at most.
    """
    scores = {name: item.iou for name, item in known.image_scores.items()}
    scores = {name: value for name, value in scores.items() if not math.isnan(value)}
    doubts = uncertainty(known) if known.samples else {}
    groups = []
    if scores:
        falling = sorted(scores, key=lambda name: (-scores[name], name))
        groups.append(_group("worst", "Worst", "The least overlap with the ground truth.",
                             falling[::-1], WORST))  # fmt: skip
        groups.append(_group("best", "Best", "The most overlap with the ground truth.",
                             falling, BEST))  # fmt: skip
    if doubts:
        unsure = sorted(doubts, key=lambda name: (-doubts[name], name))
        about = "Where pseudo mask and prediction differ most; known without ground truth."
        groups.append(_group("uncertain", "Most uncertain", about, unsure, UNCERTAIN))
    for kind in KINDS:
        shown = {
            name: item.failures.of(kind)
            for name, item in known.image_scores.items()
            if kind in item.failures.shown()
        }
        if shown:
            title, about = FAILURES[kind]
            most = sorted(shown, key=lambda name: (-shown[name], name))
            text = f"{about[0].upper()}{about[1:]}."
            groups.append(_group(kind, title, text, most, FAILED))
    kept = _kept(known, groups, number)
    groups = [
        Group(group.key, group.title, group.about,
              tuple(name for name in group.images if name in kept), group.count)
        for group in groups
    ]  # fmt: skip
    everything = Group(
        "all",
        "All shown",
        f"{len(kept)} of the {len(known.samples)} images of {known.shown_split}.",
        tuple(kept),
        len(kept),
    )
    return [everything, *(group for group in groups if group.images)]


def _group(key: str, title: str, about: str, names: Sequence[str], most: int) -> Group:
    return Group(key, title, about, tuple(names[:most]), len(names))


def _kept(known: Known, groups: Sequence[Group], number: int) -> list[str]:
    """The names that are shown, in the order of the split: of each group in turn its clearest,
    then others, evenly spread."""
    wanted: dict[str, None] = {}
    for rank in range(max((len(group.images) for group in groups), default=0)):
        for group in groups:
            if rank < len(group.images) and len(wanted) < number:
                wanted[group.images[rank]] = None
    left = [sample.name for sample in known.samples if sample.name not in wanted]
    more = min(number - len(wanted), len(left))
    chosen = {*wanted, *(left[at * len(left) // more] for at in range(more))}
    return [sample.name for sample in known.samples if sample.name in chosen]
