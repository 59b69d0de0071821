"""A data set where it is wanted: whole or not at all."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from wsss.artifacts import read_json, write_json
from wsss.checks import did_you_mean
from wsss.config.yaml_text import flow_text
from wsss.downloads.fetching import checksum_of, fetch
from wsss.downloads.table import DATA_SETS, DataSet
from wsss.downloads.unpacking import unpack
from wsss.pipeline.exclusive import hold

__all__ = ["get_data_set", "settings_of"]

_MARKER = ".fetched.json"
_MIB = 2**20


def get_data_set(
    name: str, folder: Path, data_sets: Mapping[str, DataSet] = DATA_SETS
) -> tuple[Path, bool]:
    """Fetch a data set into `folder`/`name`, unless it is there.

    Archives lie in `folder`/.`name`.download until all is unpacked beside it and moved into place.
    A run that was stopped goes on with them.

    Args:
        name: of the table.
        folder: made if it is not there.
        data_sets: the table.

    Returns:
        Where it lies, and whether it was fetched now.

    Raises:
        ValueError: there is no such data set, it has to be asked for, the folder is not of this
            command, the disk has too little room, or a file cannot be had or is not as published.
        OSError: the disk is full, or cannot be written, or another process fetches the same.
    """
    if name not in data_sets:
        raise ValueError(f"there is no data set '{name}'; {did_you_mean(name, data_sets)}")
    data_set = data_sets[name]
    if not data_set.archives:
        raise ValueError(
            f"'{name}' has no address to fetch it from: ask its authors, {data_set.page}; then set "
            f"in params.yaml\n{settings_of(data_set, folder / name)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    target, downloads = folder / name, folder / f".{name}.download"
    with hold(target, f"fetching '{name}'"):
        if target.exists():
            _check_there(target)
            return target, False
        _check_room(data_set, folder, downloads)
        _place(data_set, target, downloads)
    return target, True


def settings_of(data_set: DataSet, root: Path) -> str:
    """The lines for params.yaml, of a data set that lies in `root`."""
    return data_set.settings.format(root=flow_text(str(root.absolute() / data_set.within)))


def _place(data_set: DataSet, target: Path, downloads: Path) -> None:
    """Fetch, unpack into a hidden folder, and move that into place."""
    files = [fetch(archive, downloads) for archive in data_set.archives]
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        try:
            for file in files:
                unpack(file, partial, most=2 * data_set.unpacked)
            _check_layout(data_set, partial)
        except ValueError as error:
            shutil.rmtree(downloads, ignore_errors=True)
            raise ValueError(
                f"{error}. All that was fetched is deleted; run the command again, and if that "
                f"does not help, see {data_set.page}"
            ) from None
        write_json(
            partial / _MARKER,
            {
                "archives": {
                    archive.urls[0]: f"sha256:{checksum_of(file, 'sha256')}"
                    for archive, file in zip(data_set.archives, files, strict=True)
                },
                "files": _count(partial),
            },
        )
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(downloads, ignore_errors=True)


def _check_layout(data_set: DataSet, folder: Path) -> None:
    for place, count in data_set.layout:
        path = folder / place
        if not path.exists():
            raise ValueError(
                f"what was fetched has no {place}: it is another file than it should be"
            )
        found = len(list(path.iterdir())) if count else 0
        if found < count:
            raise ValueError(
                f"what was fetched has {found} of {count} files in {place}: it is another file "
                "than it should be"
            )


def _check_there(target: Path) -> None:
    """Raise ValueError unless a folder is what an earlier run has made."""
    try:
        held = read_json(target / _MARKER)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{target} is there, and was not made by this command; name another folder, or use it "
            "as it is"
        ) from None
    found = _count(target)
    if found < held:
        raise ValueError(
            f"{target} has lost {held - found} of {held} files; delete it, and run the command "
            "again"
        )


def _count(folder: Path) -> int:
    """The files below a folder, without the one that says what was fetched."""
    return sum(len(files) for _, _, files in os.walk(folder)) - (folder / _MARKER).is_file()


def _check_room(data_set: DataSet, folder: Path, downloads: Path) -> None:
    held = sum(file.stat().st_size for file in downloads.glob("*")) if downloads.is_dir() else 0
    to_fetch = max(0, sum(archive.size for archive in data_set.archives) - held)
    needed, free = to_fetch + data_set.unpacked, shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"the disk of {folder.absolute()} has {free / _MIB:.0f} MiB free, but "
            f"{needed / _MIB:.0f} MiB are needed: {to_fetch / _MIB:.0f} to fetch, and "
            f"{data_set.unpacked / _MIB:.0f} to unpack; free some space, or name another folder"
        )
