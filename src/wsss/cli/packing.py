"""`wsss pack` and `wsss unpack`: files of many images into shards, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from wsss.commands import commit_command

__all__ = ["pack", "unpack"]

Folders = Annotated[
    list[Path] | None,
    typer.Argument(help="Folders of .jpg, .png or .npz files; those of the project if none."),
]


def pack(folders: Folders = None) -> None:
    """Pack the files of images into shards, some 1500 to a file, in place.

    Without folders, all that the project has of its images is packed, and the commands are printed
    by which its settings and DVC agree. What was stopped goes on with the same command.
    """
    from wsss.artifacts import pack_folder

    _convert(folders, pack_folder, "packed", packed=True)


def unpack(folders: Folders = None) -> None:
    """Let packed files lie by themselves again, in place; see `wsss pack`."""
    from wsss.artifacts import unpack_folder

    _convert(folders, unpack_folder, "unpacked", packed=False)


def _convert(
    folders: list[Path] | None, convert: Callable[[Path], int], done: str, *, packed: bool
) -> None:
    from wsss.artifacts import Manifest, Paths, mark_packed
    from wsss.pipeline.exclusive import hold

    paths = Paths(Path())
    of_project = not folders
    for folder in folders or paths.of_images():
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; name one that holds files of images")
        with hold(folder, f"wsss {'pack' if packed else 'unpack'}"):
            count = convert(folder)
        typer.echo(f"{folder}: {count} files {done}" if count else f"{folder}: nothing to do")
    if not of_project or not paths.splits.is_dir():
        return
    mark_packed(paths.splits, packed=packed)
    manifest = Manifest.read(paths.splits)
    number = len(manifest.all_samples()) + len(manifest.background)
    above = 0 if packed else 10 * number
    typer.echo(
        "now let settings and results agree, so that nothing runs anew:\n"
        f"  wsss set prepare_data.pack_above={above}\n"
        f"  {commit_command(paths.root)}"
    )
