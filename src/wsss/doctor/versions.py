"""Versions and the bounds that requirements set, read with Python's own modules alone.

An installation that is to be looked at may lack the package that usually reads them.
"""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Requirement",
    "fits",
    "installed_versions",
    "parse_requirement",
    "read_requirements",
    "release",
]

Release = tuple[int, ...]


@dataclass(frozen=True)
class Requirement:
    """What is needed of a package.

    Attributes:
        name: in lower case, with hyphens.
        bounds: such as ">=2.11,!=2.13.0,<3"; "" takes any version.
        text: as it stands in the list of requirements, without markers.
    """

    name: str
    bounds: str
    text: str


def release(version: str) -> Release:
    """The numbers of a version, without what stands behind them.

    Example:
        >>> release("2.15.0+cu132"), release("3.0rc1")
        ((2, 15, 0), (3, 0))
    """
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def fits(version: str, bounds: str) -> bool:
    """Whether a version lies within bounds.

    Example:
        >>> fits("2.13.0+cpu", ">=2.11,!=2.13.0,<3"), fits("2.15", ">=2.11,!=2.13.0,<3")
        (False, True)
        >>> fits("5.3.2", "!=5.3.*"), fits("1.4.2", "~=1.4")
        (False, True)
    """
    return all(_fits_one(release(version), bound.strip()) for bound in bounds.split(",") if bound)


def _fits_one(version: Release, bound: str) -> bool:
    found = re.fullmatch(r"(===|~=|[<>!=]=|[<>])\s*(\S+)", bound)
    if not found:
        return True  # a way of writing that no list of this project has
    sign, text = found.groups()
    wanted = release(text)
    if text.endswith(".*"):
        same = version[: len(wanted)] == wanted
        return same if sign == "==" else not same
    if sign == "~=":
        return version[: len(wanted) - 1] == wanted[:-1] and version >= wanted
    width = max(len(version), len(wanted))
    own, other = (part + (0,) * (width - len(part)) for part in (version, wanted))
    return {
        "==": own == other,
        "===": own == other,
        "!=": own != other,
        ">=": own >= other,
        "<=": own <= other,
        ">": own > other,
        "<": own < other,
    }[sign]


def parse_requirement(text: str) -> Requirement | None:
    """Read one line of a list of requirements; None where it is for another Python.

    Example:
        >>> parse_requirement("psycopg[binary]>=3.2,<4")
        Requirement(name='psycopg', bounds='>=3.2,<4', text='psycopg[binary]>=3.2,<4')
        >>> parse_requirement("torch (>=2.14.0)").bounds
        '>=2.14.0'
        >>> parse_requirement("old; python_version < '3'") is None
        True
    """
    body, _, marker = text.partition(";")
    python = re.search(r"python_version\s*([<>=!]=?)\s*['\"]([\d.]+)['\"]", marker)
    if python and not fits(f"{sys.version_info[0]}.{sys.version_info[1]}", python[1] + python[2]):
        return None
    found = re.fullmatch(r"([\w.-]+)(?:\[[^\]]*\])?\s*\(?([^()]*)\)?", body.strip())
    if not found:
        return None
    return Requirement(normal(found[1]), found[2].strip(), body.strip())


def normal(name: str) -> str:
    """A package's name as all its spellings have it.

    Example:
        >>> normal("segmentation_models_pytorch")
        'segmentation-models-pytorch'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def read_requirements(checkout: Path) -> tuple[str, dict[str, tuple[Requirement, ...]]]:
    """What wsss needs: of Python, and of packages by extra; those it always needs are under "".

    Args:
        checkout: a folder whose pyproject.toml is read if it is that of wsss, as the installation
            may be older; otherwise what was installed says it.

    Raises:
        PackageNotFoundError: neither is there.
    """
    file = checkout / "pyproject.toml"
    if file.is_file():
        try:
            project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            project = {}
        if project.get("name") == "wsss":
            lists = {"": project["dependencies"], **project["optional-dependencies"]}
            return project["requires-python"], {
                extra: _parsed(texts) for extra, texts in lists.items()
            }
    found = importlib.metadata.metadata("wsss")
    by_extra: dict[str, list[str]] = {"": []}
    for text in importlib.metadata.requires("wsss") or ():
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", text)
        by_extra.setdefault(extra[1] if extra else "", []).append(text)
    return found["Requires-Python"] or "", {
        extra: _parsed(texts) for extra, texts in by_extra.items()
    }


def _parsed(texts: Iterable[str]) -> tuple[Requirement, ...]:
    return tuple(found for found in map(parse_requirement, texts) if found is not None)


def installed_versions(requirements: Mapping[str, Iterable[Requirement]]) -> dict[str, str]:
    """The versions of those that are installed, by their normal names; none is imported."""
    found = {}
    for name in sorted({item.name for items in requirements.values() for item in items}):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
