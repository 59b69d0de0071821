"""The images, and frames of videos, that a person names: files, folders, patterns, lists."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsss.artifacts import files_below
from wsss.data.listing import image_suffixes, list_images, similar_folder, some

__all__ = ["VIDEO_SUFFIXES", "Source", "Sources", "find_sources"]

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)


@dataclass(frozen=True, slots=True)
class Source:
    """A file to predict.

    Attributes:
        name: of what is made of it, without a suffix; may hold '/'. Frames of a video are below it.
        path: the file.
    """

    name: str
    path: Path

    @property
    def is_video(self) -> bool:
        """Whether it has frames."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Sources:
    """All files to predict.

    Attributes:
        found: each once, under a name of its own, sorted by it.
        missing: what a list names that is not there, each with the reason.
        folder: the deepest one that all of them are below.
        warnings: what a person must know, such as files that were passed over.
    """

    found: tuple[Source, ...]
    missing: tuple[tuple[str, str], ...] = ()
    folder: Path = Path()
    warnings: list[str] = field(default_factory=list)


def find_sources(
    arguments: Sequence[str], lines: Iterable[str] = (), without: Path | None = None
) -> Sources:
    """Find what a person names.

    A name is a file's path without suffix: below the folder that was named, or of a file that was
    named itself its last part. Where two would have the same, all are named by their paths below
    the folder that they have in common.

    Args:
        arguments: image files, videos, folders that are searched with all below them, or patterns
            such as "photos/**/*.jpg"; "-" stands for `lines`.
        lines: a path each, of which some may be missing.
        without: a folder that is passed over where others are searched, such as that of masks.

    Raises:
        ValueError: there is no such file or folder, none of the files is an image, or two files
            differ in their suffix alone.
    """
    short: dict[str, Source] = {}  # by the file that it leads to
    missing: list[tuple[str, str]] = []
    warnings: list[str] = []
    for argument in arguments:
        if argument == "-":
            for line in lines:
                text = line.rstrip("\r\n")
                if text.strip() and not Path(text).exists():
                    missing.append((text, "there is no such file"))
                elif text.strip():
                    _take(_at(Path(text), without, warnings), short)
            continue
        path = Path(argument).expanduser()
        if path.exists():
            _take(_at(path, without, warnings), short)
        elif matches := _matches(path, without):
            for match in matches:
                _take(_at(match, without, warnings, lone=False), short)
        else:
            raise _no_such(path, argument)
    if not short:
        if missing:
            raise ValueError(
                f"none of the {len(missing)} files of the list is there, such as {missing[0][0]}; "
                "paths are those of the current folder, or absolute"
            )
        raise ValueError(
            f"there is no image in {' '.join(arguments)}; name files, folders, or patterns such as "
            "'photos/**/*.jpg'"
        )
    folder = Path(os.path.commonpath([_absolute(source.path).parent for source in short.values()]))
    found = _named_apart(list(short.values()), folder)
    return Sources(tuple(sorted(found, key=_by_name)), tuple(missing), folder, warnings)


def _at(
    path: Path, without: Path | None, warnings: list[str], *, lone: bool = True
) -> list[Source]:
    """What a path leads to; of a pattern files of other kinds are passed over."""
    if not path.is_dir():
        known = path.suffix.lower() in image_suffixes() | VIDEO_SUFFIXES
        return [Source(path.stem, path)] if known or lone else []
    if without is not None and _below(path, without):
        raise ValueError(
            f"{path} is searched for images, and masks would lie among them in {without}, where "
            "the next search takes them for images; name another folder with --out"
        )
    try:
        listing = list_images(path, "the folder", [] if without is None else [without])
    except ValueError as error:
        videos = next(iter(files_below(path, *VIDEO_SUFFIXES)), None)
        if videos is None:
            raise
        raise ValueError(
            f"{error}. Videos are named themselves, such as '{path}/**/*{videos.suffix}'"
        ) from None
    warnings += listing.warnings
    return [Source(name, file) for name, file in listing.files.items()]


def _matches(path: Path, without: Path | None) -> list[Path]:
    """What a pattern leads to, but for a folder that it does not name; nothing of another path."""
    if not glob.has_magic(str(path)):
        return []
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207 - absolute, too
    named = next(item for item in path.parents if not glob.has_magic(str(item)))
    if without is None or _below(named, without):
        return found
    return [item for item in found if not _below(item, without)]


def _no_such(path: Path, argument: str) -> ValueError:
    if glob.has_magic(argument):
        return ValueError(f"nothing fits the pattern '{argument}'; look where it leads")
    if not path.suffix:
        similar = similar_folder(path)
        hint = f"did you mean {similar}?" if similar else "name files, folders or patterns"
        return ValueError(f"there is no folder {argument}; {hint}")
    siblings = path.parent.is_dir() and sorted(item.name for item in path.parent.iterdir())
    there = f"{path.parent} has {some(siblings, 3)}" if siblings else f"{path.parent} is empty"
    return ValueError(f"there is no file {argument}; {there}")


def _take(sources: Iterable[Source], short: dict[str, Source]) -> None:
    for source in sources:
        short.setdefault(str(source.path.resolve()), source)


def _named_apart(sources: list[Source], folder: Path) -> list[Source]:
    counts = Counter(source.name for source in sources)
    if max(counts.values()) == 1:
        return sources
    named = [
        replace(source, name=_absolute(source.path).relative_to(folder).with_suffix("").as_posix())
        for source in sources
    ]
    first: dict[str, Source] = {}
    for source in named:
        other = first.setdefault(source.name, source)
        if other is not source:
            raise ValueError(
                f"{other.path} and {source.path} differ in their suffix alone, and so would have "
                "the same mask; rename one, or leave it out"
            )
    return named


def _below(path: Path, folder: Path) -> bool:
    return _absolute(path).is_relative_to(_absolute(folder))


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _by_name(source: Source) -> str:
    return source.name
