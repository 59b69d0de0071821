"""What a cell, a number or a vote says of a class: there, not there, how likely, or unknown."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "MINUS_ONE",
    "REST",
    "Ballots",
    "NoMark",
    "Said",
    "conflict",
    "ids_of",
    "is_set",
    "likely",
    "merged",
    "minus_one",
    "read_mark",
]

Said = dict[str, float | None]
"""By class the probability that it is there: 1 of a plain tag, 0 of one that is denied, None where
nobody knows."""

REST = "?"
"""A tag that says: of the other classes nobody knows."""

MINUS_ONE = ("-1", "-1.0")
"""What means that nobody knows beside 1 and 0, and beside 1 alone that a class is not there."""
_YES = frozenset({"1", "1.0", "true", "yes", "x", "t", "y"})
_NO = frozenset({"", "-1", "0", "0.0", "false", "no", "f", "n"})
_UNKNOWN = frozenset({"?", "unknown", "unsure", "uncertain", "<na>", "n/a", "na", "nan", "null"})
_VOTES = re.compile(r"(\d+)\s*/\s*(\d+)")
_NUMBER = re.compile(r"([+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:e[+-]?\d+)?)\s*(%?)")


class NoMark(ValueError):
    """A value that says nothing of a class."""


def is_set(value: Any) -> bool | None:
    """What a cell of yes and no says; None where it is neither."""
    word = "" if value is None else str(value).strip().casefold()
    return True if word in _YES else False if word in _NO else None


def read_mark(value: Any, unknown: Collection[str] = ()) -> float | None:
    """The probability that a class is there, by what is written of it.

    Args:
        value: yes or no in any words, a number in [0, 1], "80 %", votes as "3/5", as a list of
            votes or as {"yes": 3, "no": 2}; "?", "unknown" or null where nobody knows.
        unknown: other texts that say so, in lower case; they go before all others.

    Returns:
        In [0, 1], and None where nobody knows: nobody voted, or as many for it as against it.

    Raises:
        NoMark: it is none of these.
        ValueError: a number leaves its range, or more voters said yes than voted.

    Example:
        >>> [read_mark(value) for value in (1, "no", "0.8", "80 %", "3/4", [1, 1, 0, 1], "?")]
        [1.0, 0.0, 0.8, 0.8, 0.75, 0.75, None]
        >>> read_mark("2/4"), read_mark("0/0")
        (None, None)
    """
    if isinstance(value, Mapping):
        return _counted(value)
    if isinstance(value, list):
        marks = [mark for item in value if (mark := read_mark(item, unknown)) is not None]
        return _share(sum(marks), len(marks))
    word = "null" if value is None else str(value).strip().casefold()
    if word in unknown or word in _UNKNOWN:
        return None
    if (said := is_set(word)) is not None:
        return float(said)
    if votes := _VOTES.fullmatch(word):
        return _share(int(votes[1]), int(votes[2]))
    number = _NUMBER.fullmatch(word)
    if not number:
        raise NoMark(
            "which says nothing of a class; write 1, 0 or ?, a probability in [0, 1], or votes "
            "such as 3/5"
        )
    share = float(number[1].replace(",", ".")) / (100 if number[2] else 1)
    if not 0 <= share <= 1:
        raise ValueError(
            "which is no probability in [0, 1]; write one, percents with %, or votes such as 3/5"
        )
    return share


def likely(said: Said) -> list[str]:
    """The classes that are taken to be there, at a probability of 0.5 and more."""
    return [tag for tag, share in said.items() if share is not None and share >= 0.5]


def ids_of(
    said: Said, class_names: Sequence[str]
) -> tuple[tuple[int, ...], tuple[tuple[int, float | None], ...]]:
    """What is said of an image as `class_ids` and `uncertain` of a `RawSample`.

    Args:
        said: of tags that are classes; of others nothing is taken.
        class_names: of all classes, in the order of their ids.

    Example:
        >>> ids_of({"cat": 0.75, "dog": 0, "emu": 1}, ["cat", "dog", "emu", "fox"])
        ((1, 3), ((1, 0.75),))
        >>> ids_of({"emu": 1, "dog": 0, "?": None}, ["cat", "dog", "emu"])
        ((3,), ((1, None),))
    """
    present, uncertain = [], []
    for class_id, name in enumerate(class_names, 1):
        share = said.get(name, None if REST in said else 0)
        if share is None or 0 < share < 1:
            uncertain.append((class_id, share))
        if share is not None and share >= 0.5:
            present.append(class_id)
    return tuple(present), tuple(uncertain)


def minus_one(values: Iterable[Any]) -> bool:
    """Whether -1 means that nobody knows: where others say 0 for what is not there."""
    words = {str(value).strip() for value in values}
    return not words.isdisjoint(MINUS_ONE) and not words.isdisjoint(("0", "0.0"))


def _counted(votes: Mapping[Any, Any]) -> float | None:
    """The share of {"yes": 3, "no": 2} or {"yes": 3, "total": 5}."""
    counts = {str(key).strip().casefold(): value for key, value in votes.items()}
    if counts.keys() not in ({"yes", "no"}, {"yes", "total"}) or not all(
        isinstance(count, int) and count >= 0 for count in counts.values()
    ):
        raise NoMark('which says nothing of a class; write votes as {"yes": 3, "no": 2}')
    return _share(counts["yes"], counts.get("total", counts["yes"] + counts.get("no", 0)))


def _share(yes: float, total: float) -> float | None:
    if yes > total:
        raise ValueError(
            f"by which {yes:g} of {total:g} voters said yes; write all that voted, or {yes:g}/"
            f"{yes + total:g} where {total:g} said no"
        )
    return None if 2 * yes == total else yes / total


@dataclass
class Ballots:
    """Votes of several people on classes of images.

    Attributes:
        where: by entry, the place of its first vote.
    """

    where: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    _of_voter: dict[tuple[str, str, str], tuple[float | None, str]] = field(default_factory=dict)

    def add(self, where: str, entry: str, tag: str, mark: float | None, voter: str = "") -> None:
        """Count a vote; that of a voter once.

        Args:
            where: its place in the file.
            entry: the image.
            tag: the class.
            mark: 1 for it, 0 against it, None of one who does not know.
            voter: who votes, or "".

        Raises:
            ValueError: the voter has voted otherwise before.
        """
        if voter:
            before = self._of_voter.setdefault((entry, tag, voter), (mark, where))
            if before[0] != mark:
                raise ValueError(
                    f"'{voter}' says {_spoken(mark)} to '{tag}' in '{entry}', and "
                    f"{_spoken(before[0])} before{before[1]}; keep one vote of each voter"
                )
            if before[1] != where:
                return
        self.add_counts(where, entry, tag, mark or 0, mark is not None)

    def add_counts(self, where: str, entry: str, tag: str, yes: float, total: float) -> None:
        """Add votes that somebody has counted.

        Args:
            where: their place in the file.
            entry: the image.
            tag: the class.
            yes: votes for it.
            total: all votes.
        """
        self.where.setdefault(entry, where)
        found = self._counts.setdefault(entry, {}).setdefault(tag, [0, 0])
        found[0] += yes
        found[1] += total
        _share(yes, total)

    def said(self, entry: str) -> Said:
        """What the votes say of an image."""
        return {tag: _share(yes, total) for tag, (yes, total) in self._counts[entry].items()}


def _spoken(mark: float | None) -> str:
    return "?" if mark is None else "yes" if mark == 1 else "no" if mark == 0 else f"{mark:g}"


def merged(pairs: Sequence[tuple[str, float | None]]) -> Said:
    """What is said of classes one after another.

    Raises:
        ValueError: of a class two things are said.
    """
    said: Said = {}
    for tag, share in pairs:
        before = said.setdefault(tag, share)
        if before != share:
            raise ValueError(conflict(tag, before, share))
    return said


def conflict(tag: str, before: float | None, share: float | None) -> str:
    """What is wrong with two different statements of a class."""
    if {before, share} == {0, 1}:
        return f"'{tag}' both as there and as not there; keep one"
    return f"'{tag}' with {_worded(before)} and with {_worded(share)}; keep one"


def _worded(share: float | None) -> str:
    return "nobody knowing" if share is None else f"the probability {share:g}"
