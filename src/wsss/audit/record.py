"""The record of a draw: which images, in which order, and with which probabilities.

It is what an interval stands on, so it is a file of the project that belongs into git. It is
written before anybody corrects a mask, and only grows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from wsss.artifacts.files import atomic_path, read_json_lines, write_json_lines
from wsss.audit.drawing import check_number, intensities, order_of_drawing, probabilities, spread
from wsss.audit.images import KINDS, Kind, MaskSet
from wsss.checks import did_you_mean

__all__ = ["FOLDER", "Draw", "draw", "known_draws", "read_draw"]

FOLDER = "audits"
"""Where records lie, below the project."""


@dataclass(frozen=True)
class Draw:
    """A sample of the images of a split.

    Attributes:
        name: of its files.
        kind: which masks it was drawn to audit.
        split: whose images they are.
        classes: names of the classes, the background among them, whose mean IoU it aims at.
        number: how many images are drawn: the first of `names`.
        names: of all N images that it speaks of, in the order of drawing.
        odds: (N,) of them, as of `intensities`.
    """

    name: str
    kind: Kind
    split: str
    classes: tuple[str, ...]
    number: int
    names: tuple[str, ...]
    odds: tuple[float, ...]

    @property
    def drawn(self) -> tuple[str, ...]:
        """The images to correct, that which comes first in front."""
        return self.names[: self.number]

    def probabilities(self, number: int) -> np.ndarray:
        """(N,) float64: of each of `names`, to be among the first so many."""
        return probabilities(np.array(self.odds), number)

    def grown(self, number: int) -> Self:
        """The same draw with more images; what was drawn stays.

        Raises:
            ValueError: it has more already, or the set has fewer.
        """
        if number < self.number:
            raise ValueError(
                f"{self.number} images are drawn already, and a draw only grows; correct the first "
                f"{number} alone, which are a draw, too, or draw under another name with --name"
            )
        check_number(number, len(self.names))
        return replace(self, number=number)

    def write(self, root: Path) -> tuple[Path, Path]:
        """Write audits/<name>.jsonl, and audits/<name>.txt with the drawn images, one a line."""
        head = {
            "of": self.kind,
            "split": self.split,
            "classes": self.classes,
            "images": self.number,
            "set": len(self.names),
        }
        rows = (
            {"image": name, "odds": odds} for name, odds in zip(self.names, self.odds, strict=True)
        )
        record, listed = (root / FOLDER / f"{self.name}{end}" for end in (".jsonl", ".txt"))
        write_json_lines(record, (head, *rows))
        with atomic_path(listed) as temporary:
            text = "\n".join((*self.drawn, ""))
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")
        return record, listed


def draw(
    masks: MaskSet, number: int, *, classes: Sequence[str] = (), name: str, rng_seed: int
) -> tuple[Draw, int]:
    """Draw images to correct, the unsure and the rare ones with a higher probability.

    Args:
        masks: that are audited.
        number: of images, from 2 to all.
        classes: names of those whose mean IoU counts; empty takes the background and all classes
            that an image is tagged with.
        name: of the draw.
        rng_seed: what chance begins with.

    Returns:
        The draw, and how many masks did not say what is expected in them.

    Raises:
        ValueError: there are not so many images, or none may show a class.
    """
    check_number(number, len(masks.samples))
    if number < 2:
        raise ValueError("an interval needs 2 images at least; draw 20 or more")
    tagged = np.asarray(masks.tagged().any(axis=0))
    known = masks.all_names
    for wanted in classes:
        if wanted not in known:
            raise ValueError(f"there is no class '{wanted}'; {did_you_mean(wanted, known)}")
        if not tagged[known.index(wanted)]:
            raise ValueError(
                f"none of the {len(masks.samples)} images of '{masks.split}' is tagged with "
                f"'{wanted}', so that no draw can show it; leave it out, or audit another split"
            )
    counted = np.array([one in classes for one in known]) if classes else tagged
    expected, silent = masks.expected()
    # six digits are what the record holds
    odds = np.array([float(f"{one:.6g}") for one in intensities(spread(expected, counted), number)])
    order = order_of_drawing(odds, masks.strata(), rng_seed, name)
    drawn = Draw(
        name,
        masks.kind,
        masks.split,
        tuple(one for one, counts in zip(known, counted, strict=True) if counts),
        number,
        tuple(masks.samples[place].name for place in order),
        tuple(odds[order].tolist()),
    )
    return drawn, silent


def known_draws(root: Path) -> list[str]:
    """The names of the draws of a project, sorted."""
    return sorted(path.stem for path in (root / FOLDER).glob("[!.]*.jsonl"))


def read_draw(root: Path, name: str) -> Draw:
    """Read what `Draw.write` wrote.

    Raises:
        ValueError: there is no such draw, or its file is not one.
    """
    path = root / FOLDER / f"{name}.jsonl"
    if not path.is_file():
        known = known_draws(root)
        hint = did_you_mean(name, known) if known else "draw images with `wsss audit draw`"
        raise ValueError(f"no audit is called '{name}'; {hint}")
    try:
        head, *rows = read_json_lines(path, dict, "a row of a draw")
        return _parsed(name, head, rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not the record of a draw ({error}); put it back from git, as corrections "
            "count by the probabilities in it"
        ) from None


def _parsed(name: str, head: dict[str, Any], rows: list[dict[str, Any]]) -> Draw:
    if head["of"] not in KINDS:
        raise ValueError(f"it is of '{head['of']}'")
    names = tuple(str(row["image"]) for row in rows)
    odds = tuple(float(row["odds"]) for row in rows)
    number = int(head["images"])
    if len(names) != head["set"] or len(set(names)) != len(names):
        raise ValueError(f"it has {len(set(names))} images in place of {head['set']}")
    if not 2 <= number <= len(names) or not all(0 < one < np.inf for one in odds):
        raise ValueError("its numbers are out of their range")
    classes = tuple(map(str, head["classes"]))
    return Draw(name, head["of"], str(head["split"]), classes, number, names, odds)
