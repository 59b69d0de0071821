"""Methods from outside this package: which distributions bring some, and the code behind them.

A distribution names its modules as entry points of the group `wsss.methods`. Each registers what it
brings when it is imported (`wsss.registry`); the names of the entry points have no meaning.

The pipeline asks at the start of each `dvc repro` what the code holds. So nothing here imports more
than Python's own modules, and none of those distributions.
"""

import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

__all__ = [
    "GROUP",
    "Outside",
    "code_of",
    "is_half_read",
    "is_ours",
    "note_trouble",
    "outside_code",
    "outside_modules",
    "troubles",
]

GROUP = "wsss.methods"
"""The group of entry points."""

_SUFFIXES = {".py", ".pyd", ".so"}
_TROUBLES: dict[str, str] = {}


@dataclass(frozen=True, order=True)
class Outside:
    """A module that registers methods.

    Attributes:
        distribution: its name and version.
        module: dotted, as it is imported.
    """

    distribution: str
    module: str


@cache
def outside_modules() -> tuple[Outside, ...]:
    """What is installed in this environment, sorted."""
    found = set()
    for entry in entry_points(group=GROUP):
        known = entry.dist
        label = f"{known.name} {known.version}" if known else "a distribution without a name"
        found.add(Outside(label, entry.module))
    return tuple(sorted(found))


def code_of(module: str) -> list[Path]:
    """The files of the code that a module belongs to, Python and compiled.

    That is its outermost package as a whole, as it may import what lies beside it, or the module
    alone where it is in none. A package without an __init__.py, which several distributions share,
    is passed over for the one below. Nothing of what no file holds, such as a notebook's own.

    Example:
        >>> [file.name for file in code_of("this")]
        ['this.py']
    """
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        try:
            spec = importlib.util.find_spec(".".join(parts[:end]))
        except (ImportError, ValueError):  # ValueError of what is no module of a file
            return []
        if spec is None:
            return []
        if spec.has_location:
            folders = spec.submodule_search_locations
            if folders is None:
                return [Path(str(spec.origin))]
            files = (file for folder in folders for file in Path(folder).rglob("*"))
            return sorted(file for file in files if file.suffix in _SUFFIXES)
    return []


def outside_code(name: str) -> list[Path]:
    """The code that may be behind the name of a method, as far as can be told without importing it.

    It is that of the distributions in whose Python code the name stands in quotes: one file more
    makes a stage run again, and one less would leave a result that nobody can make any more.
    """
    return [file for each in _modules() if name in _quoted(each) for file in code_of(each)]


def is_ours(kind: type) -> bool:
    """Whether a class is of this package."""
    return kind.__module__.partition(".")[0] == "wsss"


def is_half_read(module: str) -> bool:
    """Whether a module is being imported right now."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def note_trouble(outside: Outside, reason: str) -> str:
    """Keep in mind that the methods of a module are missing, and why.

    Returns:
        A sentence that says so.
    """
    _TROUBLES[outside.module] = (
        f"the methods of {outside.distribution} are missing, as its module {outside.module} cannot "
        f"be used: {reason}; mend it, or uninstall it"
    )
    return _TROUBLES[outside.module]


def troubles() -> str:
    """What is to be added where a name is not known: distributions that may have it, and cannot.

    Empty where all is well.
    """
    return "".join(f" ({text})" for text in _TROUBLES.values())


def _modules() -> list[str]:
    """One module of each outermost package."""
    return list({each.module.partition(".")[0]: each.module for each in outside_modules()}.values())


@cache
def _quoted(module: str) -> frozenset[str]:
    """The words that stand in quotes in its code; read once, however many names are asked for."""
    texts = (_text(file) for file in code_of(module) if file.suffix == ".py")
    return frozenset(word for text in texts for word in re.findall(r"[\"'](\w+)[\"']", text))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
