"""Files that list the names of classes, and numbers that stand for them."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from wsss.checks import did_you_mean, full_key
from wsss.data._marks import REST, Said
from wsss.data._tables import read_text
from wsss.data._tag_files import read_json_text
from wsss.data.listing import some

__all__ = ["ClassNames", "class_of_id", "name_ids", "names_of", "read_class_names"]

_STEMS = frozenset(
    {"categories", "class_names", "classes", "data", "dataset", "label_names", "labels", "names"}
    | {"obj"}
)
_SUFFIXES = frozenset({".json", ".names", ".txt", ".yaml", ".yml"})
_BACKGROUND = frozenset({"background", "_background_", "__background__"})

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_WORDS = frozenset({"false", "no", "true", "yes"})

ClassNames = Sequence[str] | Mapping[int, str]
"""Names in the order of their ids, or by id."""


def read_class_names(path: Path, empty_tag: str = "") -> ClassNames:
    """Read the names of classes.

    Args:
        path: a text file with a name a line, perhaps after its id; or .json or .yaml with a list,
            with {id: name} or {name: id}, or with a list of {"id": 1, "name": "cat"}; also below a
            key "names" or "categories".
        empty_tag: the name for no class.

    Returns:
        The names; where the first one is that of the background, or `empty_tag`, it is "", and has
        the id 0.

    Raises:
        ValueError: another layout, a name twice, or `empty_tag` among the classes.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        value = read_json_text(path)
    elif suffix in (".yaml", ".yml"):
        try:
            value = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not valid YAML: {error}") from None
    else:
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        pairs = [re.fullmatch(r"(\d+)\s*[\s:,;]\s*(\S.*)", line) for line in lines]
        value = {pair[1]: pair[2] for pair in pairs if pair} if all(pairs) else lines
    names = _names(value, _BACKGROUND | {empty_tag.casefold()} - {""})
    listing = names_of(names or ())
    if empty_tag in listing:
        raise ValueError(
            f"{path} lists '{empty_tag}' among the classes, which says that an image has none of "
            f"them; put it first, with the id 0, remove it, or set {full_key('dataset.empty_tag')} "
            "to what says so"
        )
    if not listing or len(set(listing)) < len(listing) or not all(map(str.strip, listing)):
        raise ValueError(
            f"{path} must list different names of classes, one a line, or as JSON or YAML a list "
            "or {1: name}"
        )
    return names or ()


def _names_beside(path: Path, root: Path, empty_tag: str) -> tuple[Path, ClassNames] | None:
    """The only file beside a file of tags, or in the root, that is called as one of names."""
    found = {}
    for folder in (path.parent, root):
        for item in sorted(folder.iterdir()):
            named = item.suffix.lower() in _SUFFIXES and item.stem.lower() in _STEMS
            if named and item.resolve() != path.resolve():
                with suppress(ValueError):  # of another kind of file
                    found[item.resolve()] = item, read_class_names(item, empty_tag)
    return next(iter(found.values())) if len(found) == 1 else None


def names_of(classes: ClassNames) -> tuple[str, ...]:
    """The names alone, in the order of their ids, without the background's."""
    names = classes.values() if isinstance(classes, Mapping) else classes
    return tuple(name for name in names if name)


def check_known(tags: Mapping[str, Said], classes: Sequence[str], empty_tag: str) -> None:
    """Raise ValueError if images have tags that are no classes; it lists them.

    Args:
        tags: what is said of each image.
        classes: all there are.
        empty_tag: the name for no class.
    """
    images: dict[str, list[str]] = {}
    for name, own in tags.items():
        for tag in own:
            images.setdefault(tag, []).append(name)
    lines = [
        f"'{tag}' ({len(images[tag])} images, such as '{images[tag][0]}'): "
        + did_you_mean(tag, [*classes, empty_tag])
        for tag in sorted(images.keys() - {*classes, empty_tag, REST})
    ]
    if lines:
        more = [f"and {len(lines) - 10} more"] if len(lines) > 10 else []
        raise ValueError(
            f"tags that {full_key('dataset.classes')} does not have:\n  "
            + "\n  ".join(lines[:10] + more)
            + f"\nmend them, add them to classes, or use '{empty_tag}' for no class"
        )


def name_ids(
    tags: dict[str, Said | None], classes: ClassNames, path: Path, root: Path, empty_tag: str
) -> tuple[ClassNames, list[str]]:
    """Put names for tags that are numbers of classes, in place.

    Args:
        tags: what is said of each image.
        classes: what the settings name; where that is nothing, a file of names beside is read.
        path: of the tags, for errors.
        root: of the data set.
        empty_tag: the name for no class.

    Returns:
        The classes, which a file may have told, and what a person must know.

    Raises:
        ValueError: which classes the numbers mean cannot be told.
    """
    used = {tag for own in tags.values() for tag in own or ()} - {empty_tag, REST}
    if not classes and used and all(tag.casefold() in _WORDS for tag in used):
        raise ValueError(
            f"{path}: tags are {some(sorted(used))}, which say no class: name the column of them "
            f"as the class, or list {some(sorted(used))} in {full_key('dataset.classes')}"
        )
    if not used or used & set(names_of(classes)) or not all(map(_NUMBER.fullmatch, used)):
        return classes, []
    source = full_key("dataset.classes")
    if not classes and (beside := _names_beside(path, root, empty_tag)):
        source, classes = str(beside[0]), beside[1]
    try:
        named = class_of_id({_number(tag) for tag in used}, classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for name, own in tags.items():
        new = {
            tag if tag in (empty_tag, REST) else named[_number(tag)]: share
            for tag, share in (own or {}).items()
        }
        tags[name] = own and {tag: share for tag, share in new.items() if tag}
    said = some([f"{number:g} is '{name}'" for number, name in sorted(named.items()) if name])
    return classes, [f"tags are numbers, which {source} names: {said}"]


def class_of_id(ids: Collection[float], names: ClassNames) -> dict[float, str]:
    """Name the classes that numbers stand for.

    Args:
        ids: the numbers that occur.
        names: in the order of their ids, which count from 1, or from 0 if 0 occurs; or by id.

    Raises:
        ValueError: there are no names, a number is none of the ids, or whether they count from 0
            or from 1 cannot be told: neither 0 nor the number of names occurs.
    """
    key = full_key("dataset.classes")
    listing = some([f"{number:g}" for number in sorted(ids)])
    if not names:
        raise ValueError(
            f"tags are numbers ({listing}), and nothing names their classes: set {key} to the "
            "names in the order of their ids, to a file with a name a line or with "
            '{"1": "first", "2": "second"}, or, where the numbers are the names, to the numbers '
            'in quotes: ["1", "2"]' + _if_marks(ids)
        )
    if isinstance(names, Mapping):
        named = dict(names)
    else:
        named = dict(enumerate(names, 0 if 0 in ids else 1))
        if 0 not in ids and max(ids) < len(names):
            raise ValueError(
                f"tags are numbers ({listing}), and neither 0 nor {len(names)} is among them, so "
                f"they may count the {len(names)} classes from 0 or from 1: write the classes with "
                f'their numbers, {{"1": "{names[0]}", ...}}, into a JSON file and set {key} to its '
                "name"
            )
    unknown = sorted(set(ids) - set(named))
    if unknown:
        raise ValueError(
            f"tags are numbers ({listing}), and {unknown[0]:g} is none of the classes' ids, which "
            f"go from {min(named)} to {max(named)} in {key}; name it there{_if_marks(ids)}"
        )
    return {number: named[int(number)] for number in ids}


def _if_marks(ids: Collection[float]) -> str:
    """What to do where 0 and 1 are no ids."""
    if set(ids) != {0, 1}:
        return ""
    return (
        f". Where 0 says that the class is not there, set {full_key('dataset.empty_tag')}: '0' and "
        f"{full_key('dataset.classes')} to its name, as [smoke], or name the column smoke"
    )


def _number(tag: str) -> float:
    return float(tag) if "." in tag else int(tag)


def _names(value: Any, nothing: Collection[str]) -> ClassNames | None:
    """Names in any of the layouts; None of another.

    Args:
        value: what a file holds.
        nothing: first names that are no class, in lower case.
    """
    for key in ("names", "categories", "classes"):
        if isinstance(value, dict) and isinstance(value.get(key), list | dict):
            value = value[key]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = {item.get("id"): item.get("name") for item in value}
    if isinstance(value, dict):
        if all(isinstance(item, int) for item in value.values()):
            value = {number: name for name, number in value.items()}
        if not all(
            str(number).isdecimal() and isinstance(name, str) for number, name in value.items()
        ):
            return None
        by_id = {int(number): name.strip() for number, name in value.items()}
        if by_id.get(0, "").casefold() in nothing:
            by_id[0] = ""
        return dict(sorted(by_id.items()))
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    names = [item.strip() for item in value if item.strip() != "__ignore__"]
    if names and names[0].casefold() in nothing:
        return dict(enumerate(["", *names[1:]]))
    return names
