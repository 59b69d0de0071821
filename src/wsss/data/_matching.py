"""Which image a path in a file means, whoever wrote it: absolute, of Windows, or a URL."""

import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wsss.data._layouts import split_of_word
from wsss.data.listing import image_suffixes

__all__ = ["Names", "composed"]

_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


@dataclass(frozen=True)
class _Hit:
    """An image that an entry may mean.

    Attributes:
        name: of the image.
        rank: the better the greater: how literally, and how many parts of the path agree.
        rest: the folders of the entry before what agrees.
        elsewhere: whether the image's path has folders of its own there.
    """

    name: str
    rank: tuple[int, int]
    rest: str = ""
    elsewhere: bool = False


class Names:
    """The images of a data set by all that a file may call them.

    Args:
        files: the image files by name, which is the path in `folder` without suffix.
        folder: where they lie.

    Raises:
        ValueError: the name of an image is the path of another one.
    """

    def __init__(self, files: Mapping[str, Path], folder: Path) -> None:
        self.files = files
        self.folder = folder
        self._roots = {composed(item.as_posix()) for item in (folder.absolute(), folder.resolve())}
        self._folder = composed(folder.resolve().name)
        self._whole = self._paths()
        self._forms: tuple[Callable[[str], str], ...] = (str, _loose, _number)

    def match(
        self, entries: Iterable[str], *, beside: str = "", elsewhere: bool = True
    ) -> dict[str, str]:
        """Find the images that entries mean.

        An entry means an image if it is its path, or if one of both paths ends as the other; the
        literal one before one in other case or with another suffix. What means several images, or
        is one of several places that mean the same, means none.

        Args:
            entries: what a file writes, each once.
            beside: a folder of images that entries may be relative to, such as their file's.
            elsewhere: whether images may lie in other folders than their entries say, all of
                which then have to say the same.

        Returns:
            The names of images by entry; an image may have an entry with and one without suffix.
        """
        hits = {entry: hit for entry in entries if (hit := self._find(entry, beside))}
        if not elsewhere or len({hit.rest for hit in hits.values() if hit.elsewhere}) > 1:
            hits = {entry: hit for entry, hit in hits.items() if not hit.elsewhere}
        best: dict[str, set[tuple[tuple[int, int], str]]] = {}
        for hit in hits.values():
            known = best.setdefault(hit.name, set())
            if not known or hit.rank >= max(known)[0]:
                best[hit.name] = {item for item in known if item[0] == hit.rank} | {
                    (hit.rank, hit.rest)
                }
        return {
            entry: hit.name
            for entry, hit in hits.items()
            if best[hit.name] == {(hit.rank, hit.rest)}
        }

    def otherwise(self, found: Mapping[str, str]) -> list[str]:
        """The entries whose images are called otherwise: another case, suffix, number or folder.

        Args:
            found: what `match` gave.
        """
        return [
            entry
            for entry, name in found.items()
            if entry not in self._whole and not self._ends_alike(entry, name)
        ]

    def _ends_alike(self, entry: str, name: str) -> bool:
        key = composed(name)
        keys = [f"/{key}", f"/{key}{composed(self.files[name].suffix)}"]
        texts = [f"/{text}" for text in _readings(entry)]
        return any(a.endswith(b) or b.endswith(a) for a in texts for b in keys)

    def _paths(self) -> dict[str, str]:
        """Names by path, with and without suffix."""
        found: dict[str, str] = {}
        for name, path in self.files.items():
            key = composed(name)
            for text in (key, key + composed(path.suffix)):
                if other := found.get(text):
                    raise ValueError(
                        f"{path} and {self.files[other]} cannot be told apart where something "
                        f"names '{text}'; rename one"
                    )
                found[text] = name
        return found

    @cached_property
    def _tails(self) -> list[dict[str, str]]:
        """Names by every end of their paths, in each of the forms; "" where several end so."""
        tails: list[dict[str, str]] = [{} for _ in self._forms]
        for name, path in self.files.items():
            parts = composed(name).split("/")
            for start in range(len(parts)):
                tail = "/".join(parts[start:])
                keys = [(level, form(tail)) for level, form in enumerate(self._forms)]
                for level, key in (*keys, (0, tail + composed(path.suffix))):
                    if key:
                        tails[level][key] = name if tails[level].get(key, name) == name else ""
        return tails

    def _find(self, entry: str, beside: str) -> _Hit | None:
        if not beside and entry in self._whole:  # as most are
            return _Hit(self._whole[entry], (3, entry.count("/")))
        texts = list(_readings(entry))
        if beside and (name := self._whole.get(f"{beside}/{texts[0]}")):
            return _Hit(name, (4, 0))
        for text in texts:
            for root in self._roots:
                text = text.removeprefix(f"{root}/")
            if text in self._whole:
                return _Hit(self._whole[text], (3, text.count("/")))
        weak = None
        for level, form in enumerate(self._forms):
            for text in texts:
                hit = self._tail(level, form(text))
                if hit and not hit.elsewhere:
                    return hit
                weak = weak or hit
        return weak

    def _tail(self, level: int, text: str) -> _Hit | None:
        """The image whose path has the longest end in common with an entry's."""
        parts = text.strip("/").split("/")
        for start in range(len(parts)):
            name = self._tails[level].get("/".join(parts[start:]))
            if name is None:
                continue
            same = len(parts) - start
            others = name.split("/")[:-same]
            rest = parts[:start]
            own = others[-1] if others else self._folder
            if not name or (rest and _other_split(rest[-1], own)):
                return None
            agree = same + (not others and bool(rest) and rest[-1] == self._folder)
            return _Hit(name, (2 - level, agree), "/".join(rest), bool(rest and others))
        return None


def composed(text: str) -> str:
    """Unicode's composed form: archives from macOS decompose letters."""
    return unicodedata.normalize("NFC", text)


def _readings(entry: str) -> Iterator[str]:
    """An entry as a relative or absolute path: as it is, as a URL, and without a prefix."""
    text = composed(entry.strip().replace("\\", "/"))
    if "?d=" in text:  # Label Studio's /data/local-files/?d=images/1.jpg
        text = text.partition("?d=")[2]
    elif "://" in text:
        text = urlsplit(text).path
    for reading in dict.fromkeys((text, unquote(text))):
        path = posixpath.normpath(reading).replace("../", "")
        yield path
        folder, slash, file = path.rpartition("/")
        if _UPLOAD.match(file):
            yield folder + slash + _UPLOAD.sub("", file)


def _loose(text: str) -> str:
    """Without an image's suffix, in lower case, blanks as Label Studio writes them."""
    stem, dot, suffix = text.rpartition(".")
    if dot and f".{suffix.lower()}" in image_suffixes():
        text = stem
    return re.sub(r"\s", "_", text.casefold())


def _number(text: str) -> str:
    """A name that is a number without the zeros before it, which tables lose; else ""."""
    folder, slash, file = _loose(text).rpartition("/")
    file = file.removesuffix(".0")
    return folder + slash + (file.lstrip("0") or "0") if file.isdecimal() else ""


def _other_split(folder: str, other: str) -> bool:
    splits = split_of_word(folder), split_of_word(other)
    return None not in splits and splits[0] != splits[1]
