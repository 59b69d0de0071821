"""The project in a folder: git, DVC, its settings, and where its stages run."""

import configparser
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss.doctor.check import Check, fault, ok, warning

__all__ = [
    "DvcConfig",
    "check_cache",
    "check_code_lock",
    "check_dvc",
    "check_dvc_yaml",
    "check_git",
    "check_remote",
    "check_settings",
    "check_slurm",
    "read_dvc_config",
    "wanted_extras",
]

EXTRAS = {
    "clip_es": "clip",
    "sam2": "sam",
    "sam3": "sam",
    "text_seeds": "clip",
}
"""The extra that a method or a source of masks needs, by its name in params.yaml."""

NAMED = 6  # packages and modules whose code is another
_VIDEOS = (".avi", ".mkv", ".mov", ".mp4")


def check_git(version: str | None, *, repository: bool, project: bool, without: bool) -> Check:
    """Whether git is there, and the project is in a repository, as DVC wants it.

    Args:
        version: of the program; None where there is none.
        repository: whether the folder is in one.
        project: whether the folder is a project.
        without: whether DVC is told to do without (core.no_scm).
    """
    if not project:
        if version is None:
            return warning("git", "there is none", "apt-get install git")
        return ok("git", version)
    if without:
        return ok("git", "DVC is told to do without (core.no_scm)")
    if version is None:
        return warning(
            "git",
            "there is none, and DVC keeps its history in it",
            "apt-get install git, or: dvc config core.no_scm true",
        )
    if not repository:
        return warning("git", f"{version}, but this project is in no repository", "git init")
    return ok("git", f"{version}, and this is a repository")


@dataclass(frozen=True)
class DvcConfig:
    """What DVC's files of settings say.

    Attributes:
        remotes: URL by name.
        default: the name of the remote that is taken; "" of none.
        cache: the folder of the cache.
        link_types: how results are linked to it, in the order in which they are tried.
        no_scm: whether DVC does without git.
    """

    cache: Path
    remotes: Mapping[str, str] = field(default_factory=dict)
    default: str = ""
    link_types: tuple[str, ...] = ("reflink", "copy")
    no_scm: bool = False


def read_dvc_config(root: Path, environ: Mapping[str, str]) -> DvcConfig:
    """Read DVC's settings without DVC: the user's, the project's, and those of this machine.

    A cache folder that is not absolute lies below .dvc, as DVC has it.
    """
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~"), ".config"))
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    for file in (home / "dvc/config", root / ".dvc/config", root / ".dvc/config.local"):
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue  # DVC itself says what is wrong with it
    remotes = {
        section.strip("'")[7:].strip().strip('"'): values.get("url", "")
        for section, values in parser.items()
        if section.strip("'").startswith('remote "')
    }
    cache = parser.get("cache", "dir", fallback="")
    types = parser.get("cache", "type", fallback="reflink,copy")
    return DvcConfig(
        root / ".dvc" / cache if cache else root / ".dvc/cache",
        remotes,
        parser.get("core", "remote", fallback=""),
        tuple(part.strip() for part in types.replace('"', "").split(",") if part.strip()),
        parser.get("core", "no_scm", fallback="").lower() == "true",
    )


def check_dvc(version: str | None, *, initialised: bool, options: Sequence[str]) -> Check:
    """Whether DVC is installed, and the project is one of DVC.

    Args:
        version: of the installed package; None where there is none.
        initialised: whether the project has a folder .dvc.
        options: of the `dvc init` that makes it one.
    """
    if version is None:
        return warning(
            "dvc", "not installed; `wsss run` runs the stages without it", "pip install 'dvc>=3.60'"
        )
    if not initialised:
        command = " ".join(("dvc init", *options))
        return warning("dvc", f"{version}, but this project has no .dvc", command)
    return ok("dvc", version)


def check_remote(config: DvcConfig) -> Check:
    """Whether results have a second place.

    Example:
        >>> check_remote(DvcConfig(Path("cache"), {"far": "s3://bucket"}, "near")).fix
        'dvc remote default far'
    """
    if not config.remotes:
        return ok(
            "dvc remote", "none: results are on this machine alone (`dvc remote add -d NAME URL`)"
        )
    name = config.default
    if name not in config.remotes:
        first = min(config.remotes)
        text = f"'{name}' is the default, and is none of" if name else "none is the default of"
        listed = ", ".join(sorted(config.remotes))
        return warning("dvc remote", f"{text} {listed}", f"dvc remote default {first}")
    url = without_login(config.remotes[name])
    if "://" not in url and not Path(url).is_absolute():
        url = f"{url} (below .dvc)"
    return ok("dvc remote", f"{name}: {url}")


def without_login(url: str) -> str:
    """A URL as it may be shown.

    Example:
        >>> without_login("https://me:secret@host/path")
        'https://host/path'
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def check_cache(config: DvcConfig, *, same_disk: bool) -> Check:
    """Whether results lie on the disk once, or a second time in DVC's cache.

    Args:
        config: of DVC.
        same_disk: whether the cache is on the disk of the project.
    """
    types = ",".join(config.link_types)
    if same_disk:
        if {"hardlink", "symlink"} & set(config.link_types):
            return ok("dvc cache", f"linked by {types}, on the disk of the project")
        return warning(
            "dvc cache",
            f"linked by {types}: unless this file system knows reflinks, every result lies on the "
            "disk twice",
            "dvc config cache.type reflink,hardlink,copy",
        )
    if "symlink" in config.link_types:
        return ok("dvc cache", f"linked by {types}, on another disk than the project")
    return warning(
        "dvc cache",
        f"linked by {types}, on another disk than the project: every result is copied",
        "dvc config cache.type reflink,symlink,copy",
    )


def check_settings(load: Callable[[], Any]) -> tuple[Check, Any]:
    """Whether params.yaml is valid; and what it says, None where that is not to be had.

    Args:
        load: reads it.
    """
    try:
        return ok("params.yaml", "valid"), load()
    except ModuleNotFoundError as error:
        return warning(
            "params.yaml",
            f"cannot be read without {error.name}",
            "pip install 'wsss[pipeline]', or in a checkout: pip install -e '.[pipeline]'",
        ), None
    except ValueError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        text = lines[0].removeprefix("params.yaml: ") if lines else "not valid"
        return fault("params.yaml", f"{text}{more}", "change that line of params.yaml"), None


def check_dvc_yaml(text: str | None, wanted: Callable[[], str], mend: str = "wsss dvc") -> Check:
    """Whether dvc.yaml is what the stages declare.

    Args:
        text: of the file; None where there is none.
        wanted: gives the text that it should have.
        mend: the command that writes it.
    """
    if text is None:
        return warning(
            "dvc.yaml", "there is none, so that `dvc repro` has nothing to do", "wsss dvc"
        )
    try:
        same = text == wanted()
    except ModuleNotFoundError as error:
        return _cannot_be_compared("dvc.yaml", error)
    if same:
        return ok("dvc.yaml", "as the stages declare it")
    return fault(
        "dvc.yaml",
        "is not what the stages declare, so that `dvc repro` may leave out what has to run again",
        mend,
    )


def check_code_lock(differing: Callable[[], Sequence[str]] | None) -> Check:
    """Whether the installed code is that of wsss.lock, without which stages do not run.

    Args:
        differing: gives the packages and modules whose code is another; None where there is no such
            file.
    """
    mend = "wsss doctor upgrade --write"
    if differing is None:
        return fault(
            "wsss.lock", "there is none, so that nobody knows which code results come from", mend
        )
    try:
        parts = differing()
    except ModuleNotFoundError as error:
        return _cannot_be_compared("wsss.lock", error)
    except ValueError:
        return fault("wsss.lock", "is not as wsss writes it, so that stages refuse to run", mend)
    if not parts:
        return ok("wsss.lock", "is of the installed code")
    more = len(parts) - NAMED
    listed = ", ".join(parts[:NAMED]) + (f" and {more} more" if more > 0 else "")
    return fault(
        "wsss.lock",
        f"the installed code of {listed} is another, so that stages which use it refuse to run",
        mend,
    )


def _cannot_be_compared(file: str, error: ModuleNotFoundError) -> Check:
    return warning(
        file,
        f"cannot be compared without {error.name}",
        "pip install 'wsss[pipeline]', or in a checkout: pip install -e '.[pipeline]'",
    )


def check_slurm(engines: Sequence[str], programs: Iterable[str], *, has_site: bool) -> Check | None:
    """Whether jobs can be queued here; None where nothing has to do with a cluster.

    Args:
        engines: of the stages, as config.local.yaml has them.
        programs: of Slurm's, those that are on the path.
        has_site: whether there is config.local.yaml.
    """
    there = "sbatch" in set(programs)
    if "slurm" in engines:
        if there:
            return ok("slurm", "jobs can be queued here; `wsss cluster check` tries it")
        return fault(
            "slurm",
            "config.local.yaml says engine: slurm, and there is no sbatch on the path",
            "run this on a login node of the cluster, or set engine: local in config.local.yaml",
        )
    if there and not has_site:
        return ok("slurm", "sbatch is here; `wsss cluster init` lets stages run as jobs")
    return None


def wanted_extras(
    settings: Any,
    engines: Sequence[str] = (),
    remotes: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What names each extra of this project, by extra.

    Args:
        settings: params.yaml as plain values.
        engines: of the stages.
        remotes: URLs.
        environ: the environment.

    Example:
        >>> wanted_extras({"generate_cams": {"method": {"name": "clip_es"}}})
        {'clip': 'generate_cams.method (clip_es)'}
    """
    found: dict[str, str] = {}
    for key, named in _named(settings):
        extra = EXTRAS.get(named["name"], "")
        if named["name"] == "rise" and _has_videos(named):
            extra = "video"
        if extra:
            found.setdefault(extra, f"{key} ({named['name']})")
    if "slurm" in engines:
        found["slurm"] = "engine: slurm of config.local.yaml"
    for url in remotes:
        if url.startswith("s3://"):
            found["s3"] = f"the DVC remote {without_login(url)}"
    for name in ("MLFLOW_TRACKING_URI", "WSSS_TUNE_STORAGE"):
        url = (environ or {}).get(name, "")
        if url.startswith("postgresql"):
            found["postgres"] = f"{name} ({without_login(url)})"
    return found


def _named(tree: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Everything in plain settings that has a name, by dotted key."""
    if isinstance(tree, Mapping):
        if isinstance(tree.get("name"), str):
            yield key, tree
        for name, value in tree.items():
            yield from _named(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list | tuple):
        for at, value in enumerate(tree):
            yield from _named(value, f"{key}.{at}")


def _has_videos(dataset: Mapping[str, Any]) -> bool:
    folder = Path(os.path.expandvars(str(dataset.get("root", "")))).expanduser()
    folder = folder / str(dataset.get("clips", ""))
    if not folder.is_dir():
        return False
    return any(file.suffix.lower() in _VIDEOS for file in folder.iterdir())
