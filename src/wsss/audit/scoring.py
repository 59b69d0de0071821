"""What corrected masks say of a whole set, and of two sets of masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from wsss.artifacts import Annotations, Corrections, Paths, has_file
from wsss.audit.estimate import FEWEST, Audited, Estimate, Interval, estimate
from wsss.audit.images import MaskSet
from wsss.audit.record import Draw
from wsss.checks import did_you_mean
from wsss.evaluate.ground_truth import read_ground_truth

__all__ = ["FURTHER", "Comparison", "Corrected", "Finding", "check_set", "compare", "score"]

DIFFERENT = 10
"""Corrected images whose masks differ, before anything is said of which masks are better."""

FURTHER = 20
"""Images more, of which it is said by how much they would narrow an interval."""


@dataclass(frozen=True)
class Corrected:
    """The masks that a person corrected, of the images of a draw.

    Attributes:
        names: the first of the drawn images, as far as all of them are corrected.
        truth: by name, (H, W) uint8.
        beyond: drawn and corrected, but behind an image that is not.
        missing: drawn and not corrected.
        strangers: how many corrected images of the split were not drawn.
    """

    names: tuple[str, ...]
    truth: Mapping[str, np.ndarray] = field(compare=False)
    beyond: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    strangers: int = 0

    @classmethod
    def read(cls, root: Path, drawn: Draw, masks: MaskSet, folder: Path | None = None) -> Self:
        """Read them from the project's layer of corrections, or from a folder of label PNGs.

        Args:
            root: the project.
            drawn: the draw.
            masks: what it audits.
            folder: of <name>.png; None is the layer.

        Raises:
            ValueError: a mask has another size than its image or an unknown class, the folder is
                not there, or a corrected image was given to the training since it was drawn.
        """
        sizes = {sample.name: sample.size for sample in masks.samples}
        check_set(root, drawn, masks)
        if folder is None:
            layer = Corrections.read(root)
            there = layer.names & sizes.keys()

            def read(name: str) -> np.ndarray:
                return layer.read_mask(name, sizes[name], masks.class_names)
        else:
            if not folder.is_dir():
                raise ValueError(
                    f"{folder} is no folder of corrected masks; leave --masks out to take those "
                    "that `wsss annotations import` has put into the project"
                )
            there = frozenset(name for name in sizes if has_file(folder / f"{name}.png"))

            def read(name: str) -> np.ndarray:
                path = folder / f"{name}.png"
                return read_ground_truth(path, sizes[name], len(masks.class_names))

        done = [name in there for name in drawn.drawn]
        first = done.index(False) if False in done else len(done)
        names = drawn.drawn[:first]
        return cls(
            names,
            {name: read(name) for name in names},
            tuple(name for name in drawn.drawn[first:] if name in there),
            tuple(name for name in drawn.drawn if name not in there),
            len(there - set(drawn.drawn)),
        )


@dataclass(frozen=True)
class Finding:
    """What is found of one set of masks.

    Attributes:
        draw: whose images were corrected.
        masks: the set.
        corrected: the person's masks.
        silent: how many masks of the set do not say what is expected in them.
        ratios: what is estimated with the expected pixels; None with fewer than two images.
        plain: the same from the corrected images alone.
        audited: what both are estimated from.
    """

    draw: Draw
    masks: MaskSet
    corrected: Corrected
    silent: int
    audited: Audited | None

    @cached_property
    def ratios(self) -> Estimate | None:
        """What is estimated with the expected pixels; None with fewer than two images."""
        return None if self.audited is None else estimate(self.audited)

    @property
    def class_ids(self) -> np.ndarray:
        """The classes of the mean: those that the draw counts, as far as they are known."""
        if self.ratios is None:
            return np.zeros(0, int)
        counted = np.isin(self.masks.all_names, self.draw.classes)
        return np.flatnonzero(counted & self.ratios.known)

    @property
    def mean_iou(self) -> Interval | None:
        """Over `class_ids`, of the whole set."""
        return None if self.ratios is None else self.ratios.mean(self.class_ids)

    @property
    def plain(self) -> Interval | None:
        """The same from the corrected images alone, without what is expected of the others."""
        return (
            None if self.audited is None else estimate(self.audited, "plain").mean(self.class_ids)
        )

    @property
    def next_20(self) -> Interval | None:
        """What `mean_iou` would narrow to with 20 further images like these.

        None where there are not so many: with all of them it is known.
        """
        number = len(self.corrected.names)
        further = number + FURTHER < len(self.draw.names)  # which would be all, and known
        if self.ratios is None or self.mean_iou is None or not further:
            return None
        now, then = (
            self.draw.probabilities(count)[:number] for count in (number, number + FURTHER)
        )
        return self.ratios.with_probabilities(now, then).mean(self.class_ids)

    @property
    def reason(self) -> str:
        """Why there is no interval of the mean; "" where there is one."""
        number, drawn = len(self.corrected.names), self.draw.number
        if self.mean_iou is not None:
            return ""
        if number < 2:
            return (
                f"{number} of {drawn} drawn images are corrected in the order of drawing, and an "
                f"interval needs 2 at least; '{self.corrected.missing[0]}' comes next"
            )
        if not len(self.class_ids):
            return (
                f"none of the classes is shown by {FEWEST} of the {number} corrected images; "
                "correct more of the drawn ones"
            )
        return f"the {number} corrected images are all alike, so that nothing tells the spread"

    def report(self) -> dict[str, Any]:
        """An entry of reports/audit.json; without an interval its place has the reason."""
        names = self.masks.all_names
        values: dict[str, Any] = {
            "name": self.draw.name,
            "of": self.draw.kind,
            "split": self.draw.split,
            "images": len(self.masks.samples),
            "given": self.masks.given,
            "drawn": self.draw.number,
            "audited": len(self.corrected.names),
            "masks": self.masks.hash,
        }
        if self.reason or self.ratios is None:
            return values | {"reason": self.reason}
        counted = [*map(names.index, self.draw.classes)]
        shown = {names[at]: int(self.ratios.shown[at]) for at in counted}
        further = self.next_20
        return values | {
            "mean_iou": _values(self.mean_iou),
            "mean_over": [names[at] for at in self.class_ids],
            "classes": {names[at]: _values(self.ratios.of_class(at)) for at in counted},
            "shown": shown,
            "plain": _values(self.plain),
            "next_20": None if further is None else {"low": further.low, "high": further.high},
        }


def score(
    root: Path, drawn: Draw, folder: Path | None = None, masks: MaskSet | None = None
) -> Finding:
    """Say how good a set of masks is, from the corrected ones of its draw.

    Args:
        root: the project.
        drawn: the draw.
        folder: of corrected masks; None is the project's layer of corrections.
        masks: the set; None is where the pipeline puts it.

    Raises:
        ValueError: a mask is missing or does not fit its image.
    """
    masks = masks or MaskSet.read(Paths(root), drawn.kind, drawn.split)
    corrected = Corrected.read(root, drawn, masks, folder)
    expected, silent = masks.expected()
    names = corrected.names
    audited = None
    if len(names) >= 2:
        at = {sample.name: place for place, sample in enumerate(masks.samples)}
        places = [at[name] for name in names]
        probs = drawn.probabilities(len(names))[: len(names)]
        found = masks.found(places, corrected.truth)
        audited = Audited(expected, found, np.array(places), probs)
    return Finding(drawn, masks, corrected, silent, audited)


@dataclass(frozen=True)
class Comparison:
    """Two sets of masks of the same images.

    Attributes:
        before: what is found of the one.
        after: of the other.
    """

    before: Finding
    after: Finding

    @property
    def class_ids(self) -> np.ndarray:
        """The classes that both tell of."""
        return np.intersect1d(self.before.class_ids, self.after.class_ids)

    @property
    def differing(self) -> int:
        """How many of the corrected images have pixels that count otherwise in `after`."""
        one, other = self.before.audited, self.after.audited
        if one is None or other is None:
            return 0
        parts = ("correct", "gt", "predicted")
        unlike = [getattr(one.found, part) != getattr(other.found, part) for part in parts]
        return int(np.concatenate(unlike, axis=1).any(axis=1).sum())

    @property
    def reason(self) -> str:
        """Why there is no interval of the difference; "" where there is one."""
        if self.before.ratios is None or self.after.ratios is None or not len(self.class_ids):
            return self.before.reason or self.after.reason or "no class is known of both"
        if self.differing < DIFFERENT and not self.before.ratios.whole:
            return (
                f"the masks differ in {self.differing} of {len(self.before.corrected.names)} "
                f"corrected images, and {DIFFERENT} are needed to tell of the others; correct more"
            )
        return ""

    def gain(self, class_ids: Sequence[int] | np.ndarray | None = None) -> Interval | None:
        """By how much the mean IoU of `after` is higher; None where there is a `reason`."""
        if self.reason or self.before.ratios is None or self.after.ratios is None:
            return None
        ids = self.class_ids if class_ids is None else np.asarray(class_ids)
        return self.before.ratios.gain(self.after.ratios, ids)

    @property
    def verdict(self) -> str:
        """Whether `after` is "better", "worse", or neither for sure, which is "open"."""
        gain = self.gain()
        if gain is None or gain.low <= 0 <= gain.high:
            return "open"
        return "better" if gain.low > 0 else "worse"

    def report(self) -> dict[str, Any]:
        """What `wsss audit compare --json` prints."""
        names = self.before.masks.all_names
        return {
            "before": self.before.report(),
            "after": self.after.report(),
            "differing": self.differing,
            "gain": _values(self.gain()),
            "classes": {names[at]: _values(self.gain([at])) for at in self.class_ids.tolist()},
            "verdict": self.verdict,
        }


def compare(
    root: Path, drawn: Draw, before: Path | None, after: Path, folder: Path | None = None
) -> Comparison:
    """Say whether other masks of the audited images are better, on the same corrected ones.

    Args:
        root: the project.
        drawn: the draw.
        before: the folder of the one; None is where the pipeline puts them.
        after: the folder of the other.
        folder: as of `score`.

    Raises:
        ValueError: a mask is missing or does not fit its image.
    """
    one, other = (
        score(root, drawn, folder, MaskSet.read(Paths(root), drawn.kind, drawn.split, of))
        for of in (before, after)
    )
    return Comparison(one, other)


def check_set(root: Path, drawn: Draw, masks: MaskSet) -> None:
    """Raise ValueError unless a draw is of the images of a set, and none was given since."""
    now, then = {sample.name for sample in masks.samples}, set(drawn.names)
    gone_classes = [name for name in drawn.classes if name not in masks.all_names]
    if now == then and not gone_classes:
        return
    anew = f"draw anew under another name: `wsss audit draw --of {drawn.kind} --name NAME`"
    given = Annotations.read(Paths(root).annotations).masks & set(drawn.drawn)
    if given:
        raise ValueError(
            f"{len(given)} of the images that '{drawn.name}' drew, such as '{min(given)}', were "
            "given to the training since, so that their masks say nothing about the others any "
            f"more; what the audit found of the masks before is in git; {anew}"
        )
    if now == then:
        raise ValueError(
            f"'{drawn.name}' was drawn for '{gone_classes[0]}', which is no class any more "
            f"({did_you_mean(gone_classes[0], masks.all_names)}); {anew}"
        )
    gone, new = sorted(then - now), sorted(now - then)
    what = f"'{gone[0]}' is gone" if gone else f"'{new[0]}' is new"
    raise ValueError(
        f"the images of '{masks.split}' are not those that '{drawn.name}' was drawn from: "
        f"{len(gone)} are gone and {len(new)} new ({what}); prepare the same data again, or {anew}"
    )


def _values(found: Interval | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {key: round(value, 6) for key, value in found._asdict().items()}
