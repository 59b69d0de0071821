"""Reports that do not belong to what is beside them, in a small project that DVC ran."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from wsss.pipeline.lock import committed, folder_md5, workspace
from wsss.sources import write_listing

STAGES = {
    "list_sources": {
        "cmd": f"{sys.executable} -m wsss.sources",
        "outs": [{"data/sources": {"persist": True}}],
        "always_changed": True,
    },
    "prepare": {
        "cmd": f"{sys.executable} src/code/run.py prepare data/images",
        "deps": ["data/sources/prepare.json", "src/code"],
        "params": ["prepare"],
        "outs": ["data/images"],
        "metrics": [{"reports/prepare.json": {"cache": False}}],
    },
    "score": {
        "foreach": "${chains}",
        "do": {
            "cmd": f"{sys.executable} src/code/run.py score_${{key}} data/scored/${{key}}",
            "deps": ["data/images", "src/code"],
            "params": ["chains.${key}"],
            "outs": ["data/scored/${key}"],
            "metrics": [{"reports/score_${key}.json": {"cache": False}}],
        },
    },
    "choose": {  # what several stages have made in one folder
        "cmd": f"{sys.executable} src/code/run.py choose data/chosen",
        "deps": ["data/scored"],
        "outs": ["data/chosen"],
        "metrics": [{"reports/choose.json": {"cache": False}}],
    },
}
ALL = ["choose", "prepare", "score_crf", "score_none"]
CODE = """\
import json, pathlib, sys, yaml
name, out = sys.argv[1:]
params = yaml.safe_load(open("params.yaml"))
pathlib.Path(out).mkdir(parents=True)
pathlib.Path(out, "a").write_text(str(params["prepare"]))
pathlib.Path("reports").mkdir(exist_ok=True)
pathlib.Path("reports", name + ".json").write_text(json.dumps({"score": 0.5}))
"""


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(root: Path, params: dict[str, object]) -> None:
    (root / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after `dvc repro`, all committed."""
    root = tmp_path_factory.mktemp("made") / "project"
    (root / "src/code/deep").mkdir(parents=True)
    (root / "src/code/run.py").write_text(CODE)
    (root / "src/code/deep/part.py").write_text("")
    (root.parent / "photos").mkdir()
    (root.parent / "photos/a.jpg").write_text("1")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    write(
        root,
        {
            "prepare": {"dataset": {"root": str(root.parent / "photos"), "size": [1, 2]}},
            "chains": {"crf": [{"sigma": 3}], "none": []},
        },
    )
    for command in ("git init -q", "dvc init -q", "dvc repro -q", "git add -A"):
        subprocess.run(command.split(), cwd=root, check=True, capture_output=True)
    git(root, "commit", "-qm", "all")
    return root


@pytest.fixture
def project(made: Path) -> Path:
    """As it was made; a test may change anything that git has."""
    git(made, "reset", "-q", "--hard", "HEAD")
    git(made, "clean", "-qfd", "reports")
    (made.parent / "photos/a.jpg").write_text("1")
    return made


def params(root: Path) -> dict[str, dict]:
    return yaml.safe_load((root / "params.yaml").read_text())


def test_what_dvc_made_is_all_its_own(project: Path) -> None:
    for snapshot in (workspace(project), committed(project, "HEAD")):
        assert snapshot.strangers() == {}
        assert sorted(snapshot.reports()) == ALL


def test_a_report_of_other_settings_is_a_stranger_and_so_is_all_that_follows(
    project: Path,
) -> None:
    values = params(project)
    values["prepare"]["dataset"]["size"] = [1, 3]
    write(project, values)
    found = workspace(project).strangers()
    assert sorted(found) == ALL
    assert set(found.values()) == {"prepare.dataset.size of params.yaml is another"}
    assert committed(project, "HEAD").strangers() == {}
    git(project, "commit", "-qam", "settings that were never run")
    assert sorted(committed(project, "HEAD").strangers()) == sorted(found)
    git(project, "reset", "-q", "--hard", "HEAD~1")


def test_one_chain_changed_leaves_the_others(project: Path) -> None:
    values = params(project)
    values["chains"]["crf"][0]["sigma"] = 4
    write(project, values)
    assert sorted(workspace(project).strangers()) == ["choose", "score_crf"]


def test_a_report_of_a_chain_that_is_gone_is_a_stranger(project: Path) -> None:
    values = params(project)
    del values["chains"]["crf"]
    write(project, values)
    assert workspace(project).strangers() == {
        "choose": "score@crf does not run with these settings",
        "score_crf": "score@crf does not run with these settings",
    }


def test_a_report_of_other_code_is_a_stranger(project: Path) -> None:
    (project / "src/code/__pycache__").mkdir(exist_ok=True)
    (project / "src/code/__pycache__/x.pyc").write_text("no code")
    assert workspace(project).strangers() == {}
    (project / "src/code/deep/part.py").write_text("x = 1\n")
    assert sorted(workspace(project).strangers()) == [
        "choose",
        "prepare",
        "score_crf",
        "score_none",
    ]


def test_a_report_of_data_that_have_grown_is_a_stranger(project: Path) -> None:
    (project.parent / "photos/b.jpg").write_text("2")
    found = workspace(project).strangers()
    assert sorted(found) == ALL
    assert set(found.values()) == {"the files that prepare names have changed"}
    (project.parent / "photos/b.jpg").unlink()
    assert workspace(project).strangers() == {}


def test_a_report_that_another_hand_wrote_is_a_stranger(project: Path) -> None:
    (project / "reports/score_crf.json").write_text(json.dumps({"score": 1.0}))
    (project / "reports/mine.json").write_text(json.dumps({"score": 1.0}))
    found = workspace(project).strangers()
    assert found.pop("choose") == found["score_crf"]  # which it follows
    assert found == {
        "mine": "dvc.lock does not know it",
        "score_crf": "reports/score_crf.json is not the one that `dvc repro` made",
    }


def test_a_folder_is_hashed_as_dvc_hashes_it(tmp_path: Path) -> None:
    for name in ("b.json", "sub/c", "sub-part/d", "a"):  # "-" comes before "/"
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(name)
    for command in ("git init -q", "dvc init -q", "dvc add -q model"):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    known = yaml.safe_load((tmp_path / "model.dvc").read_text())["outs"][0]
    assert folder_md5(tmp_path / "model") == known["md5"]


def test_the_lock_knows_what_a_stage_has_read(project: Path) -> None:
    lock = workspace(project)
    assert lock.dependencies("score@crf").keys() == {"data/images", "src/code"}
    assert lock.dependencies("score@crf")["data/images"] == folder_md5(project / "data/images")
    assert lock.dependencies("score@gone") == {}


def test_without_dvc_lock_nothing_is_known_of_any_report(project: Path) -> None:
    (project / "dvc.lock").unlink()
    assert sorted(workspace(project).strangers()) == [
        "choose",
        "prepare",
        "score_crf",
        "score_none",
    ]


def test_old_data_do_not_come_back_from_the_run_cache(project: Path) -> None:
    """The folder grows while other settings are run; back at the first, the new image is there."""
    first = params(project)
    values = params(project)
    values["prepare"]["dataset"]["size"] = [5]
    write(project, values)
    subprocess.run(["dvc", "repro", "-q", "prepare"], cwd=project, check=True)
    listing = project / "data/sources/prepare.json"
    assert json.loads(listing.read_text())["prepare.dataset.root"]["files"] == 1
    (project.parent / "photos/b.jpg").write_text("2")
    write(project, first)
    done = subprocess.run(
        ["dvc", "repro", "prepare"], cwd=project, check=True, capture_output=True, text=True
    )
    assert "Running stage 'prepare'" in done.stdout
    assert json.loads(listing.read_text())["prepare.dataset.root"]["files"] == 2
    (project.parent / "photos/b.jpg").unlink()
    write_listing(project)
