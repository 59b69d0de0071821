"""Files and folders outside the project that settings name, and what these hold.

The pipeline asks at the start of each `dvc repro` whether they are as they were: DVC watches the
project alone. So nothing here imports more than Python's own modules and YAML.

The code of methods from outside (`wsss.outside`) counts as such a file.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsss.checks import ConfigError, full_key
from wsss.outside import outside_code

__all__ = [
    "LISTING",
    "SOURCE_KEYS",
    "Held",
    "current_listing",
    "expand_path",
    "find_source",
    "held",
    "named_sources",
    "write_listing",
]

LISTING = "data/sources"
"""Where the listing is, below the project: a file per section of params.yaml."""

NOTE = "reports/sources.run.json"
"""What was read before, below the project: names, sizes and times, and the contents they meant."""

SOURCE_KEYS = frozenset(
    {"background_images", "checkpoint", "corrections", "encoder_weights", "root", "weights"}
)
"""What may name a file or folder on whose contents results depend, or something else, such as
'none'. Under other keys that is any text that begins as an absolute path does."""

_UNSAID = {"prepare_data": {"corrections": "data/corrections"}}
"""What a section of params.yaml names where it does not say so, below the project: people make it,
and no stage."""

_MADE = frozenset({"data", "mlartifacts", "models", "reports"})
_SLOW = 2**30  # bytes that take seconds to read
_RECENT = 2_000_000_000  # nanoseconds
_LARGE = 2**22  # bytes that are read at once


@dataclass(frozen=True)
class Held:
    """What a file or folder holds.

    Attributes:
        files: how many; hidden ones are left out, links are followed.
        bytes: their size.
        contents: a hash of their names below the folder and of all bytes; the same wherever the
            folder lies, and whenever it was copied there.
    """

    files: int
    bytes: int
    contents: str


def expand_path(value: str, key: str) -> Path:
    """Expand ~ and $VARIABLES in a path that a user wrote.

    A relative path is one below the project. In a queued DVC experiment, which runs in a copy,
    it means the same where the copy does not have it.

    Args:
        value: the text, such as "$WSSS_SHARED/data/voc_animals".
        key: the setting, such as "dataset.root", below the section that `wsss.checks.naming` says.

    Raises:
        ConfigError: a variable is not set, or is empty.

    Example:
        >>> expand_path("$NOWHERE/images", "prepare_data.dataset.root")
        Traceback (most recent call last):
        ...
        wsss.checks.ConfigError: prepare_data.dataset.root is '$NOWHERE/images', but the \
environment variable NOWHERE is not set; export NOWHERE=/a/folder, or write the path itself: \
wsss recipe apply <name> --set prepare_data.dataset.root=/a/path
    """

    def lookup(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not os.environ.get(name):
            full = full_key(key)
            raise ConfigError(
                f"{full} is '{value}', but the environment variable {name} is not set; "
                f"export {name}=/a/folder, or write the path itself: "
                f"wsss recipe apply <name> --set {full}=/a/path"
            )
        return os.environ[name]

    path = Path(re.sub(r"\$(?:(\w+)|\{(\w+)\})", lookup, value)).expanduser()
    home = os.environ.get("DVC_ROOT")
    if home and not path.is_absolute() and not path.exists() and (home / path).exists():
        return home / path
    return path


def named_sources(settings: Any, key: str = "") -> dict[str, str]:
    """Find the settings that may name a file or folder, at any depth.

    Args:
        settings: nested mappings and lists of plain values.
        key: the dotted key of these.

    Returns:
        The texts by dotted key; what they name need not exist.

    Example:
        >>> named_sources({"backbone": {"weights": "a.pth"}, "masks": "/m"}, "train")
        {'train.backbone.weights': 'a.pth', 'train.masks': '/m'}
    """
    found: dict[str, str] = {}
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            found |= named_sources(value, f"{key}.{name}" if key else str(name))
    elif isinstance(settings, list | tuple):
        for at, value in enumerate(settings):
            found |= named_sources(value, f"{key}.{at}")
    elif (
        isinstance(settings, str)
        and settings
        and (key.rpartition(".")[2] in SOURCE_KEYS or settings.startswith(("/", "~", "$")))
    ):
        found[key] = settings
    return found


def _method_names(settings: Any, key: str) -> Iterator[tuple[str, str]]:
    """The texts that may name a method, at any depth, with their dotted keys."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _method_names(value, f"{key}.{name}")
    elif isinstance(settings, list):
        for at, value in enumerate(settings):
            yield from _method_names(value, f"{key}.{at}")
    elif isinstance(settings, str) and key.rpartition(".")[2] in ("arch", "name"):
        yield key, settings


def find_source(text: str) -> Path | None:
    """Give what a setting names; None where there is no such file or folder."""
    try:
        path = expand_path(text, "")
        return path if path.exists() else None
    except (ConfigError, RuntimeError, OSError, ValueError):  # a variable, a user, no path at all
        return None


def held(path: Path, root: Path = Path()) -> Held:
    """Say what a file or folder holds; what was read before is not read again.

    Args:
        path: where it is.
        root: the project, whose note is asked. What its stages make is left out.
    """
    if not _read:
        _read.update(_read_json(root / NOTE))
    return _held(path, root)


def write_listing(root: Path = Path()) -> None:
    """Write what each section of params.yaml names, as data/sources/<section>.json.

    A section that names nothing has an empty one. What is not on this machine keeps the entry it
    had, so that results made elsewhere are not made again for want of their source.
    """
    note = _read_json(root / NOTE)
    for section, text in current_listing(root).items():
        _write(root / LISTING / f"{section}.json", text)
    if _read != note:
        _write(root / NOTE, _text(_read))


def current_listing(root: Path) -> dict[str, str]:
    """Give the texts that `write_listing` would write, by section."""
    _read.clear()
    _read.update(_read_json(root / NOTE))
    texts = {}
    for section, settings in _read_params(root / "params.yaml").items():
        old = _read_json(root / LISTING / f"{section}.json")
        listed = {}
        if isinstance(settings, Mapping):
            settings = {**_UNSAID.get(str(section), {}), **settings}
        for key, text in named_sources(settings, str(section)).items():
            path = find_source(text)
            if path is not None:
                listed[key] = {"setting": text, **asdict(_held(path, root))}
            elif old.get(key, {}).get("setting") == text and not _was_removed(text, root):
                listed[key] = old[key]
        for key, text in _method_names(settings, str(section)):
            if files := outside_code(text):
                listed[key] = {"setting": text, **asdict(_held_code(files))}
            elif old.get(key, {}).get("setting") == text:
                listed[key] = old[key]
        texts[str(section)] = _text(listed)
    return texts


def _was_removed(text: str, root: Path) -> bool:
    """Whether something of the project itself is gone, which DVC does not have either."""
    unsaid = {path for of_section in _UNSAID.values() for path in of_section.values()}
    return text in unsaid and not (root / f"{text}.dvc").exists()


def _read_params(file: Path) -> dict[Any, Any]:
    """The plain values of params.yaml; nothing where it is wrong, as stages say how."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), loader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


_read: dict[str, Any] = {}
"""What was read before, by path: names, sizes and times, hashed, and the contents they meant."""


def _held(path: Path, root: Path) -> Held:
    members = sorted(_members(os.fspath(path), os.path.realpath(root)))
    lines = [f"{name}\0{size}\0{changed}\0{inode}\n" for name, size, changed, inode in members]
    stamps, key = hashlib.sha256(os.fsencode("".join(lines))).hexdigest(), str(path.absolute())
    total = sum([size for _, size, _, _ in members])
    known = _read.get(key, {})
    if known.get("stamps") == stamps:
        return Held(len(members), total, str(known["contents"]))
    if total > _SLOW:
        print(f"reading {len(members)} files of {path}", file=sys.stderr, flush=True)
    contents = _contents([(name, path / name) for name, *_ in members])
    newest = max((changed for _, _, changed, _ in members), default=0)
    if time.time_ns() - newest > _RECENT:  # the clock of files is too coarse to tell
        _read[key] = {"stamps": stamps, "contents": contents}
    return Held(len(members), total, contents)


def _held_code(files: Sequence[Path]) -> Held:
    size = sum(file.stat().st_size for file in files)
    return Held(len(files), size, _contents([(file.name, file) for file in files]))


Member = tuple[str, int, int, int]
"""A file: its name below the folder, or "" of a file itself; size, time of change, inode. Plain
numbers in a plain loop, as a source may have 10^5 files and more, looked at before each run."""


def _members(path: str, project: str) -> list[Member]:
    """All files of a folder at any depth, or the file itself, in no order."""
    if not Path(path).is_dir():
        status = Path(path).stat()
        return [("", status.st_size, status.st_mtime_ns, status.st_ino)]
    found: list[Member] = []
    seen = {os.path.realpath(path)}
    waiting = [(path, "")]
    while waiting:
        folder, below = waiting.pop()
        made = _MADE if os.path.realpath(folder) == project else frozenset()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") or (made and name.startswith(("dvc.lock", "mlflow.db"))):
                    continue
                if entry.is_dir():
                    if name not in made and (not entry.is_symlink() or _is_new(entry.path, seen)):
                        waiting.append((entry.path, f"{below}{name}/"))
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:  # a link to nothing
                    continue
                found.append((below + name, status.st_size, status.st_mtime_ns, status.st_ino))
    return found


def _is_new(folder: str, seen: set[str]) -> bool:
    """Whether a linked folder is walked: not one that holds the link, nor a second time."""
    real = os.path.realpath(folder)
    above = os.path.realpath(Path(folder).parent)
    if real in seen or above == real or above.startswith(real.rstrip("/") + "/"):
        return False
    seen.add(real)
    return True


def _contents(files: Sequence[tuple[str, Path]]) -> str:
    """A hash of the names and the bytes of files, given by name and path."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        hashes = pool.map(_hash, (path for _, path in files), chunksize=64)
        for (name, _), found in zip(files, hashes, strict=True):
            digest.update(os.fsencode(f"{name}\0{found}\n"))
    return digest.hexdigest()


def _hash(path: Path) -> str:
    try:
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > _LARGE:
                return hashlib.file_digest(file, "sha256").hexdigest()
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:  # it may not be read, or went away; whoever needs it says so
        return "unreadable"


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


if __name__ == "__main__":
    write_listing()
