"""What masks hold against the tags of their images: whether their values mean something else.

Ground truth decides nothing here but whether the stage stops, and what it says.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wsss.artifacts import IGNORE_INDEX
from wsss.checks import full_key
from wsss.evaluate.placing import Meanings, colour_name
from wsss.stages._mask_meanings import blurred_values, likely_meanings

__all__ = ["MANY", "DrawnMask", "MaskReview"]

_FEW, _SURE = 3, 10  # tagged masks, below which a class may be drawn in none of them by chance
_TRACE = 0.01  # share of a mask, below which a class without its tag is not worth a word
_LISTED = 8

MANY = 0.25
"""Share of masks with unknown values, above which the meaning of all is in question."""


@dataclass(frozen=True, slots=True)
class DrawnMask:
    """A mask as its file has it, and the tags of its image.

    Attributes:
        name: of the image.
        split: that the image is in.
        class_ids: the tags.
        values: pixels of each value or colour.
        meanings: see RawSample.mask_values; empty where values are class ids.
        usable: whether the mask was taken.
        unsure: classes that nobody is certain of, so that no mask contradicts them.
    """

    name: str
    split: str
    class_ids: tuple[int, ...]
    values: Mapping[int | str, int]
    meanings: Meanings
    usable: bool
    unsure: tuple[int, ...] = ()


class MaskReview:
    """All masks of a data set against its tags.

    Args:
        masks: of all splits.
        class_names: K names.
    """

    def __init__(self, masks: Sequence[DrawnMask], class_names: Sequence[str]) -> None:
        coloured = sum(any(isinstance(value, str) for value in mask.values) for mask in masks)
        if coloured > MANY * len(masks):
            masks = [replace(mask, values=_by_colour(mask.values)) for mask in masks]
        self.masks, self.class_names = masks, class_names
        # columns of the table of shares, after those of the background and the classes
        self.unknown, self.ignored = len(class_names) + 1, len(class_names) + 2
        self.tags = np.zeros((len(masks), len(class_names)), bool)
        self.sure = np.ones_like(self.tags)
        for row, mask in enumerate(masks):
            self.tags[row, np.asarray(mask.class_ids, int) - 1] = True
            self.sure[row, np.asarray(mask.unsure, int) - 1] = False
        self.shares = self._shares([mask.meanings for mask in masks])

    def contradictions(self, most_unknown: float) -> list[str]:
        """What all masks of a class, or nearly all, have against the tags; empty where they fit.

        Args:
            most_unknown: the share of masks that may hold values that are no class.
        """
        return self._against(self.shares, most_unknown)

    def advice(self, *, settable: bool) -> list[str]:
        """The values that were found, and what to write.

        Args:
            settable: whether the data set has a setting mask_values.
        """
        lines = self._table()
        found = likely_meanings([mask.values for mask in self.masks], self.tags)
        if found is not None and settable and not self._against(self._shares(found.meanings)):
            return [
                *lines,
                "by the tags, what they mean is (look at a mask, then write it in params.yaml):",
                f"  {found.setting(len(self.class_names))}",
            ]
        if blurred_values([mask.values for mask in self.masks], len(self.class_names)):
            lines.append(
                "so many values come of smoothing, or of JPEG: save the masks as PNG again, "
                "resized without interpolation"
            )
        means_of_set = {str(value) for mask in self.masks for value in mask.meanings}
        if means_of_set and not settable:
            only = ", ".join(sorted(means_of_set, key=lambda value: (len(value), value))[:_LISTED])
            return [*lines, f"masks of this data set hold only {only}; save them so"]
        ids = [f"{c} {name}" for c, name in enumerate(self.class_names[:_LISTED], 1)]
        more = ", ..." if len(self.class_names) > _LISTED else ""
        means = f"0 background, {', '.join(ids)}{more}, {IGNORE_INDEX} ignored"
        if settable:
            lines.append(
                f"write what each means in {full_key('dataset.mask_values')} ({means}), or draw "
                "the masks so"
            )
        else:
            lines.append(f"save the masks with these values: {means}")
        return lines

    def shows_any(self, split: str) -> bool:
        """Whether a mask of a split that was taken shows any class."""
        return any(
            shares[1 : len(self.class_names) + 1].any()
            for mask, shares in zip(self.masks, self.shares, strict=True)
            if mask.split == split and mask.usable
        )

    def warnings(self) -> list[str]:
        """What some masks have against the tags, with counts."""
        usable = np.array([mask.usable for mask in self.masks], bool)
        if not usable.any():
            return []
        names = [mask.name for mask in self.masks]
        shares = self.shares[:, 1 : len(self.class_names) + 1]
        parts = []
        for at, name in enumerate(self.class_names):
            sure, shown = self.sure[:, at] & usable, shares[:, at] > 0
            tagged = self.tags[:, at] & sure
            missing = tagged & ~shown
            extra = sure & ~self.tags[:, at] & (shares[:, at] >= _TRACE)
            if missing.any():
                parts.append(
                    f"'{name}' is missing in {missing.sum()} of the {tagged.sum()} masks of images "
                    f"with its tag, such as '{names[missing.argmax()]}'"
                )
            if extra.any():
                parts.append(
                    f"'{name}' is drawn in {extra.sum()} masks of images without its tag, such as "
                    f"'{names[extra.argmax()]}'"
                )
        found = []
        if parts:
            more = [f"and {len(parts) - _LISTED} more"] if len(parts) > _LISTED else []
            found.append(
                f"masks and tags differ: {'; '.join(parts[:_LISTED] + more)}. Mend whichever is "
                "wrong; scores go by the masks"
            )
        ignored = usable & (self.shares[:, self.ignored] == 1)
        if ignored.any():
            found.append(
                f"{ignored.sum()} of {usable.sum()} masks ignore all of their image "
                f"({IGNORE_INDEX}), such as '{names[ignored.argmax()]}': they count for nothing"
            )
        covered = self.shares[usable, 1].mean()
        if len(self.class_names) == 1 and usable.sum() >= _FEW and covered > 0.75:
            found.append(
                f"'{self.class_names[0]}' covers {covered:.0%} of the masks' pixels on average; if "
                "background is what is drawn, set "
                f"{full_key('dataset.mask_values')}: {{0: 1, 1: 0}}"
            )
        return found

    def _shares(self, meanings: Sequence[Meanings]) -> np.ndarray:
        """(N, K + 3): of each mask, the share of pixels of each class, of none, and ignored."""
        shares = np.zeros((len(self.masks), len(self.class_names) + 3))
        columns = {class_id: class_id for class_id in range(len(self.class_names) + 1)}
        columns[IGNORE_INDEX] = self.ignored
        for row, (mask, means) in enumerate(zip(self.masks, meanings, strict=True)):
            total = sum(mask.values.values()) or 1
            for value, pixels in mask.values.items():
                class_id = means.get(value) if means else value
                at = columns.get(class_id) if isinstance(class_id, int) else None
                shares[row, self.unknown if at is None else at] += pixels / total
        return shares

    def _against(self, shares: np.ndarray, most_unknown: float = 0) -> list[str]:
        if not len(shares):
            return []
        drawn = shares[:, 1 : len(self.class_names) + 1]
        tagged = self.tags.sum(axis=0)
        hits = (self.tags & (drawn > 0)).sum(axis=0)
        never = (tagged > 0) & (hits == 0)
        some = tagged >= _FEW
        if hits.any() and (never & some).sum() < some.sum() / 2:  # single ones may be chance
            never &= tagged >= _SURE
        found = [
            f"none of the {tagged[at]} masks of images tagged '{name}' holds {at + 1}, its class id"
            for at, name in enumerate(self.class_names)
            if never[at] and (some[at] or not hits.any())
        ]
        for at, name in enumerate(self.class_names):
            absent = ~self.tags[:, at] & self.sure[:, at]
            own, others = drawn[self.tags[:, at], at], drawn[absent, at]
            if never[at] or len(others) < _FEW or (others > 0).mean() < 0.9:
                continue
            if others.mean() >= max(0.5, 0.8 * own.mean() if len(own) else 0):
                found.append(
                    f"masks of images without the tag '{name}' are {others.mean():.0%} '{name}'"
                )
        unknown = (shares[:, self.unknown] > 0).sum()
        if unknown > most_unknown * len(shares):
            found.append(f"{unknown} of {len(shares)} masks hold values that are no class")
        return found

    def _table(self) -> list[str]:
        """The most frequent values with their shares of pixels and numbers of masks."""
        pixels: Counter[int | str] = Counter()
        masks: Counter[int | str] = Counter()
        for mask in self.masks:
            pixels.update(mask.values)
            masks.update(mask.values.keys())
        total = sum(pixels.values()) or 1
        lines = [f"values found in {len(self.masks)} masks:"]
        for value, count in pixels.most_common(_LISTED):
            which = self._whose(value)
            lines.append(
                f"  {value}: {count / total:.1%} of the pixels, in {masks[value]} masks{which}"
            )
        if len(pixels) > _LISTED:
            lines.append(f"  and {len(pixels) - _LISTED} more")
        return lines

    def _whose(self, value: int | str) -> str:
        """Say of a value that it is in the masks of one tag, where that is so."""
        rows = np.array([value in mask.values for mask in self.masks], bool)
        for at, name in enumerate(self.class_names):
            if (rows == self.tags[:, at]).all() and not rows.all():
                return f", those of images tagged '{name}'"
        return ""


def _by_colour(values: Mapping[int | str, int]) -> dict[int | str, int]:
    """Grey values as the colours that they are beside coloured masks."""
    return {
        colour_name(value * 0x10101) if isinstance(value, int) and value < 256 else value: pixels
        for value, pixels in values.items()
    }
