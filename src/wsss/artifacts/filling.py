"""A folder of files of images in the making: by themselves, or packed as shards get complete."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from wsss.artifacts.files import atomic_path, read_json, write_json
from wsss.artifacts.shards import (
    INDEX,
    check_shards,
    file_names,
    members,
    shard_count,
    shard_file,
    shard_of,
    write_shard,
)
from wsss.cores import share
from wsss.progress import one_bar

__all__ = ["Filling", "finish_shards", "pack_folder", "parts_together", "unpack_folder"]

AT_ONCE = 8
"""Shards whose files lie by themselves together: many enough that batches are full and processes
which load images seldom start anew, and few enough for any file system."""


class Named(Protocol):
    """An image, as `Sample`."""

    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=Named)


class Filling:
    """Says which files are made together, and packs them once they are.

    Files are written into the folder by themselves, each at once whole, so that a kill loses
    little. Where they are packed, a shard is made as soon as all its files are there, and these are
    removed. Where several processes fill the folder, each has shards of its own. The index is
    written when all are there, by `wsss.pipeline.Staging`.

    Args:
        folder: in the making.
        number: of images whose files it is to have.
        packed: whether they are packed.
        share: gives of items those that this process does; as `wsss.cores.share`.

    Attributes:
        count: of shards. Also where nothing is packed, files of different shards are not made in
            one batch, so that they are the same with packing and without.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        *,
        packed: bool,
        share: Callable[[Sequence[Any]], Sequence[Any]] = share,
    ) -> None:
        self.folder, self.packed, self._share = folder, packed, share
        self.count = shard_count(number)
        if packed:
            _begin(folder, self.count)

    def shard(self, item: Named) -> int:
        """The shard that the files of an image belong to."""
        return shard_of(item.name, self.count)

    def own(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items whose shards this process makes; all where nothing is packed."""
        if not self.packed:
            return items
        shards = set(self._share(range(self.count)))
        return [item for item in items if self.shard(item) in shards]

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """Of items in one of `parts`, or of batches of them, those that this process does."""
        return items if self.packed else self._share(items)

    def parts(
        self, items: Sequence[Item], file: Callable[[Item], str | None], doing: str = ""
    ) -> Iterator[list[Item]]:
        """The items that are worked on together: all of them, or those of a few shards.

        What was made of a part is packed when the next one is asked for. Where there are several,
        what is tracked in each goes on with one bar, of all items of this process.

        Args:
            items: in any order, which each part keeps.
            file: the file that is made of an item, below the folder; None where none is.
            doing: what the bar says; without it there is none.
        """
        if not self.packed:
            yield list(items)
            return
        shards = np.fromiter(map(self.shard, items), np.int64, len(items))
        order = np.argsort(shards, kind="stable")
        bounds = np.searchsorted(shards[order], np.arange(self.count + 1)).tolist()
        own = self._share(range(self.count))
        left = sum(bounds[at + 1] - bounds[at] for at in own)
        with one_bar(doing, left) if doing and left else nullcontext() as bar:
            for start in range(0, len(own), AT_ONCE):
                numbers = own[start : start + AT_ONCE]
                of_shards = [order[bounds[at] : bounds[at + 1]] for at in numbers]
                part = [items[at] for at in np.sort(np.concatenate(of_shards)).tolist()]
                yield part
                for number, places in zip(numbers, of_shards, strict=True):
                    names = (file(items[at]) for at in places.tolist())
                    _pack(self.folder, number, [name for name in names if name is not None])
                left -= len(part)
                if bar is not None:  # of the part some may have been done before
                    bar.expect(bar.done + left)

    def settle(self, names: Sequence[str]) -> None:
        """Leave these files and no others, each as it was written last.

        Args:
            names: of all files, below the folder.
        """
        if self.packed:
            for number, own in enumerate(_by_shard(names, self.count)):
                _pack(self.folder, number, own, exact=True)


def parts_together(
    items: Sequence[Item],
    files: Sequence[tuple[Filling, Callable[[Item], str | None]]],
    doing: str = "",
) -> Iterator[list[Item]]:
    """See `Filling.parts`, of folders that are filled together; all items where there is none.

    Args:
        items: in any order, which each part keeps.
        files: folders, all of so many shards, and the file that each gets of an item.
        doing: what the bar of all parts says; without it there is none.
    """
    if not files:
        yield list(items)
        return
    (first, file), *others = files
    sequences = [filling.parts(items, own) for filling, own in others]
    for part, *_ in zip(first.parts(items, file, doing), *sequences, strict=True):
        yield part


def finish_shards(folder: Path) -> None:
    """Write the indices of packed folders in a folder, when all processes have filled them.

    Raises:
        ValueError: a shard is not there, as a process has not done its part.
    """
    for index in list(folder.rglob(INDEX)):
        values, packed = read_json(index), index.parent
        if "shards" in values:
            continue
        notes = {number: packed / _note(number) for number in range(values["count"])}
        missing = [shard_file(number) for number, note in notes.items() if not note.exists()]
        if missing:
            raise ValueError(
                f"{packed} lacks {len(missing)} of {len(notes)} shards, such as {missing[0]}; run "
                "the stage that makes it again, which makes these alone"
            )
        shards = {shard_file(number): read_json(note) for number, note in notes.items()}
        write_json(index, {"count": values["count"], "shards": shards})
        for note in packed.glob(_note("*")):
            note.unlink()
        for path in sorted(packed.rglob("*"), reverse=True):  # folders of names with '/'
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def pack_folder(folder: Path) -> int:
    """Pack all files of images in a folder, in place; what was stopped goes on.

    Returns:
        How many files were packed; 0 where all are packed already.
    """
    index = folder / INDEX
    if index.exists() and "shards" in read_json(index):
        return 0
    _drop_leftovers(folder)
    names = file_names(folder)
    count = read_json(index)["count"] if index.exists() else shard_count(len(names))
    _begin(folder, count)
    for number, own in enumerate(_by_shard(names, count)):
        _pack(folder, number, own)
    finish_shards(folder)
    return len(names)


def unpack_folder(folder: Path) -> int:
    """Let the files of a packed folder lie by themselves, in place; what was stopped goes on.

    Returns:
        How many files were unpacked; 0 where none is packed.

    Raises:
        ShardError: a shard is damaged.
    """
    index = folder / INDEX
    if not index.exists():
        return 0
    values, found = read_json(index), 0
    check_shards(folder)
    _drop_leftovers(folder)
    _begin(folder, values["count"])
    for number in range(values["count"]):
        shard = folder / shard_file(number)
        names = members(shard)
        if names:
            with zipfile.ZipFile(shard) as packed:
                for name in names:
                    if not (folder / name).exists():  # which is newer
                        with atomic_path(folder / name) as temporary:
                            temporary.write_bytes(packed.read(name))
        found += len(names)
        shard.unlink(missing_ok=True)
        (folder / _note(number)).unlink(missing_ok=True)
    index.unlink()
    return found


def _drop_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing."""
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink()


def _begin(folder: Path, count: int) -> None:
    """Make a folder one whose shards are being made, and keep those that it has."""
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / INDEX
    values = read_json(index) if index.exists() else {}
    if values.get("count", count) != count:  # of other images
        for shard in folder.glob("*.zip"):
            shard.unlink()
        values = {}
    for name, recorded in values.get("shards", {}).items():
        write_json(folder / _note(int(Path(name).stem)), recorded)
    if values != {"count": count}:
        write_json(index, {"count": count})


def _pack(folder: Path, number: int, names: Sequence[str], *, exact: bool = False) -> None:
    """Make a shard of files, unless it is as it would be made, and remove them beside it.

    Args:
        folder: that they lie in.
        number: of the shard.
        names: of its files; what it has besides stays, unless these are `exact`.
        exact: see above.
    """
    shard, note = folder / shard_file(number), folder / _note(number)
    held, single = set(members(shard)), [name for name in names if (folder / name).is_file()]
    wanted = set(names) if exact else held | set(names)
    if single or wanted != held or not shard.exists() or not note.exists():
        size, digest = write_shard(shard, wanted)
        write_json(note, {"bytes": size, "files": len(wanted), "sha256": digest})
    for name in single:
        (folder / name).unlink()


def _by_shard(names: Sequence[str], count: int) -> list[list[str]]:
    """Files by the shard that the names of their images belong to."""
    found: list[list[str]] = [[] for _ in range(count)]
    for name in names:
        found[shard_of(name.rpartition(".")[0], count)].append(name)
    return found


def _note(number: int | str) -> str:
    """The file that says what the index will say of a shard."""
    return f".{number}.shard.json"
