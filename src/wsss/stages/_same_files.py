"""Image files of the same bytes: in two splits they make scores too good."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wsss.data import RawSample
from wsss.data.listing import some
from wsss.stages._preparation import file_bytes

__all__ = ["same_files", "same_files_remarks", "same_files_warnings"]

_HEAD = 2**16  # bytes that are read of files of one size, before all of them are

Placed = tuple[str, RawSample]
"""An image and the split that it is in."""


def same_files(lists: Mapping[str, Sequence[RawSample]]) -> list[list[Placed]]:
    """Groups of images of the same bytes; only what has the size of another file is read.

    Args:
        lists: the images of each split.

    Returns:
        Groups of two and more, as the lists are ordered.
    """
    # a file that two lists name is no copy; `check_names` and `check_files` say so
    placed = {sample.image: (split, sample) for split, found in lists.items() for sample in found}
    groups = [list(placed.values())]
    keys: tuple[Callable[[Path], object], ...] = (file_bytes, _head, _all)
    for key in keys:
        groups = [part for group in groups for part in _parted(group, key)]
    return groups


def _parted(group: Sequence[Placed], key: Callable[[Path], object]) -> list[list[Placed]]:
    parts: dict[object, list[Placed]] = {}
    for placed in group:
        try:
            parts.setdefault(key(placed[1].image), []).append(placed)
        except OSError:
            continue  # the image is left out, and listed
    return [part for part in parts.values() if len(part) > 1]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(_HEAD)).digest()


def _all(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).digest()


def same_files_warnings(groups: Sequence[Sequence[Placed]]) -> list[str]:
    """What is wrong about images of the same bytes: they are in two splits, or tagged apart."""
    across = [group for group in groups if len({split for split, _ in group}) > 1]
    apart = [group for group in groups if len({sample.class_ids for _, sample in group}) > 1]
    found = []
    if across:
        found.append(
            f"{len(across)} images are in two splits with the same bytes, such as "
            f"{_shown(across[0])}: what was learned by heart is scored as if it were new; remove "
            "one of each, or put both into one split"
        )
    if apart:
        found.append(
            f"{len(apart)} images have the same bytes and other tags, such as {_shown(apart[0])}; "
            "mend the tags, or remove one of each"
        )
    return found


def same_files_remarks(groups: Sequence[Sequence[Placed]]) -> list[str]:
    """Images that a split has twice, of the same bytes."""
    within = [group for group in groups if len({split for split, _ in group}) == 1]
    if not within:
        return []
    return [
        f"{len(within)} images are in their split more than once with the same bytes, such as "
        f"{_shown(within[0])}: they count more than others; remove all but one"
    ]


def _shown(group: Sequence[Placed]) -> str:
    return some([f"'{sample.name}' ({split})" for split, sample in group], 3)
