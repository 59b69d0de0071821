"""Python, what is installed into it, and whether that goes together."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wsss.doctor.check import Check, fault, ok, warning
from wsss.doctor.versions import Requirement, fits, parse_requirement

__all__ = [
    "check_extras",
    "check_native",
    "check_packages",
    "check_python",
    "check_source",
    "check_torchvision",
]

WITHOUT = frozenset({"dvc", "mlflow", "optuna"})
"""Packages without which the stages run all the same; with what is lost, see `check_packages`."""

BITES = {
    ("torch", "2.13.0"): "no torchvision that can be installed loads on it",
}
"""Versions that are refused, and why."""


def check_python(version: str, bounds: str) -> Check:
    """Whether wsss is made for this Python.

    Example:
        >>> check_python("3.10.2", ">=3.11,<3.14").level
        'fault'
    """
    if fits(version, bounds):
        return ok("python", f"{version} (wsss wants {bounds or 'any'})")
    lowest = re.search(r">=\s*([\d.]+)", bounds)
    wanted = lowest[1] if lowest else "another one"
    return fault(
        "python",
        f"{version} is none that wsss is made for ({bounds})",
        f"install Python {wanted}, and make a new environment with it: "
        f"python{wanted} -m venv .venv",
    )


def check_source(root: Path, package: Path) -> Check:
    """Whether the code that runs is that of the checkout, whose hashes DVC takes.

    Args:
        root: the project.
        package: the folder of the package `wsss` that Python imports.
    """
    own = root / "src/wsss"
    if not own.is_dir() or own.resolve() == package.resolve():
        return ok("wsss", f"runs from {package}")
    if _sources(own) == _sources(package):
        return ok("wsss", f"runs from {package}, which is the same code as this checkout's")
    return fault(
        "wsss",
        f"runs from {package}, and not from this checkout: DVC hashes src/wsss, but other code "
        "makes the results",
        "pip install -e '.[pipeline]'",
    )


def _sources(package: Path) -> dict[Path, bytes]:
    """The files of a package, and those behind its compiled module, by their names."""
    places = (package.parents[1] / "csrc", package / "csrc")  # of a checkout, and of a wheel
    native = next(filter(Path.is_dir, places), package / "csrc")
    files = [(package, file) for file in package.rglob("*.py")]
    files += [(native.parent, file) for file in native.rglob("*") if file.is_file()]
    return {file.relative_to(folder): file.read_bytes() for folder, file in files}


def check_native(load: Callable[[], object], has_compiler: bool) -> Check:
    """Whether the compiled module loads.

    Args:
        load: imports it.
        has_compiler: whether it can be compiled here.
    """
    try:
        load()
    except ImportError as error:
        first = str(error).partition("\n")[0]
        if (error.name or "") == "numpy":
            return fault(
                "compiled module", f"NumPy is missing: {first}", "pip install 'numpy>=2.2'"
            )
        again = "pip install --force-reinstall --no-deps wsss, or in a checkout: pip install -e ."
        before = "" if has_compiler else "install a C++ compiler (apt-get install g++), and then "
        return fault("compiled module", f"it does not load: {first}", before + again)
    return ok("compiled module", "wsss.densecrf loads")


def check_packages(
    extra: str, wanted: Sequence[Requirement], installed: Mapping[str, str], *, needed: bool
) -> list[Check]:
    """Whether the packages of an extra are installed, in versions that it admits.

    Args:
        extra: its name; "" are the packages that wsss always needs.
        wanted: by it.
        installed: version by normal name.
        needed: whether anything here needs the extra; without it what is missing is a warning.

    Example:
        >>> torch = Requirement("torch", ">=2.11,!=2.13.0,<3", "torch>=2.11,!=2.13.0,<3")
        >>> [found] = check_packages("pipeline", [torch], {"torch": "2.13.0+cpu"}, needed=True)
        >>> print(found.level, found.line())
        fault torch: 2.13.0+cpu is outside of >=2.11,!=2.13.0,<3: no torchvision that can be \
installed loads on it; pip install 'torch>=2.11,!=2.13.0,<3'
    """
    about = f"packages of {extra}" if extra else "packages"
    missing = [item for item in wanted if item.name not in installed]
    found = []
    must = [item for item in missing if item.name not in WITHOUT]
    if must:
        say = fault if needed else warning
        names = ", ".join(item.name for item in must)
        whole = f"'wsss[{extra}]'" if extra else "wsss"
        checkout = f", or in a checkout: pip install -e '.[{extra}]'" if extra else ""
        found.append(
            say(about, f"{names} {_is(must)} not installed", f"pip install {whole}{checkout}")
        )
    lost = {"dvc": "`dvc repro`", "mlflow": "runs to look at", "optuna": "`wsss tune`"}
    found += [
        warning(item.name, f"not installed, so there is no {lost[item.name]}", _install(item))
        for item in missing
        if item.name in WITHOUT
    ]
    for item in wanted:
        version = installed.get(item.name)
        if version is None or fits(version, item.bounds):
            continue
        number = version.partition("+")[0]
        reason = BITES.get((item.name, number), "")
        say = fault if reason else warning
        text = f"{version} is outside of {item.bounds}" + (f": {reason}" if reason else "")
        found.append(say(item.name, text, _install(item)))
    if not found:
        found.append(ok(about, f"all {len(wanted)} are installed, in versions that fit"))
    return found


def _is(items: Sequence[object]) -> str:
    return "are" if len(items) > 1 else "is"


def _install(item: Requirement) -> str:
    return f"pip install '{item.text}'"


def check_torchvision(
    torch: str | None, torchvision: str | None, requires: Sequence[str]
) -> Check | None:
    """Whether torch and torchvision go together; None where one of them is missing.

    Args:
        torch: its version.
        torchvision: its version.
        requires: what torchvision says that it needs.

    Example:
        >>> check_torchvision("2.11.0", "0.28.0", ["numpy", "torch (==2.13.1)"]).fix
        "pip install 'torch==2.13.1'"
    """
    if torch is None or torchvision is None:
        return None
    for item in filter(None, map(parse_requirement, requires)):
        if item.name == "torch" and not fits(torch, item.bounds):
            return fault(
                "torchvision",
                f"{torchvision} is made for torch {item.bounds}, and {torch} is installed: its "
                "operators do not load",
                f"pip install 'torch{item.bounds}'",
            )
    return ok("torchvision", f"{torchvision} goes with torch {torch}")


def check_extras(
    wanted: Mapping[str, str],
    requirements: Mapping[str, Sequence[Requirement]],
    installed: Mapping[str, str],
) -> list[Check]:
    """Whether the extras are installed that something here names.

    Args:
        wanted: what names each extra, such as a setting with its value.
        requirements: packages by extra.
        installed: version by normal name.
    """
    found = []
    for extra, named_by in sorted(wanted.items()):
        items = requirements.get(extra, ())
        missing = [item for item in items if item.name not in installed]
        if missing:
            names = ", ".join(item.name for item in missing)
            commands = " ".join(f"'{item.text}'" for item in missing)
            found.append(
                fault(
                    f"extra {extra}",
                    f"{named_by} needs {names}, which {_is(missing)} not installed",
                    f"pip install {commands}",
                )
            )
        else:
            found.append(ok(f"extra {extra}", f"is installed, as {named_by} needs it"))
    return found
