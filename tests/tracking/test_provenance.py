"""What a run says about its origin."""

import subprocess
from pathlib import Path

import pytest
import yaml

from wsss.config.params import Params
from wsss.tracking import tracking_uri
from wsss.tracking.provenance import RunStart, flatten, run_start, stage_settings, upstream_hashes


def start(root: Path, params: Params, stage: str = "generate_cams", **tags: str) -> RunStart:
    return run_start(stage, params, root, ("data/cams",), tags, "sqlite:///nowhere.db")


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("stage", "section"),
    [
        ("prepare_data", "prepare_data"),
        ("train_segmenter", "train_segmenter"),
        ("evaluate_refined@crf", "evaluate"),
        ("evaluate_cams", "evaluate"),
    ],
)
def test_a_stage_records_its_own_section_and_the_rng_seed(stage: str, section: str) -> None:
    params = Params()
    assert stage_settings(stage, params) == {
        "base": {"rng_seed": params.base.rng_seed},
        section: getattr(params, section).model_dump(mode="json"),
    }


def test_teachers_are_recorded_by_name() -> None:
    assert stage_settings("train_teachers", Params())["train_teachers"] == {}
    params = Params.model_validate({"train_teachers": {"first": {"epochs": 3}}})
    flat = dict(flatten(stage_settings("train_teachers", params)))
    assert flat["train_teachers.first.epochs"] == "3"
    assert not any(key.startswith("train_classifier") for key in flat)


def test_a_refine_stage_records_its_own_chain_alone() -> None:
    chains = {"none": (), "crf": ({"name": "dense_crf", "n_iters": 7},)}
    params = Params.model_validate({"refine": {"chains": chains}})
    flat = dict(flatten(stage_settings("refine_cams@crf", params)))
    assert flat["refine.chains.crf.0.n_iters"] == "7"
    assert not any("none" in key for key in flat)
    assert dict(flatten(stage_settings("refine_cams@none", params)))["refine.chains.none"] == "[]"


def test_names_of_settings_are_those_of_params_yaml() -> None:
    flat = dict(flatten(stage_settings("train_classifier", Params())))
    assert flat["train_classifier.optimizer.lr"] == "0.01"
    assert flat["train_classifier.augment.long_side"] == "[256, 512]"
    assert flat["train_classifier.backbone.model_name"] == "resnet18"


def test_upstream_hashes_come_from_dvc_lock(tmp_path: Path) -> None:
    lock = {
        "stages": {
            "prepare_data": {
                "deps": [{"path": "raw.zip", "hash": "md5", "md5": "raw"}],
                "outs": [{"path": "data/images", "hash": "md5", "md5": "img.dir"}],
            },
            "classify": {"deps": [{"path": "data/images", "hash": "md5", "md5": "old.dir"}]},
        }
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    asked = ("data/images", "data/images/a.png", "raw.zip", "unknown")
    assert upstream_hashes(tmp_path, asked) == {
        "data/images": "img.dir",  # of what made it, not of what read it
        "data/images/a.png": "img.dir",
        "raw.zip": "raw",
    }
    (tmp_path / "dvc.lock").write_text("{ broken")
    assert upstream_hashes(tmp_path, asked) == {}


def test_revision_and_dirt_are_of_the_code_not_of_what_the_pipeline_writes(tmp_path: Path) -> None:
    assert "git.rev" not in start(tmp_path, Params()).tags  # no repository is no error
    git(tmp_path, "init")
    (tmp_path / "reports").mkdir()
    for name in ("params.yaml", "dvc.lock", "reports/evaluate_cams.json"):
        (tmp_path / name).write_text("a: 1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    for name in ("dvc.lock", "reports/evaluate_cams.json", "untracked"):
        (tmp_path / name).write_text("a: 2")
    tags = start(tmp_path, Params()).tags
    assert (tags["git.rev"], tags["git.dirty"]) == (git(tmp_path, "rev-parse", "HEAD"), "false")
    (tmp_path / "params.yaml").write_text("a: 2")
    assert start(tmp_path, Params()).tags["git.dirty"] == "true"


def test_key_changes_with_all_that_decides_a_result(tmp_path: Path) -> None:
    def key(params: Params, **tags: str) -> str:
        return start(tmp_path, params, **tags).key

    same = key(Params())
    machine = {"machine": {"experiment": "other", "num_workers": 3}, "base": {"recipe": "other"}}
    assert key(Params.model_validate(machine)) == same
    assert key(Params.model_validate({"predict_masks": {"flip": False}})) == same  # not its stage
    assert key(Params.model_validate({"generate_cams": {"flip": False}})) != same
    assert key(Params.model_validate({"base": {"rng_seed": 1}})) != same
    assert key(Params(), trial="3") != same
    lock = {"stages": {"s": {"outs": [{"path": "data/cams", "md5": "new"}]}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert key(Params()) != same


def test_runs_of_queued_experiments_go_to_the_real_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", "/real/project")
    assert tracking_uri(tmp_path) == "sqlite:////real/project/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert tracking_uri(tmp_path) == "http://host:5000"
