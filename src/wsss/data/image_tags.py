"""Tags of images that are in no data set, from the files that `folder` reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsss.checks import did_you_mean
from wsss.data._class_names import name_ids
from wsss.data._marks import REST, Said
from wsss.data._matching import Names
from wsss.data._tag_files import read_tags
from wsss.data.listing import some

__all__ = ["read_image_tags"]

_EMPTY = "none"


def read_image_tags(
    path: Path, files: Mapping[str, Path], folder: Path, class_names: Sequence[str]
) -> tuple[dict[str, tuple[str, ...] | None], list[str]]:
    """Read the classes that images may show.

    Args:
        path: a table, JSON or an export, as `dataset.tags` of `folder`; "none" is no class.
        files: the images by name.
        folder: that all of them lie below.
        class_names: all classes.

    Returns:
        By name the classes of an image that are not said to be absent, be they there, likely or
        unknown; None of images that the file says nothing of. And what a person must know.

    Raises:
        ValueError: the file cannot be read, contradicts itself, tags none of the images, or names
            what is no class.
    """
    if not path.is_file():
        raise ValueError(f"there is no file of tags {path}")
    names = Names(files, folder)
    beside = ""
    if path.absolute().is_relative_to(folder.absolute()):
        beside = path.absolute().parent.relative_to(folder.absolute()).as_posix()
    found = read_tags(path, names, "" if beside == "." else beside, class_names, _EMPTY)
    tags, warnings = dict(found.tags), list(found.warnings)
    warnings += name_ids(tags, class_names, path, path.parent, _EMPTY)[1]
    if found.unknown:
        entries = some([f"'{entry}'" for entry in found.unknown], 3)
        warnings.append(f"{path} has {len(found.unknown)} entries for other images: {entries}")
    silent = [name for name in files if tags.get(name) is None]
    if silent:
        images = some([f"'{name}'" for name in silent], 3)
        warnings.append(
            f"{path} has no tags of {len(silent)} images, of which all classes may be found: "
            f"{images}; '{_EMPTY}' says that no class is there"
        )
    return {name: _possible(path, name, tags.get(name), class_names) for name in files}, warnings


def _possible(
    path: Path, name: str, said: Said | None, class_names: Sequence[str]
) -> tuple[str, ...] | None:
    if said is None:
        return None
    for tag in said:
        if tag not in (*class_names, _EMPTY, REST):
            raise ValueError(
                f"{path} tags '{name}' with '{tag}', which is no class of the model; "
                f"{did_you_mean(tag, [*class_names, _EMPTY])}"
            )
    others = 1 if REST in said else 0
    return tuple(tag for tag in class_names if said.get(tag, others) != 0)
