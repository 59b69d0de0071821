"""What made a run: settings, the code's revision, the hashes of what was read."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wsss.artifacts import write_json
from wsss.tracking._base import now

__all__ = [
    "Dataset",
    "RunStart",
    "flatten",
    "origin_tags",
    "run_record",
    "run_start",
    "write_record",
]

# written by the pipeline itself, so they say nothing about the code and settings of a run
_WRITTEN = (":(top,exclude)dvc.lock", ":(top,exclude)reports")


@dataclass(frozen=True)
class Dataset:
    """Images that a run read, as MLflow's Dataset column names them.

    Attributes:
        name: of the data set, such as "pascal_voc".
        digest: a hash of its contents.
        context: what it was for, such as "training".
    """

    name: str
    digest: str
    context: str


@dataclass(frozen=True)
class RunStart:
    """All that has to be known to start a run, as plain values.

    Attributes:
        stage: its name in dvc.yaml; "" of what is no stage.
        uri: where MLflow is.
        experiment: MLflow's name for the runs that this one is listed with.
        name: of the run.
        settings: all that the run depends on, named as in params.yaml.
        key: a hash of settings, inputs and code: an interrupted run resumes if it is the same, and
            a result that DVC restores belongs to the run of its key.
        tags: further tags.
        datasets: the images that were read.
        record: the file that remembers the run's id; "" for none.
        began: when, in milliseconds since 1970; 0 for when MLflow hears of it.
    """

    stage: str
    uri: str
    experiment: str
    name: str
    settings: dict[str, str]
    key: str
    tags: dict[str, str] = field(default_factory=dict)
    datasets: Sequence[Dataset] = ()
    record: str = ""
    began: int = 0

    @classmethod
    def from_json(cls, text: str) -> "RunStart":
        """Read what `json.dumps(asdict(start))` wrote."""
        values = json.loads(text)
        datasets = [Dataset(**dataset) for dataset in values.pop("datasets")]
        return cls(**values, datasets=tuple(datasets))

    def remember(self, run_id: str, status: str) -> None:
        """Write into the record which run this is, and how far it is known to be.

        Args:
            run_id: MLflow's.
            status: "running" or "killed" of one that goes on when the same starts again; "finished"
                or "failed" of one that does not.
        """
        if self.record:
            write_record(Path(self.record), run_id, self.key, status)


def write_record(record: Path, run_id: str, key: str, status: str) -> None:
    """Write down which run is that of a key, and how far it is; see `RunStart.remember`."""
    write_json(record, {"run_id": run_id, "key": key, "status": status})


def run_start(
    stage: str,
    root: Path,
    uri: str,
    experiment: str,
    settings: Mapping[str, Any],
    *,
    key: str,
    name: str = "",
    inputs: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    datasets: Sequence[Dataset] = (),
    description: str = "",
) -> RunStart:
    """Gather what `open_tracker` records; its arguments are explained there."""
    from wsss.artifacts import fingerprint  # whoever only asks where runs are need not wait

    every_tag = {
        "stage": stage,
        "mlflow.source.name": stage,
        "mlflow.source.type": "LOCAL",
        **origin_tags(root),
        **{f"upstream.{path}": value for path, value in (inputs or {}).items()},
        "key": key,
        "params.sha": fingerprint(settings),
        "mlflow.note.content": description,
        **(tags or {}),
    }
    return RunStart(
        stage=stage,
        uri=uri,
        experiment=experiment,
        name=name or stage,
        settings=dict(flatten(settings)),
        key=key,
        tags={name: value for name, value in every_tag.items() if value},
        datasets=tuple(datasets),
        record=str(run_record(root, stage)),
        began=now(),
    )


def run_record(root: Path, stage: str) -> Path:
    """Name the file that remembers the run of a stage."""
    return (root / "reports" / f"{stage.replace('@', '_')}.run.json").absolute()


def flatten(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Name every value of a tree as params.yaml does, with lists of plain values kept whole.

    Example:
        >>> dict(flatten({"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}]}))
        {'a.b': '1', 'a.c': '[1, 2]', 'd.0.e': 'null'}
    """
    if isinstance(tree, list) and any(isinstance(item, dict | list) for item in tree):
        tree = {str(index): item for index, item in enumerate(tree)}
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{path}.{key}" if path else key)
    elif isinstance(tree, str) and tree:
        yield path, tree
    else:
        yield path, json.dumps(tree)


def origin_tags(root: Path) -> dict[str, str]:
    """Say where a run comes from; what cannot be known is left out."""
    tags = {
        "dvc.exp": os.environ.get("DVC_EXP_NAME", ""),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "wsss": _version("wsss"),
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
