"""What a run says about its origin."""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

from wsss.tracking import Dataset
from wsss.tracking.provenance import RunStart, run_start


def start(root: Path, **given: object) -> RunStart:
    settings = {"a": {"lr": 0.1, "sizes": [1, 2]}, "b": []}
    return run_start("generate_cams", root, "sqlite:///x.db", "e", settings, key="k", **given)  # type: ignore[arg-type]


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_settings_are_named_as_in_params_yaml_and_told_apart_by_one_hash(tmp_path: Path) -> None:
    found = start(tmp_path)
    assert found.settings == {"a.lr": "0.1", "a.sizes": "[1, 2]", "b": "[]"}
    other = run_start("generate_cams", tmp_path, "u", "e", {"a": {"lr": 0.2}}, key="k")
    assert found.tags["params.sha"] != other.tags["params.sha"]
    assert found.tags["params.sha"] == start(tmp_path).tags["params.sha"]


def test_a_start_passes_between_processes(tmp_path: Path) -> None:
    found = start(tmp_path, datasets=[Dataset("große", "1", "training")], inputs={"a": "b"})
    assert RunStart.from_json(json.dumps(asdict(found))) == found
    assert found.tags["upstream.a"] == "b"


def test_revision_and_dirt_are_of_the_code_not_of_what_the_pipeline_writes(tmp_path: Path) -> None:
    assert "git.rev" not in start(tmp_path).tags  # no repository is no error
    git(tmp_path, "init")
    (tmp_path / "reports").mkdir()
    for name in ("params.yaml", "dvc.lock", "reports/evaluate_cams.json"):
        (tmp_path / name).write_text("a: 1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    for name in ("dvc.lock", "reports/evaluate_cams.json", "untracked"):
        (tmp_path / name).write_text("a: 2")
    tags = start(tmp_path).tags
    assert (tags["git.rev"], tags["git.dirty"]) == (git(tmp_path, "rev-parse", "HEAD"), "false")
    (tmp_path / "params.yaml").write_text("a: 2")
    assert start(tmp_path).tags["git.dirty"] == "true"
