"""What a person or a program writes as the tags of an image, and names that are nearly the same."""

import ast
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from wsss.checks import full_key
from wsss.data.listing import some

__all__ = ["merge_names", "parse_cells", "refuse_several", "tags_of_mapping"]

_BLANK = frozenset({"", "-", "<na>", "n/a", "na", "nan", "null"})
"""What tables have where nothing was written."""
_LIST = re.compile(r"^[\[({].*[\])}]$", re.DOTALL)
_SCORED = re.compile(r".*\w\s*[:=(]\s*\d*\.?\d+\s*[%)]?")
_WEAK = re.compile(r"\s*[/+&]\s*|\s+and\s+|\s+")


def parse_cells(
    cells: Iterable[str], classes: Collection[str], empty_tag: str
) -> dict[str, list[str] | None]:
    """Read the cells of a column of tags.

    Tags are separated by ';' or by new lines, or are a list as Python, pandas, numpy or JSON
    writes it. ',' and '|' separate, too, where that is beyond doubt: the parts are classes or
    numbers, one stands alone in another cell, or all occur in others.

    Args:
        cells: the texts.
        classes: names that are known; empty when unknown.
        empty_tag: the name for no class.

    Returns:
        By text, its tags; None of a blank one.

    Raises:
        ValueError: a text may be one tag or several; it says how to write either.
    """
    counts = Counter(cells)
    known = {near(name) for name in (*classes, empty_tag)}
    tags: dict[str, list[str] | None] = {}
    for cell in counts:
        text = cell.strip()
        if text.casefold() in _BLANK:
            tags[cell] = None
        elif _LIST.match(text):
            tags[cell] = _listed(text)
        else:
            tags[cell] = _cut(r"[;；\n]", text)
    alone = {near(tag) for tag in _all(tags)}
    parts = {tag: split for tag in _all(tags) if (split := _parts(tag)) and near(tag) not in known}
    company = Counter(near(part) for found in parts.values() for part in set(found))
    for tag, found in parts.items():
        keys = [near(part) for part in found]
        sure = any(key in alone for key in keys) or all(company[key] > 1 for key in keys)
        sure = known.issuperset(keys) if classes else sure
        if not sure and not all(map(str.isdecimal, keys)):
            raise ValueError(_doubt(tag, found, classes, counts))
    tags = {
        cell: found and [part for tag in found for part in parts.get(tag, [tag])]
        for cell, found in tags.items()
    }
    scored = [tag for tag in _all(tags) if near(tag) not in known and _SCORED.fullmatch(tag)]
    if scored:
        raise ValueError(
            f"{some([f'{tag!r}' for tag in scored])} look like tags with their scores; keep the "
            f"tags that are right, or list all classes in {full_key('dataset.classes')}"
        )
    names = {near(tag) for tag in _all(tags)} | known
    for tag in _all(tags):
        found = [part for part in _WEAK.split(tag) if part]
        if len(found) > 1 and near(tag) not in known and names.issuperset(map(near, found)):
            raise ValueError(_doubt(tag, found, classes, counts))
    return tags


def refuse_several(folders: Iterable[str], classes: Collection[str], empty_tag: str) -> None:
    """Raise ValueError if a folder is named after several classes, such as "cat, dog".

    Args:
        folders: the class of each image.
        classes: names that are known; empty when unknown.
        empty_tag: the name for no class.
    """
    counts = Counter(folders)
    known = {near(name) for name in (*classes, empty_tag)}
    names = {near(name) for name in counts} | known
    for name, number in counts.items():
        parts = _cut(r"\s*[,;|，、+&/]\s*|\s+and\s+", name)
        if len(parts) > 1 and near(name) not in known and names & set(map(near, parts)):
            raise ValueError(
                f"the folder '{name}' ({number} images) may be a class or several, "
                f"{' and '.join(parts)}; give its images their tags in a file, or list all "
                f"classes in {full_key('dataset.classes')}, such as {sorted(counts)[:4]}"
            )


def merge_names(counts: Mapping[str, int], settled: Collection[str]) -> dict[str, str]:
    """Find names that differ in case, blanks or Unicode's forms only.

    Args:
        counts: number of images by name.
        settled: names that are meant as they are: one of them is what its like are.

    Returns:
        What to call those that are called otherwise.

    Raises:
        ValueError: several names are alike, and none or several of them are settled.
    """
    groups: dict[str, set[str]] = {}
    for name in (*counts, *settled):
        groups.setdefault(near(name), set()).add(name)
    renamed = {}
    for group in groups.values():
        chosen = sorted(group & set(settled))
        others = sorted(group - set(settled))
        if len(chosen) == 1:
            renamed.update(dict.fromkeys(others, chosen[0]))
        elif len(group) > 1 and others:
            said = some([f"'{name}' ({counts.get(name, 0)} images)" for name in sorted(group)])
            most = max(others, key=lambda name: (counts.get(name, 0), name))
            raise ValueError(
                f"the tags {said} differ in case, blanks or the form of letters only; write them "
                f"alike, or list the classes in {full_key('dataset.classes')}: with "
                f"[{most}, ...] all of these are '{most}'"
            )
    return renamed


def near(name: str) -> str:
    """What is the same for names that differ in case, blanks or Unicode's forms only."""
    text = unicodedata.normalize("NFKC", name).strip().casefold()
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", " ", text)


def _all(tags: Mapping[str, list[str] | None]) -> list[str]:
    return list(dict.fromkeys(tag for found in tags.values() for tag in found or ()))


def _parts(tag: str) -> list[str]:
    for separator in ("[,，、]", "[|｜]"):
        found = _cut(separator, tag)
        if len(found) > 1:
            return found
    return []


def _cut(separator: str, text: str) -> list[str]:
    """The parts of a text, without blanks and quotes around them."""
    parts = [part.strip() for part in re.split(separator, text)]
    parts = [re.sub(r"^(['\"])([^'\"]*)\1$", r"\2", part).strip() for part in parts]
    return [part for part in parts if part]


def _listed(text: str) -> list[str]:
    """The tags of a list, a set or a tuple as text, of {"cat": 1} or {"choices": ["cat"]}."""
    inner = text[1:-1]
    between = re.sub(r"'[^']*'|\"[^\"]*\"", "", inner)  # numpy writes ['cat' 'dog']
    if not between.strip():
        quoted = re.findall(r"'([^']*)'|\"([^\"]*)\"", inner)
        return [tag.strip() for pair in quoted if (tag := "".join(pair)).strip()]
    value: Any = None
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError):
            value = read(text)
            break
    if isinstance(value, dict):
        return tags_of_mapping(value)
    if isinstance(value, list | tuple | set):
        words = [str(tag) for tag in value if isinstance(tag, str | int)]
        if len(words) < len(value):
            raise ValueError(f"'{text}' is no list of tags")
        return [word.strip() for word in (sorted(words) if isinstance(value, set) else words)]
    return _cut(r"[,;\n]", inner)


def tags_of_mapping(value: Mapping[Any, Any]) -> list[str]:
    """The tags that {"cat": 1, "dog": 0} or {"choices": ["cat"]} says.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value.get("choices"), list):
        return [str(tag).strip() for tag in value["choices"]]
    if not value or any(number not in (0, 1) for number in value.values()):
        raise ValueError(f"{dict(value)} must map tags to 1 (there) or 0 (not there)")
    return [str(tag).strip() for tag, number in value.items() if number]


def _doubt(tag: str, parts: list[str], classes: Collection[str], counts: Mapping[str, int]) -> str:
    number = sum(count for cell, count in counts.items() if tag in cell)
    return (
        f"'{tag}' (of {number} images) may be one tag or several; write several tags with ';' "
        f"between them, as {';'.join(parts)}"
        + (
            f", or add it to {full_key('dataset.classes')}, which has {some(sorted(classes))}"
            if classes
            else f", or list all classes in {full_key('dataset.classes')}"
        )
    )
