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
from wsss.data._marks import REST, NoMark, read_mark
from wsss.data.listing import some

__all__ = ["marks_of_mapping", "merge_names", "parse_cells", "refuse_several"]

_BLANK = frozenset({"", "-", "<na>", "n/a", "na", "nan", "null"})
"""What tables have where nothing was written."""
_LIST = re.compile(r"^[\[({].*[\])}]$", re.DOTALL)
_VALUED = re.compile(
    r"(.*\w)\s*(?:[:=]\s*|\(\s*)(-?\d*\.?\d+\s*%?|\d+\s*/\s*\d+|\?)\s*\)?", re.DOTALL
)
"""A tag with a probability, votes, or '?'."""
_DENIED = re.compile(r"(!|-|no\s+|not\s+)\s*(\w.*)", re.DOTALL | re.IGNORECASE)
_WEAK = re.compile(r"\s*[/+&]\s*|\s+and\s+|\s+")


def parse_cells(
    cells: Iterable[str], classes: Collection[str], empty_tag: str, unknown: Collection[str] = ()
) -> dict[str, list[tuple[str, Any]] | None]:
    """Read the cells of a column of tags.

    Tags are separated by ';' or by new lines, or are a list as Python, pandas, numpy or JSON
    writes it. ',' and '|' separate, too, where that is beyond doubt: the parts are classes or
    numbers, one stands alone in another cell, or all occur in others.

    A tag may have a mark, as 'cat: 0.8', 'cat (80 %)', 'cat=3/5' or 'cat:?'. '!cat' denies one, and
    so do '-cat' where cat occurs besides, and 'no cat' where cat is a known class.

    Args:
        cells: the texts.
        classes: names that are known; empty when unknown.
        empty_tag: the name for no class.
        unknown: texts in lower case that say, as '?' does, that nobody knows of the other classes.

    Returns:
        By text, its tags and what `read_mark` can read of each; None of a blank one.

    Raises:
        ValueError: a text may be one tag or several, or ends with '?'; it says how to write either.
    """
    counts = Counter(cells)
    known = {near(name) for name in (*classes, empty_tag)}
    exact: dict[str, list[tuple[str, Any]]] = {}
    tags: dict[str, list[str] | None] = {}
    for cell in counts:
        text = cell.strip()
        if text.casefold() in unknown:
            tags[cell] = [REST]
        elif text.casefold() in _BLANK:
            tags[cell] = None
        elif _LIST.match(text):
            found = _listed(text)
            if isinstance(found, dict):
                exact[cell] = list(found.items())
                found = []
            tags[cell] = found
        else:
            tags[cell] = _cut(r"[;；\n]", text)
    marks = _Marks(known, unknown)
    alone = {marks.name(tag) for tag in _all(tags)}
    parts = {tag: split for tag in _all(tags) if (split := _parts(tag)) and near(tag) not in known}
    company = Counter(marks.name(part) for found in parts.values() for part in set(found))
    for tag, found in parts.items():
        keys = [marks.name(part) for part in found]
        sure = any(key in alone for key in keys) or all(company[key] > 1 for key in keys)
        sure = known.issuperset(keys) if classes else sure
        if not sure and not all(map(str.isdecimal, keys)):
            raise ValueError(_doubt(tag, found, classes, counts))
    tags = {
        cell: found and [part for tag in found for part in parts.get(tag, [tag])]
        for cell, found in tags.items()
    }
    marks.plain = {near(tag) for tag in _all(tags)}
    pairs: dict[str, list[tuple[str, Any]] | None] = {
        cell: None if tags_of is None else [marks.read(tag) for tag in tags_of]
        for cell, tags_of in tags.items()
    }
    for name in (name for read in pairs.values() for name, _ in read or ()):
        if name.endswith("?") and name != REST and near(name) not in known:
            raise ValueError(
                f"the tag '{name}' may be a class, or one that nobody is sure of; write "
                f"'{name.rstrip('? ')}:?' where nobody knows, or list all classes in "
                f"{full_key('dataset.classes')}"
            )
    names = {near(name) for read in pairs.values() for name, _ in read or ()} | known
    for tag in _all(tags):
        found = [part for part in _WEAK.split(tag) if part]
        if len(found) > 1 and near(tag) not in known and names.issuperset(map(near, found)):
            raise ValueError(_doubt(tag, found, classes, counts))
    return pairs | exact


class _Marks:
    """What tags say besides their name.

    Args:
        known: names that are classes, as `near` has them.
        unknown: see `parse_cells`.
    """

    def __init__(self, known: Collection[str], unknown: Collection[str]) -> None:
        self.known, self.unknown = known, unknown
        self.plain: Collection[str] = ()

    def read(self, tag: str) -> tuple[str, Any]:
        """The name of a tag, and what is written of it."""
        if near(tag) in self.known:
            return tag, 1
        if tag == REST or tag.casefold() in self.unknown:
            return REST, REST
        if found := _VALUED.fullmatch(tag):
            return found[1].strip(), found[2]
        if found := _DENIED.fullmatch(tag):
            sign, name = found[1].strip(), found[2]
            others = {"!": {near(name)}, "-": {*self.known, *self.plain}}.get(sign, self.known)
            if near(name) in others:
                return name, 0
        return tag, 1

    def name(self, tag: str) -> str:
        """The name alone, as `near` has it, where that is beyond doubt."""
        name, mark = self.read(tag)
        return near(tag) if mark == 0 and not tag.startswith("!") else near(name)


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


def _listed(text: str) -> list[str] | dict[str, Any]:
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
        return marks_of_mapping(value)
    if isinstance(value, list | tuple | set):
        words = [str(tag) for tag in value if isinstance(tag, str | int)]
        if len(words) < len(value):
            raise ValueError(f"'{text}' is no list of tags")
        return [word.strip() for word in (sorted(words) if isinstance(value, set) else words)]
    return _cut(r"[,;\n]", inner)


def marks_of_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    """What {"cat": 1, "dog": 0.3} or {"choices": ["cat"]} says of each tag, for `read_mark`.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value.get("choices"), list):
        return {str(tag).strip(): 1 for tag in value["choices"]}
    readable = bool(value)
    for mark in value.values():
        try:
            read_mark(mark)
        except NoMark:
            readable = False
        except ValueError:  # of a number out of range, which is said with its line
            pass
    if not readable:
        raise ValueError(
            f"{dict(value)} must map tags to 1 (there), 0 (not there), a probability, votes such "
            'as "3/5", or null where nobody knows'
        )
    return {str(tag).strip(): mark for tag, mark in value.items()}


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
