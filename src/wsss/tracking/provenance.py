"""What made a run: the stage's settings, the code's revision, the hashes of its inputs."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from wsss.artifacts import fingerprint, source_fingerprint

if TYPE_CHECKING:
    from wsss.config.params import Params

__all__ = ["RunStart", "flatten", "run_start", "stage_settings", "upstream_hashes"]

# written by the pipeline itself, so they say nothing about the code and settings of a run
_WRITTEN = (":(top,exclude)dvc.lock", ":(top,exclude)reports")


@dataclass(frozen=True)
class RunStart:
    """All that has to be known to start a run, as plain values."""

    stage: str
    uri: str
    """Where MLflow is."""
    experiment: str
    settings: dict[str, str]
    """The stage's settings, named as in params.yaml."""
    params_sha: str
    key: str
    """A hash of settings, inputs, code and tags: an interrupted run resumes if it is the same."""
    tags: dict[str, str]
    record: str
    """The file that remembers the run's id."""


def run_start(
    stage: str,
    params: "Params",
    root: Path,
    upstream: tuple[str, ...],
    tags: Mapping[str, str],
    uri: str,
) -> RunStart:
    """Gather what `open_tracker` records; its arguments are explained there."""
    tree = stage_settings(stage, params)
    hashes = upstream_hashes(root, upstream)
    params_sha = fingerprint(tree)
    every_tag = {
        **_origin(stage, params, root),
        **{f"upstream.{path}": value for path, value in hashes.items()},
        "params.sha": params_sha,
        **tags,
    }
    return RunStart(
        stage=stage,
        uri=uri,
        experiment=params.machine.experiment,
        settings=dict(flatten(tree)),
        params_sha=params_sha,
        key=fingerprint(tree, hashes, dict(tags), source_fingerprint()),
        tags=every_tag,
        record=str((root / "reports" / f"{stage.replace('@', '_')}.run.json").absolute()),
    )


def stage_settings(stage: str, params: "Params") -> dict[str, Any]:
    """The settings a stage reads, as a tree of plain values: its own section and the rng_seed.

    Of the chains of refine, "refine_cams@crf" reads only its own.
    """
    name, _, entry = stage.partition("@")
    known = [section for section in type(params).model_fields if name.startswith(section)]
    tree: dict[str, Any] = {"base": {"rng_seed": params.base.rng_seed}}
    for section in known[:1]:
        tree[section] = params.model_dump(mode="json", include={section})[section]
    if "refine" in known and entry:
        tree["refine"]["chains"] = {entry: tree["refine"]["chains"].get(entry)}
    return tree


def flatten(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Name every value of a tree as params.yaml does, with lists of plain values kept whole.

    Example:
        >>> dict(flatten({"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}]}))
        {'a.b': '1', 'a.c': '[1, 2]', 'd.0.e': 'null'}
    """
    if isinstance(tree, list) and any(isinstance(item, dict | list) for item in tree):
        tree = {str(index): item for index, item in enumerate(tree)}
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{path}.{key}" if path else key)
    elif isinstance(tree, str) and tree:
        yield path, tree
    else:
        yield path, json.dumps(tree)


def upstream_hashes(root: Path, upstream: tuple[str, ...]) -> dict[str, str]:
    """The hash dvc.lock holds for each path; a path inside an out has that out's hash.

    Paths that dvc.lock does not know are left out.
    """
    try:
        stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    except (OSError, TypeError, KeyError, yaml.YAMLError):
        return {}
    known: dict[str, str] = {}
    for kind in (
        "deps",
        "outs",
    ):  # what made a file knows its hash better than what read it
        for stage in stages.values():
            for item in stage.get(kind, []):
                if value := item.get(item.get("hash", "md5")):
                    known[item["path"]] = value
    found = {}
    for path in upstream:
        ancestors = [path, *(parent.as_posix() for parent in Path(path).parents)]
        held = next((known[one] for one in ancestors if one in known), None)
        if held:
            found[path] = held
    return found


def _origin(stage: str, params: "Params", root: Path) -> dict[str, str]:
    """Where a run comes from; what can not be known is left out."""
    tags = {
        "stage": stage,
        "recipe": params.base.recipe,
        "dvc.exp": os.environ.get("DVC_EXP_NAME", ""),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "wsss": _version("wsss"),
        "mlflow.source.name": stage,
        "mlflow.source.type": "LOCAL",
        **_git(root),
    }
    return {key: value for key, value in tags.items() if value}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _git(root: Path) -> Mapping[str, str]:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        revision = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", *_WRITTEN)
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, no commit
        return {}
    dirty = "true" if changed else "false"
    return {
        "git.rev": revision,
        "git.dirty": dirty,
        "mlflow.source.git.commit": revision,
    }
