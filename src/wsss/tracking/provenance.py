"""What made a run: the stage's settings, the code's revision, the hashes of its inputs."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wsss.artifacts import fingerprint

__all__ = ["RunStart", "flatten", "run_start"]

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
    """Those of the stage and of all that it depends on, named as in params.yaml."""
    params_sha: str
    key: str
    """A hash of settings, inputs, code and tags: an interrupted run resumes if it is the same."""
    tags: dict[str, str]
    record: str
    """The file that remembers the run's id."""


def run_start(
    stage: str,
    root: Path,
    uri: str,
    experiment: str,
    settings: Mapping[str, Any],
    *,
    key: str,
    inputs: Mapping[str, str],
    tags: Mapping[str, str],
) -> RunStart:
    """Gather what `open_tracker` records; its arguments are explained there."""
    params_sha = fingerprint(settings)
    every_tag = {
        **_origin(stage, root),
        **{f"upstream.{path}": value for path, value in inputs.items()},
        "params.sha": params_sha,
        **tags,
    }
    return RunStart(
        stage=stage,
        uri=uri,
        experiment=experiment,
        settings=dict(flatten(settings)),
        params_sha=params_sha,
        key=fingerprint(key, settings, dict(tags)),
        tags=every_tag,
        record=str((root / "reports" / f"{stage.replace('@', '_')}.run.json").absolute()),
    )


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


def _origin(stage: str, root: Path) -> dict[str, str]:
    """Where a run comes from; what can not be known is left out."""
    tags = {
        "stage": stage,
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
