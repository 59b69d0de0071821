"""Finding image files below a folder, and saying what was passed over."""

import difflib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wsss.settings import ConfigError

__all__ = ["Listing", "image_suffixes", "list_images", "missing_folder", "similar_folder", "some"]

log = logging.getLogger(__name__)

_NO_PIXELS = frozenset({"BUFR", "GRIB", "HDF5", "IPTC", "MPEG"})  # Pillow only tells their kind
_CLUTTER = frozenset(
    {".bak", ".cfg", ".csv", ".db", ".doc", ".docx", ".html", ".ini", ".ipynb", ".json", ".jsonl"}
    | {".log", ".md", ".names", ".py", ".sh", ".tab", ".tmp", ".tsv", ".txt", ".url", ".xls"}
    | {".xlsx", ".xml", ".yaml", ".yml"}
)
"""What lies beside images without being meant as one."""
_SYSTEM_FOLDERS = frozenset({"$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX"})
"""Folders that systems make, some of them with thumbnails in."""


@dataclass(frozen=True)
class Listing:
    """The images below a folder.

    Attributes:
        files: by path in the folder without the suffix, sorted.
        warnings: what a person must know: files of other kinds, links that were not followed,
            folders that end without an image.
    """

    files: dict[str, Path]
    warnings: list[str]


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the files that Pillow reads, in lower case, such as ".jpg"."""
    from PIL import Image

    Image.init()
    kinds = Image.registered_extensions().items()
    readable = {suffix for suffix, kind in kinds if kind in Image.OPEN and kind not in _NO_PIXELS}
    return frozenset(readable | {".mpo"})  # which Pillow opens as JPEG


def list_images(folder: Path, key: str, without: Sequence[Path] = ()) -> Listing:
    """Find all image files below a folder.

    Links are followed, and a file or folder to which several lead counts once. Passed over are
    hidden files and folders, what systems leave behind, and files of other kinds.

    Args:
        folder: where to search.
        key: what names it in params.yaml, for errors.
        without: folders below it to pass over.

    Raises:
        ConfigError: it is not a folder.
        ValueError: it holds no image, or two of one name.
    """
    if not folder.is_dir():
        raise missing_folder(folder, key)
    walk = _Walk(folder, without)
    files = {name: Path(walk.files[name]) for name in sorted(walk.files)}
    if not files:
        raise ValueError(
            f"{folder} holds no image{_held(walk.passed.items())}; images are all that Pillow "
            "reads, such as .jpg, .png, .tif and .webp: unpack or convert others"
        )
    if walk.passed:
        log.info("%s: passed over%s", folder, _held(walk.passed.items()))
    return Listing(files, list(walk.warnings()))


def missing_folder(folder: Path, key: str) -> ConfigError:
    """The error for a folder that does not exist, with the closest or the first of its siblings."""
    siblings = _siblings(folder)
    if similar := similar_folder(folder):
        hint = f"did you mean '{similar.name}'?"
    else:
        hint = f"set it to one of {folder.parent}, which has {some(siblings) or 'none'}"
    return ConfigError(f"{key}: {folder} is not a folder; {hint}")


def similar_folder(folder: Path) -> Path | None:
    """The folder beside one that does not exist whose name is closest to its, if any is close."""
    close = difflib.get_close_matches(
        folder.name.casefold(), [name.casefold() for name in _siblings(folder)], n=1
    )
    found = (name for name in _siblings(folder) if close and name.casefold() == close[0])
    return next((folder.with_name(name) for name in found), None)


def some(items: Sequence[str], count: int = 6) -> str:
    """The first items, and how many more there are.

    Example:
        >>> some(["a", "b", "c", "d"], 2)
        'a, b and 2 more'
    """
    more = len(items) - count
    return ", ".join(items[:count]) + (f" and {more} more" if more > 0 else "")


class _Walk:
    """All files below a folder: first what lies there, then what links lead to.

    Attributes:
        files: path of each image by its name.
        passed: how many files of each (folder, suffix) are no images.
    """

    def __init__(self, root: Path, without: Sequence[Path]) -> None:
        self.root = root
        self.files: dict[str, str] = {}
        self.passed: Counter[tuple[str, str]] = Counter()
        self._folders: list[str] = []
        self._filled: set[str] = {""}
        self._owner: dict[tuple[int, int], str] = {}  # of inodes: what was found there first
        self._not_followed: list[str] = []
        self._unreadable: list[str] = []
        self._links: list[tuple[str, str]] = []
        self._outer = {_identity(parent) for parent in root.resolve().parents}
        self._without = {_identity(item) for item in without if item.exists()}
        self._suffixes = image_suffixes()
        self._folder(str(root), "")
        file_links: list[tuple[str, str]] = []
        while self._links:
            links, self._links = sorted(self._links), []
            for name, path in links:
                if Path(path).is_dir():
                    self._folder(path, name)
                else:
                    file_links.append((name, path))
        for name, path in sorted(file_links):
            self._linked_file(path, name)

    def warnings(self) -> Iterator[str]:
        """What was passed over, for a person."""
        empty = [name for name in self._folders if name not in self._filled]
        top = [name for name in empty if name.rpartition("/")[0] in self._filled]
        if top:
            lines = [
                name
                + _held(
                    item for item in self.passed.items() if f"{item[0][0]}/".startswith(f"{name}/")
                )
                for name in top
            ]
            yield f"{self.root}: no image in {len(top)} of its folders: {some(lines)}"
        said = [
            (count, f"{count} {suffix} in {folder or 'the folder itself'}")
            for (folder, suffix), count in sorted(self.passed.items())
            if suffix not in _CLUTTER and not any(f"{folder}/".startswith(f"{x}/") for x in top)
        ]
        if said:
            number = sum(count for count, _ in said)
            lines = [line for _, line in sorted(said, key=lambda item: -item[0])]
            yield (
                f"{self.root}: {number} files are of kinds that are not read: {some(lines)}; "
                "convert what is an image to .jpg or .png"
            )
        if self._not_followed:
            yield (
                f"{self.root}: {len(self._not_followed)} links are passed over: "
                f"{some(self._not_followed)}; what several links lead to counts once"
            )
        if self._unreadable:
            yield f"{self.root}: folders that cannot be read: {some(self._unreadable)}"

    def _folder(self, path: str, name: str) -> None:
        try:
            status = Path(path).stat()
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            self._unreadable.append(f"{name} ({error.strerror})")
            return
        identity = (status.st_dev, status.st_ino)
        if identity in self._without:
            return
        if identity in self._outer or identity in self._owner:
            kind = "a circle" if identity in self._outer else f"also {self._owner[identity] or '.'}"
            self._not_followed.append(f"{name} ({kind})")
            return
        self._owner[identity] = name
        if name:
            self._folders.append(name)
        prefix = f"{name}/" if name else ""
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                self._links.append((prefix + entry.name, entry.path))
            elif not entry.is_dir(follow_symlinks=False):
                if self._file(entry.path, prefix, entry.name):
                    self._owner[status.st_dev, entry.inode()] = prefix + entry.name
            elif entry.name not in _SYSTEM_FOLDERS:
                self._folder(entry.path, prefix + entry.name)

    def _file(self, path: str, prefix: str, file: str) -> bool:
        """Take a file, if it is an image."""
        stem, dot, suffix = file.rpartition(".")
        suffix = dot + suffix.lower()
        if not dot or suffix not in self._suffixes:
            if dot or not file.isupper():  # README, LICENSE
                self.passed[prefix[:-1], suffix if dot else "without suffix"] += 1
            return False
        name = prefix + stem
        if name in self.files:
            raise ValueError(
                f"{self.files[name]} and {path} have the same name; rename or remove one, since "
                "masks and results are named after images without suffix"
            )
        self.files[name] = path
        if prefix[:-1] not in self._filled:
            parts = prefix[:-1].split("/")
            self._filled.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return True

    def _linked_file(self, path: str, name: str) -> None:
        try:
            identity = _identity(path)
        except OSError:
            self._not_followed.append(f"{name} (leads nowhere)")
            return
        folder, _, file = name.rpartition("/")
        if identity in self._owner:
            self._not_followed.append(f"{name} (also {self._owner[identity]})")
        elif self._file(path, f"{folder}/" if folder else "", file):
            self._owner[identity] = name


def _siblings(folder: Path) -> list[str]:
    try:
        return sorted(item.name for item in folder.parent.iterdir() if item.is_dir())
    except OSError:
        return []


def _identity(path: str | Path) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def _held(passed: Iterable[tuple[tuple[str, str], int]]) -> str:
    """Such as ", only 3 .heic and 1 .txt", or that there is nothing."""
    counts = Counter[str]()
    for (_, suffix), count in passed:
        counts[suffix] += count
    return f" (only {some([f'{n} {suffix}' for suffix, n in counts.most_common()])})" * bool(counts)
